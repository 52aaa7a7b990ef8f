//! The soak's load and faults, for a short time and with small blobs.
#![forbid(unsafe_code)]
#![allow(dead_code, reason = "some of it is the program's alone")]

macro_rules! modules {
    ($($path:literal $name:ident),* $(,)?) => { $(#[path = $path] mod $name;)* };
}

modules! {
    "../examples/soak/chaos.rs" chaos,
    "../examples/soak/client.rs" client,
    "../examples/soak/load.rs" load,
    "../examples/soak/report.rs" report,
    "../examples/soak/soak.rs" soak,
    "../examples/soak/verdict.rs" verdict,
}

use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn no_push_comes_out_wrong_and_nothing_is_left_behind() {
    let plan = soak::Plan {
        blobgate: env!("CARGO_BIN_EXE_blobgate").into(),
        threads: None,
        time: Duration::from_secs(12),
        clients: 12,
        seed: 1,
        sizes: load::Sizes::SMALL,
    };
    let report = soak::run(&plan).await.unwrap();
    println!("{report}");
    assert_eq!(report.verdict(), Ok(()));
}

//! Runs the unit tests inside the push tool's modules. Cargo would run them for an example too, but
//! then no longer builds its program for `cargo test`, which `tests/push_tool` needs.
#![forbid(unsafe_code)]
#![allow(
    dead_code,
    reason = "nothing but the tests in these modules is used here"
)]

macro_rules! modules {
    ($($path:literal $name:ident),* $(,)?) => { $(#[path = $path] mod $name;)* };
}

modules! {
    "../examples/push/args.rs" args,
    "../examples/push/auth/mod.rs" auth,
    "../examples/push/blob.rs" blob,
    "../examples/push/body.rs" body,
    "../examples/push/endpoint.rs" endpoint,
    "../examples/push/failure.rs" failure,
    "../examples/push/http_client.rs" http_client,
    "../examples/push/layout/mod.rs" layout,
    "../examples/push/progress.rs" progress,
    "../examples/push/registry.rs" registry,
    "../examples/push/report.rs" report,
    "../examples/push/retry.rs" retry,
    "../examples/push/source.rs" source,
}

//! One GiB, as a layer may be: refused, and there already.

use crate::bench::{Bench, send};
use crate::common::pushes;
use crate::tool::{Announce, Tool, Wire, sparse_file};
use blobgate_testkit::tls::Identity;
use sha2::{Digest, Sha256};

const SIZE: u64 = 1 << 30;

const CLIENTS: [(Tool, Wire); 6] = [
    (Tool::Go, Wire::Http1),
    (Tool::Curl, Wire::Http1),
    (Tool::Python, Wire::Http1),
    (Tool::Go, Wire::Http2Tls),
    (Tool::Curl, Wire::Http2Tls),
    (Tool::Python, Wire::Http1Tls),
];

fn digest() -> String {
    let zeros = vec![0; 1 << 20];
    let mut hasher = Sha256::new();
    (0..SIZE >> 20).for_each(|_| hasher.update(&zeros));
    format!("sha256:{:x}", hasher.finalize())
}

#[tokio::test]
async fn a_gibibyte_that_is_refused_and_one_that_is_there_already() {
    let dir = tempfile::tempdir().unwrap();
    let files = Identity::new(&["127.0.0.1"]).save(dir.path()).unwrap();
    let file = dir.path().join("body");
    sparse_file(&file, SIZE);
    let digest = digest();
    for tls in [None, Some(&files)] {
        let bench = Bench::start(tls, |stack| {
            stack
                .registry(|registry| registry.users = vec![("alice".into(), "right".into())])
                .config("upload.part_size", "16MiB")
        });
        let first = CLIENTS[if tls.is_some() { 3 } else { 0 }];
        let push = |tool: Tool, wire: Wire, password: &str, status: u16| {
            let mut sending = bench.push(&digest, &file, Announce::Length);
            sending.user = Some(("alice", password));
            let seen = send(tool, wire, &sending);
            let what = format!("{tool:?} {wire:?} {password:?}: {seen:#?}");
            assert_eq!(seen.status, status, "{what}");
            assert_eq!((&seen.error, &seen.next_error), (&None, &None), "{what}");
            // It names no user.
            assert_eq!(seen.next_status, 401, "{what}");
            assert!(
                seen.next_reused || status != 201 && wire != Wire::Http2Tls,
                "{what}"
            );
        };
        push(first.0, first.1, "right", 201);
        assert_eq!(pushes(&bench.stack, "stored"), 1.0);
        for (tool, wire) in CLIENTS {
            if wire.is_tls() == bench.has_tls() {
                push(tool, wire, "wrong", 401);
                push(tool, wire, "right", 201);
            }
        }
        assert_eq!(pushes(&bench.stack, "refused"), 3.0);
        assert_eq!(pushes(&bench.stack, "existing"), 3.0);
    }
}

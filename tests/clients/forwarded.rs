//! Requests that the registry answers: it may do so early, and it may die, and the client sees as
//! much of it as without blobgate in between.

use crate::bench::{Bench, send};
use crate::common::MIB;
use crate::tool::{Announce, SIZE, Sending, all, body_file};
use blobgate_testkit::faults::{Fault, Rule};
use blobgate_testkit::tls::Identity;
use std::path::Path;

const UPLOAD: &str = "/v2/a/blobs/uploads/00000000-0000-4000-8000-000000000000";

fn patch<'a>(bench: &Bench, file: &'a Path, announce: Announce) -> Sending<'a> {
    Sending {
        method: "PATCH",
        path: UPLOAD.to_owned(),
        ..bench.push("", file, announce)
    }
}

#[tokio::test]
async fn a_registry_that_answers_early_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let files = Identity::new(&["127.0.0.1"]).save(dir.path()).unwrap();
    let file = dir.path().join("body");
    body_file(&file, SIZE);
    for tls in [None, Some(&files)] {
        let bench = Bench::start(tls, |stack| {
            stack.registry(|registry| registry.users = vec![("alice".into(), "right".into())])
        });
        for (tool, wire, announce) in all() {
            if wire.is_tls() != bench.has_tls() {
                continue;
            }
            let mut sending = patch(&bench, &file, announce);
            sending.user = Some(("alice", "wrong"));
            let seen = send(tool, wire, &sending);
            let what = format!("{tool:?} {wire:?} {announce:?}: {seen:#?}");
            assert_eq!(seen.status, 401, "{what}");
            assert_eq!(seen.code, "UNAUTHORIZED", "{what}");
            assert_eq!((seen.error, seen.next_error), (None, None), "{what}");
            assert_eq!(seen.next_status, 401, "{what}");
        }
        let log = bench.stack.registry().log();
        assert!(!log.contains("smuggled"), "a body was taken for a request");
    }
}

#[tokio::test]
async fn a_registry_that_dies_in_the_middle_is_502() {
    let dir = tempfile::tempdir().unwrap();
    let files = Identity::new(&["127.0.0.1"]).save(dir.path()).unwrap();
    let file = dir.path().join("body");
    body_file(&file, SIZE);
    for tls in [None, Some(&files)] {
        let bench = Bench::start(tls, |stack| stack.registry_faults());
        let dies = Rule::on("PATCH", Fault::ResetAfter(5 * MIB));
        bench.stack.registry_faults().add(dies);
        for (tool, wire, announce) in all() {
            if wire.is_tls() != bench.has_tls() {
                continue;
            }
            let seen = send(tool, wire, &patch(&bench, &file, announce));
            let what = format!("{tool:?} {wire:?} {announce:?}: {seen:#?}");
            assert_eq!(seen.status, 502, "{what}");
            assert_eq!(seen.code, "UNAVAILABLE", "{what}");
            assert_eq!((seen.error, seen.next_error), (None, None), "{what}");
            assert_eq!(seen.next_status, 200, "{what}");
        }
    }
}

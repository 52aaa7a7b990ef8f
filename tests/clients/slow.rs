//! A client that sends too slowly, and still reads: it must see why it is cut off.

use crate::bench::Bench;
use crate::common::{MIB, assert_all_free, assert_bucket_empty};
use crate::tool::{Announce, Wire, body_file};
use blobgate_testkit::tls::Identity;
use std::process::Command;

const SIZE: u64 = 48 * MIB;

/// Only curl can be told to send slowly.
#[tokio::test]
async fn a_slow_curl_sees_its_408() {
    let dir = tempfile::tempdir().unwrap();
    let files = Identity::new(&["127.0.0.1"]).save(dir.path()).unwrap();
    let file = dir.path().join("body");
    let digest = body_file(&file, SIZE);
    for tls in [None, Some(&files)] {
        let bench = Bench::start(tls, |stack| {
            stack
                .config("upload.min_rate", "100MiB")
                .config("upload.min_rate_window", "1s")
        });
        let wires = [Wire::Http1, Wire::Http1Tls, Wire::Http2Tls].into_iter();
        for wire in wires.filter(|wire| wire.is_tls() == bench.has_tls()) {
            let push = bench.push(&digest, &file, Announce::Length);
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--noproxy", "*"])
                .args(["--limit-rate", "2M", "--write-out", "\\n%{http_code}"])
                .arg(if wire == Wire::Http2Tls {
                    "--http2"
                } else {
                    "--http1.1"
                })
                .arg("--cacert")
                .arg(&files.ca)
                .arg("--upload-file")
                .arg(&file)
                .arg(format!("{}{}", push.base, push.path));
            let output = curl.output().expect("curl runs");
            let seen = String::from_utf8_lossy(&output.stdout);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(seen.ends_with("\n408"), "{wire:?}: {seen} {said}");
            assert!(seen.contains("BLOB_UPLOAD_INVALID"), "{wire:?}: {seen}");
            assert_all_free(&bench.stack);
        }
        let aborts = wires_of(&bench);
        let faults = bench.stack.s3_faults();
        faults.finished("AbortMultipartUpload", aborts).await;
        assert_bucket_empty(&bench.stack);
    }
}

fn wires_of(bench: &Bench) -> u64 {
    if bench.has_tls() { 2 } else { 1 }
}

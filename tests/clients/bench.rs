//! The same stack twice, behind plain HTTP and behind TLS, with a body to send to it.

use crate::common;
use crate::tool::{Announce, PATIENCE, SIZE, Seen, Sending, Tool, Wire, all, body_file};
use blobgate_testkit::stack::{Stack, StackBuilder};
use blobgate_testkit::tls::{Files, Identity};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub struct Bench {
    pub stack: Stack,
    /// Where blobgate listens with TLS, the authority to trust.
    ca: Option<PathBuf>,
}

impl Bench {
    pub fn start(tls: Option<&Files>, edit: impl FnOnce(StackBuilder) -> StackBuilder) -> Self {
        let mut builder = edit(common::stack());
        if let Some(files) = tls {
            let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
            builder = builder
                .config("listen.tls.certificate", path(&files.certificate))
                .config("listen.tls.key", path(&files.key));
        }
        let stack = builder.start().expect("a stack");
        let ca = tls.map(|files| files.ca.clone());
        Self { stack, ca }
    }

    pub fn base(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.stack.blobgate().address())
    }

    /// A push as it is, to be changed where a test wants another.
    pub fn push<'a>(&self, digest: &str, file: &'a Path, announce: Announce) -> Sending<'a> {
        Sending {
            base: self.base(),
            ca: self.ca.clone(),
            method: "PUT",
            path: format!("/v2/a/blobs/{digest}"),
            file,
            announce,
            user: None,
        }
    }

    /// How many requests were taken for something to forward.
    pub fn forwarded(&self) -> f64 {
        let metrics = self.stack.blobgate().metrics().expect("metrics");
        metrics
            .iter()
            .filter(|(name, _)| name.starts_with("blobgate_forwarded_requests_total"))
            .map(|(_, count)| count)
            .sum()
    }

    pub fn has_tls(&self) -> bool {
        self.ca.is_some()
    }
}

/// What every client is to see.
pub struct Expected {
    pub status: u16,
    pub code: &'static str,
    /// Whether it is clear before the first byte of the body.
    pub early: bool,
    /// Of the next request.
    pub next: u16,
    /// Whether an HTTP/1.1 connection is kept, by announcement. An HTTP/2 connection always is.
    pub kept: fn(Announce) -> bool,
}

/// Lets every client push the same body to a stack like this, over plain HTTP and over TLS.
pub async fn every_client(
    expected: &Expected,
    edit: impl Fn(StackBuilder) -> StackBuilder,
    prepare: impl AsyncFn(&Bench),
    change: impl Fn(&mut Sending<'_>),
) {
    let dir = tempfile::tempdir().expect("a directory");
    let files = Identity::new(&["localhost", "127.0.0.1"])
        .save(dir.path())
        .expect("a certificate's files");
    let file = dir.path().join("body");
    let digest = body_file(&file, SIZE);
    for bench in [Bench::start(None, &edit), Bench::start(Some(&files), &edit)] {
        prepare(&bench).await;
        let runs = all()
            .into_iter()
            .filter(|(_, wire, _)| wire.is_tls() == bench.has_tls());
        for (tool, wire, announce) in runs {
            let before = bench.forwarded();
            let mut sending = bench.push(&digest, &file, announce);
            change(&mut sending);
            let began = Instant::now();
            let seen = send(tool, wire, &sending);
            let took = began.elapsed();
            let what = format!("{tool:?} {wire:?} {announce:?}: {seen:#?}");
            check(expected, wire, announce, &seen, &what);
            if expected.early && announce == Announce::Expect {
                assert!(took < PATIENCE, "it waited {took:?} for its answer: {what}");
            }
            assert_eq!(bench.forwarded() - before, 1.0, "one more request: {what}");
        }
        let log = bench.stack.registry().log();
        assert!(!log.contains("smuggled"), "a body was taken for a request");
    }
}

fn check(expected: &Expected, wire: Wire, announce: Announce, seen: &Seen, what: &str) {
    assert_eq!(seen.status, expected.status, "{what}");
    assert_eq!(seen.code, expected.code, "{what}");
    assert_eq!(seen.proto, wire.proto(), "{what}");
    assert_eq!(seen.error, None, "{what}");
    assert_eq!(seen.next_error, None, "{what}");
    assert_eq!(seen.next_status, expected.next, "{what}");
    if wire == Wire::Http2Tls || (expected.kept)(announce) {
        assert!(seen.next_reused, "the connection was not kept: {what}");
    }
}

/// Sends it and says how long that took, for a reader of a test's output.
pub fn send(tool: Tool, wire: Wire, sending: &Sending<'_>) -> Seen {
    let began = Instant::now();
    let seen = tool.send(wire, sending);
    let (announce, took) = (sending.announce, began.elapsed());
    println!(
        "{tool:?} {wire:?} {announce:?}: {} after {took:.2?}",
        seen.status
    );
    seen
}

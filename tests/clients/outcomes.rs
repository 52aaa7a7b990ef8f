//! Every way a push can end before its body does, and those that end after it.

use crate::bench::{Expected, every_client};
use crate::tool::{Announce, SIZE, Tool, Wire, body_file};
use blobgate_testkit::blob::sha256;
use blobgate_testkit::faults::{Fault, Rule};
use std::net::TcpListener;

fn never(_: Announce) -> bool {
    false
}

fn always(_: Announce) -> bool {
    true
}

#[tokio::test]
async fn a_refused_login() {
    let expected = Expected {
        status: 401,
        code: "UNAUTHORIZED",
        early: true,
        next: 401,
        kept: never,
    };
    every_client(
        &expected,
        |stack| stack.registry(|registry| registry.users = vec![("alice".into(), "right".into())]),
        async |_| {},
        |sending| sending.user = Some(("alice", "wrong")),
    )
    .await;
}

#[tokio::test]
async fn a_blob_too_long() {
    let expected = Expected {
        status: 413,
        code: "SIZE_INVALID",
        early: true,
        next: 200,
        kept: never,
    };
    every_client(
        &expected,
        |stack| stack.config("upload.max_blob_size", "12MiB"),
        async |_| {},
        |_| {},
    )
    .await;
}

#[tokio::test]
async fn a_bad_digest_in_the_path() {
    let expected = Expected {
        status: 400,
        code: "DIGEST_INVALID",
        early: true,
        next: 200,
        kept: never,
    };
    every_client(
        &expected,
        |stack| stack,
        async |_| {},
        |sending| sending.path = "/v2/a/blobs/sha256:abc".to_owned(),
    )
    .await;
}

#[tokio::test]
async fn a_registry_in_maintenance() {
    let expected = Expected {
        status: 405,
        code: "",
        early: true,
        next: 200,
        kept: never,
    };
    every_client(
        &expected,
        |stack| stack.registry(|registry| registry.read_only = true),
        async |_| {},
        |_| {},
    )
    .await;
}

#[tokio::test]
async fn an_upstream_that_is_gone() {
    let expected = Expected {
        status: 503,
        code: "UNAVAILABLE",
        early: true,
        next: 502,
        kept: never,
    };
    every_client(
        &expected,
        |stack| stack.registry_faults(),
        async |bench| {
            let nobody = TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap();
            bench.stack.registry_faults().set_upstream(nobody);
        },
        |_| {},
    )
    .await;
}

#[tokio::test]
async fn a_blob_that_is_there_already() {
    let expected = Expected {
        status: 201,
        code: "",
        early: false,
        next: 200,
        // Who waits is told without sending, and then the connection is closed.
        kept: |announce| matches!(announce, Announce::Length | Announce::Chunked),
    };
    every_client(
        &expected,
        |stack| stack,
        async |bench| {
            // The first of the pushes: any client will do.
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("body");
            let digest = body_file(&file, SIZE);
            let wire = if bench.has_tls() {
                Wire::Http1Tls
            } else {
                Wire::Http1
            };
            let seen = Tool::Curl.send(wire, &bench.push(&digest, &file, Announce::Length));
            assert_eq!(seen.status, 201, "{seen:?}");
        },
        |_| {},
    )
    .await;
}

#[tokio::test]
async fn a_wrong_digest() {
    let expected = Expected {
        status: 400,
        code: "DIGEST_INVALID",
        early: false,
        next: 200,
        // The whole body was read.
        kept: always,
    };
    every_client(
        &expected,
        |stack| stack,
        async |_| {},
        |sending| sending.path = format!("/v2/a/blobs/{}", sha256("another")),
    )
    .await;
}

#[tokio::test]
async fn a_store_that_fails_in_the_middle() {
    let expected = Expected {
        status: 500,
        code: "UNKNOWN",
        early: false,
        next: 200,
        kept: never,
    };
    every_client(
        &expected,
        |stack| stack,
        async |bench| {
            let denied = Fault::Status {
                status: 403,
                code: "AccessDenied".to_owned(),
            };
            let rule = Rule::on("UploadPart", denied).target("partNumber=2");
            bench.stack.s3_faults().add(rule);
        },
        |_| {},
    )
    .await;
}

//! SIGTERM, SIGINT and `kill -9` at every moment of a request's life, and what is left behind.

#[path = "../common/mod.rs"]
mod common;
mod handover;
mod phases;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::faults::{Fault, Gate, Rule};
use blobgate_testkit::stack::{Stack, StackBuilder};
use blobgate_testkit::tls::Identity;
use common::*;
use phases::{Phase, Push, REPOSITORY, SOON, Scene};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// One slot, so that a second push must wait; longest blob 64 MiB; a grace period that no test
/// outlives.
fn one_slot() -> StackBuilder {
    stack()
        .registry_faults()
        .config("upload.max_streaming", 1)
        .config("upload.max_blob_size", "64MiB")
        .config("grace_period", "10m")
}

/// Waits until blobgate has been told to stop and its listener is closed.
fn until_stopping(stack: &Stack) {
    stack
        .blobgate()
        .wait_for_log("stopping:", SOON)
        .expect("blobgate does not stop");
}

fn assert_ends_well(stack: &Stack, phase: impl std::fmt::Debug) {
    let status = stack.blobgate().wait(SOON);
    let status = status.unwrap_or_else(|| {
        panic!(
            "{phase:?}: does not end; its log:\n{}",
            stack.blobgate().log()
        )
    });
    assert_eq!(status.code(), Some(0), "{phase:?}: {status}");
}

/// The process that was restarted takes every push that was cut off.
async fn assert_pushes_succeed(stack: &Stack, scene: &Scene) {
    for push in &scene.pushes {
        let answer = stream(stack, REPOSITORY, push.blob, true).await;
        assert_eq!(answer.status(), 201);
        assert_served(stack, REPOSITORY, &push.blob.sha256(), &push.blob.bytes()).await;
    }
}

async fn restart(stack: &mut Stack) {
    stack.s3_faults().clear();
    stack.registry_faults().clear();
    stack.restart_blobgate(|config| config).unwrap();
}

#[tokio::test]
async fn sigterm_lets_everything_in_flight_finish_and_takes_nothing_new() {
    for phase in Phase::ALL {
        let stack = one_slot().start().unwrap();
        let mut scene = Scene::enter(&stack, phase).await;
        stack.blobgate().terminate();
        until_stopping(&stack);

        // Nobody waits for these: a connection without a request, and what an answered client goes
        // on to send.
        if matches!(phase, Phase::Idle | Phase::Drain) {
            let other = scene.other.as_mut().unwrap();
            assert!(other.ended().await.unwrap(), "{phase:?}: not closed");
            assert_ends_well(&stack, phase);
            continue;
        }
        let refused = TcpStream::connect(stack.blobgate().address()).await;
        let kind = refused.map(drop).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::ConnectionRefused), "{phase:?}");
        let ready = format!("{}/readyz", stack.blobgate().admin_url());
        let ready = client().get(ready).send().await.unwrap();
        assert_eq!(ready.status(), 503, "{phase:?}");
        let said = ready.text().await.unwrap();
        assert!(said.contains("\"why\":\"draining\""), "{said}");
        assert_eq!(stack.blobgate().wait(Duration::ZERO), None, "{phase:?}");

        scene.release();
        for push in &mut scene.pushes {
            let answer = push.finish().await;
            assert_eq!(answer.status, 201, "{phase:?}: {}", answer.text());
            assert_eq!(answer.header("connection"), Some("close"), "{phase:?}");
        }
        if let Some(forwarded) = &mut scene.other {
            let answer = forwarded.response().await.unwrap();
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("connection"), Some("close"));
        }
        assert_ends_well(&stack, phase);
        assert_no_uploads(&stack);
        for push in &scene.pushes {
            let data = stack.s3().read_object(BUCKET, &push.data_key());
            assert!(
                data.is_some_and(|data| data == push.blob.bytes()),
                "{phase:?}"
            );
        }
    }
}

#[tokio::test]
async fn sigint_is_quick_and_leaves_nothing() {
    for phase in Phase::ALL {
        let mut stack = one_slot().start().unwrap();
        let mut scene = Scene::enter(&stack, phase).await;
        assert_eq!(stack.s3().open_uploads(BUCKET).len(), phase.open_uploads());
        stack.blobgate().interrupt();
        for push in &mut scene.pushes {
            let answer = push.connection.response().await.unwrap();
            assert_eq!(answer.status, 503, "{phase:?}: {}", answer.text());
            assert!(answer.text().contains("shutting down"), "{}", answer.text());
        }
        assert_ends_well(&stack, phase);
        assert_bucket_empty(&stack);
        if let Some(other) = scene.other.as_mut() {
            assert!(other.ended().await.unwrap(), "{phase:?}");
        }

        restart(&mut stack).await;
        assert_pushes_succeed(&stack, &scene).await;
        assert_no_uploads(&stack);
    }
}

#[tokio::test]
async fn what_outlives_the_grace_period_is_aborted_before_the_process_ends() {
    for phase in [Phase::Admission, Phase::Parts, Phase::Complete] {
        let stack = one_slot().config("grace_period", "100ms").start().unwrap();
        let _scene = Scene::enter(&stack, phase).await;
        stack.blobgate().terminate();
        assert_ends_well(&stack, phase);
        assert_bucket_empty(&stack);
        let log = stack.blobgate().log();
        assert!(log.contains("did not finish in time"), "{log}");
    }
}

#[tokio::test]
async fn an_abort_that_takes_long_is_waited_for() {
    let stack = one_slot().start().unwrap();
    let _scene = Scene::enter(&stack, Phase::Parts).await;
    let gate = Gate::new();
    let hold = Rule::on("AbortMultipartUpload", Fault::HoldBefore(gate.clone()));
    stack.s3_faults().add(hold);
    stack.blobgate().interrupt();
    gate.reached(1).await;
    // Longer than the process gives its pushes to say farewell.
    assert_eq!(stack.blobgate().wait(Duration::from_secs(4)), None);
    gate.release();
    assert_ends_well(&stack, "abort");
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn a_second_signal_hastens() {
    let stack = one_slot().start().unwrap();
    let _scene = Scene::enter(&stack, Phase::Parts).await;
    stack.blobgate().terminate();
    until_stopping(&stack);
    stack.blobgate().terminate();
    assert_ends_well(&stack, Phase::Parts);
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn a_completion_that_took_effect_leaves_verified_data_to_be_linked() {
    let mut stack = one_slot().start().unwrap();
    let gate = Gate::new();
    let hold = Rule::on("CompleteMultipartUpload", Fault::HoldAfter(gate.clone()));
    stack.s3_faults().add(hold);
    let blob = Blob::new(1, 2 * PART + 7);
    let mut push = Push::begin(&stack, blob).await;
    push.send(blob.size as usize).await;
    gate.reached(1).await;
    stack.blobgate().interrupt();
    assert_eq!(push.connection.response().await.unwrap().status, 503);
    assert_ends_well(&stack, Phase::Complete);
    assert_no_uploads(&stack);
    let objects = stack.s3().objects(BUCKET);
    assert_eq!(objects, [(push.data_key(), blob.size)]);
    assert_absent(&stack, REPOSITORY, &blob.sha256()).await;

    restart(&mut stack).await;
    stack.s3().forget_calls();
    let answer = stream(&stack, REPOSITORY, blob, true).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(stack.s3().calls().get("UploadPart"), None);
    assert_served(&stack, REPOSITORY, &blob.sha256(), &blob.bytes()).await;
}

/// A push whose blob's data the bucket has: its bytes prove that the client has them too.
#[tokio::test]
async fn a_push_that_is_only_hashed_finishes_or_links_nothing() {
    let mut stack = one_slot().start().unwrap();
    let blob = Blob::new(1, 2 * PART + 7);
    assert_eq!(push(&stack, "other", blob).await.status(), 201);
    let begun = async |stack: &Stack| {
        let heads = stack.s3_faults().calls()["HeadObject"];
        let mut push = Push::begin(stack, blob).await;
        push.send(PART as usize).await;
        stack.s3_faults().finished("HeadObject", heads + 1).await;
        push
    };
    let mut interrupted = begun(&stack).await;
    stack.blobgate().interrupt();
    assert_eq!(interrupted.connection.response().await.unwrap().status, 503);
    assert_ends_well(&stack, "SIGINT");
    assert_absent(&stack, REPOSITORY, &blob.sha256()).await;

    restart(&mut stack).await;
    let mut finished = begun(&stack).await;
    stack.blobgate().terminate();
    until_stopping(&stack);
    assert_eq!(finished.finish().await.status, 201);
    assert_ends_well(&stack, "SIGTERM");
    assert_no_uploads(&stack);
    stack.restart_blobgate(|config| config).unwrap();
    assert_served(&stack, REPOSITORY, &blob.sha256(), &blob.bytes()).await;
}

#[tokio::test]
async fn kill_leaves_nothing_visible_and_the_sweep_removes_the_rest() {
    for phase in Phase::ALL {
        let mut stack = one_slot().config("sweep.interval", "1s").start().unwrap();
        let scene = Scene::enter(&stack, phase).await;
        stack.blobgate().kill();
        assert!(stack.blobgate().wait(SOON).is_some());
        assert_eq!(stack.s3().objects(BUCKET), [], "{phase:?}");
        let left = stack.s3().open_uploads(BUCKET);
        assert_eq!(left.len(), phase.open_uploads(), "{phase:?}: {left:?}");

        restart(&mut stack).await;
        assert_pushes_succeed(&stack, &scene).await;
        // Young, so that no pass of the sweep has touched it meanwhile.
        assert_eq!(stack.s3().open_uploads(BUCKET), left, "{phase:?}");
        for upload in &left {
            let day = Duration::from_secs(25 * 60 * 60);
            stack.s3().backdate_upload(BUCKET, &upload.upload_id, day);
        }
        if !left.is_empty() {
            stack.s3_faults().finished("AbortMultipartUpload", 1).await;
        }
        assert_no_uploads(&stack);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_over_http2_gets_its_201_after_sigterm() {
    let identity = Identity::new(&["127.0.0.1"]);
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, &identity.certificate).unwrap();
    std::fs::write(&key, &identity.key).unwrap();
    let stack = one_slot()
        .config("listen.tls.certificate", certificate.to_str().unwrap())
        .config("listen.tls.key", key.to_str().unwrap())
        .start()
        .unwrap();
    let blob = Blob::new(1, 2 * PART + 7);
    let (chunks, body) = mpsc::channel(1);
    let body = futures::stream::unfold(body, |mut body: mpsc::Receiver<_>| async {
        body.recv()
            .await
            .map(|chunk| (std::io::Result::Ok(chunk), body))
    });
    let authority = reqwest::Certificate::from_pem(identity.ca.as_bytes()).unwrap();
    let http2 = reqwest::Client::builder()
        .no_proxy()
        .add_root_certificate(authority)
        .build()
        .unwrap();
    let request = http2
        .put(blob_url(&stack, REPOSITORY, &blob.sha256()))
        .header("content-length", blob.size)
        .body(reqwest::Body::wrap_stream(body));
    let answer = tokio::spawn(request.send());
    let mut content = blob.chunks(100_000);
    chunks.send(content.next().unwrap()).await.unwrap();
    stack.s3_faults().finished("CreateMultipartUpload", 1).await;
    stack.blobgate().terminate();
    tokio::task::block_in_place(|| until_stopping(&stack));
    for chunk in content {
        chunks.send(chunk).await.unwrap();
    }
    drop(chunks);
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert_eq!(answer.status(), 201);
    tokio::task::block_in_place(|| assert_ends_well(&stack, "HTTP/2"));
    assert_no_uploads(&stack);
}

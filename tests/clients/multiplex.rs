//! Several requests on one HTTP/2 connection, none of which may hold up another.

use crate::bench::Bench;
use crate::common::{MIB, PART, assert_all_free, assert_no_uploads};
use crate::h2client::{Connection, Stream};
use blobgate_testkit::blob::Blob;
use blobgate_testkit::faults::{Fault, Gate, Rule};
use blobgate_testkit::stack::StackBuilder;
use blobgate_testkit::tls::Identity;
use futures::future::join_all;

/// Nearly all that flow control lets a client send of a body that is not read: the first connection
/// has a third of `listen.http2_memory` for a hundred such bodies.
const WINDOW: usize = 850 << 10;

async fn bench(edit: impl FnOnce(StackBuilder) -> StackBuilder) -> (Bench, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let files = Identity::new(&["localhost"]).save(dir.path()).unwrap();
    let bench = Bench::start(Some(&files), edit);
    let connection = Connection::open(bench.stack.blobgate().address(), &files.ca).await;
    (bench, connection)
}

fn path(blob: Blob) -> String {
    format!("/v2/a/blobs/{}", blob.sha256())
}

#[tokio::test]
async fn pushes_that_wait_unread_do_not_hold_up_the_one_they_wait_for() {
    let (bench, mut connection) = bench(|stack| stack.config("upload.max_streaming", 1)).await;
    let gate = Gate::new();
    let faults = bench.stack.s3_faults();
    faults.add(Rule::on("UploadPart", Fault::HoldBefore(gate.clone())));

    let blobs: Vec<Blob> = (0..10).map(|seed| Blob::new(seed, 2 * PART + 1)).collect();
    let mut first = connection.begin("PUT", &path(blobs[0])).await;
    let content = blobs[0].bytes();
    // A byte more than a part: only then is it known to be none of a single object.
    let begun = PART as usize + 1;
    first.send(content.slice(..begun), false).await;
    faults.arrived("UploadPart", 1).await;

    // The others send as much as they may, and none of it is read.
    let mut waiting: Vec<Stream> = Vec::new();
    for blob in &blobs[1..] {
        let mut push = connection.begin("PUT", &path(*blob)).await;
        push.send(blob.bytes().slice(..WINDOW), false).await;
        waiting.push(push);
    }
    assert_eq!(
        connection.get("/v2/").await,
        200,
        "nor do they hold up others"
    );

    gate.release();
    first.send(content.slice(begun..), true).await;
    assert_eq!(first.answer().await.0, 201);
    let rest = waiting
        .iter_mut()
        .zip(&blobs[1..])
        .map(async |(push, blob)| {
            push.send(blob.bytes().slice(WINDOW..), true).await;
            push.answer().await.0
        });
    assert_eq!(join_all(rest).await, [201; 9]);
    for blob in blobs {
        let registry = format!("{}{}", bench.stack.registry().url(), path(blob));
        let served = crate::common::client().get(registry).send().await.unwrap();
        assert!(served.bytes().await.unwrap() == blob.bytes());
    }
    assert_no_uploads(&bench.stack);
    assert_all_free(&bench.stack);
}

#[tokio::test]
async fn a_refused_client_that_goes_on_sending_is_read_beside_others() {
    let (bench, mut connection) = bench(|stack| stack.config("upload.max_blob_size", "6MiB")).await;
    let mut refused = connection.begin("PUT", &path(Blob::new(1, 1))).await;
    let chunk = Blob::new(2, MIB).bytes();
    for _ in 0..8 {
        refused.send(chunk.clone(), false).await;
    }
    let (status, text) = refused.answer().await;
    assert_eq!(status, 413, "{text}");
    // What follows is read and dropped, however little a client heeds its answer.
    for _ in 0..64 {
        refused.send(chunk.clone(), false).await;
    }
    let blob = Blob::new(3, PART);
    let mut push = connection.begin("PUT", &path(blob)).await;
    push.send(blob.bytes(), true).await;
    assert_eq!(push.answer().await.0, 201);
    // When nothing more comes, the stream is given up, and only that.
    assert_eq!(refused.reset().await, h2::Reason::NO_ERROR);
    assert_eq!(connection.get("/v2/").await, 200);
    assert_all_free(&bench.stack);
}

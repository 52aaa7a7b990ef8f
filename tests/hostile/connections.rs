//! Connections that are held for nothing.
//!
//! Where a bound is tried, every other one is set to a day: it alone can have ended the connection.

use super::*;
use blobgate_testkit::stack::StackBuilder;

const GET: &str = "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n";

fn patient() -> StackBuilder {
    stack()
        .config("listen.header_timeout", "1d")
        .config("listen.keepalive_timeout", "1d")
        .config("upstream.idle_timeout", "1d")
}

async fn used(stack: &Stack) -> RawConnection {
    let mut connection = connect(stack).await;
    connection.send(GET).await.unwrap();
    assert_eq!(connection.response().await.unwrap().status, 200);
    connection
}

/// What it hears when it begins a request's head and then sends its lines letter by letter.
async fn slowloris(mut connection: RawConnection) {
    connection.send("GET /v2/ HTTP/1.1\r\nX: ").await.unwrap();
    let answered = connection.dribble(b"x").await.unwrap();
    assert!(!answered, "an answer to half a head");
}

#[tokio::test]
async fn a_head_that_trickles_in_ends_the_connection() {
    let stack = patient()
        .config("listen.header_timeout", "500ms")
        .start()
        .unwrap();
    slowloris(connect(&stack).await).await;
    // One that never says a word.
    assert!(connect(&stack).await.ended().await.unwrap());
    // A body may take longer than a head.
    let blob = Blob::new(1, 1000);
    assert_eq!(push(&stack, "a", blob).await.status(), 201);
}

#[tokio::test]
async fn a_later_head_that_trickles_in_ends_the_connection() {
    let stack = patient()
        .config("listen.header_timeout", "500ms")
        .config("listen.keepalive_timeout", "1s")
        .start()
        .unwrap();
    slowloris(used(&stack).await).await;
    // The same after a push.
    let blob = Blob::new(1, 1000);
    let mut connection = connect(&stack).await;
    connection
        .send(announced_head("a", &blob.sha256(), blob.size))
        .await
        .unwrap();
    connection.send(blob.bytes()).await.unwrap();
    assert_eq!(connection.response().await.unwrap().status, 201);
    slowloris(connection).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let stack = patient()
        .config("listen.keepalive_timeout", "1s")
        .start()
        .unwrap();
    assert!(used(&stack).await.ended().await.unwrap());
}

/// A body may take as long as it likes while it comes: no bound on heads or idleness concerns it.
#[tokio::test]
async fn bounds_on_heads_do_not_end_bodies() {
    let stack = stack()
        .config("listen.header_timeout", "500ms")
        .config("listen.keepalive_timeout", "1s")
        .config("upload.min_rate", 0)
        .config("sweep.enabled", false)
        .config("upload.idle_timeout", "3s")
        .start()
        .unwrap();
    let blob = Blob::new(1, 1000);
    let mut connection = connect(&stack).await;
    connection
        .send(announced_head("a", &blob.sha256(), blob.size))
        .await
        .unwrap();
    // The stall's own bound, which is longer than both others, is the one that ends it.
    assert_refused(connection, 408, "BLOB_UPLOAD_INVALID", "a stall").await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_at_once() {
    let stack = patient()
        .config("listen.max_connections", 2)
        .start()
        .unwrap();
    let first = used(&stack).await;
    let mut second = used(&stack).await;
    let mut third = connect(&stack).await;
    // It may be closed before or while it says something.
    let _ = third.send(GET).await;
    assert_eq!(third.rest().await.unwrap(), b"");
    // The others are not concerned.
    second.send(GET).await.unwrap();
    assert_eq!(second.response().await.unwrap().status, 200);

    drop(first);
    // No event tells when blobgate has noticed.
    let served = async {
        loop {
            let mut next = connect(&stack).await;
            let _ = next.send(GET).await;
            if next
                .response()
                .await
                .is_ok_and(|answer| answer.status == 200)
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, served)
        .await
        .expect("a place that became free is given away");
}

/// Admin is a door of its own: whoever holds all connections cannot hide it.
#[tokio::test]
async fn metrics_are_there_when_no_connection_is_left() {
    let stack = patient()
        .config("listen.max_connections", 1)
        .start()
        .unwrap();
    let _held = used(&stack).await;
    assert_all_free(&stack);
}

//! HTTP/1's connections: which are kept, which are closed, and what is never taken for a request.

use crate::common::{BUCKET, PART, assert_bucket_empty, link_key, pushes, stack};
use blobgate_testkit::blob::Blob;
use blobgate_testkit::http::{RawConnection, RawResponse};
use blobgate_testkit::stack::Stack;

async fn open(stack: &Stack) -> RawConnection {
    RawConnection::open(stack.blobgate().address())
        .await
        .unwrap()
}

/// The header of a push; `version` and `headers` as a test wants them.
fn head(version: &str, blob: Blob, headers: &str) -> String {
    format!(
        "PUT /v2/a/blobs/{} {version}\r\nHost: x\r\n{headers}\r\n",
        blob.sha256()
    )
}

fn length(blob: Blob) -> String {
    format!("Content-Length: {}\r\n", blob.size)
}

async fn whole(connection: &mut RawConnection, head: String, body: &[u8]) -> RawResponse {
    connection.send(head).await.unwrap();
    connection.send(body).await.unwrap();
    connection.response().await.unwrap()
}

fn chunks(blob: Blob, trailers: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in blob.chunks(100_000) {
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(&chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    body
}

#[tokio::test]
async fn five_pushes_go_over_one_connection() {
    let stack = stack().start().unwrap();
    let mut connection = open(&stack).await;
    for seed in 0..5 {
        let blob = Blob::new(seed, 2 * PART + seed);
        let expects = seed % 2 == 1;
        let announced = seed % 3 != 2;
        let mut headers = String::new();
        if expects {
            headers += "Expect: 100-continue\r\n";
        }
        if announced {
            headers += &length(blob);
        } else {
            headers += "Transfer-Encoding: chunked\r\n";
        }
        connection
            .send(head("HTTP/1.1", blob, &headers))
            .await
            .unwrap();
        if expects {
            assert_eq!(connection.response().await.unwrap().status, 100);
        }
        let body = if announced {
            blob.bytes().to_vec()
        } else {
            chunks(blob, "")
        };
        connection.send(body).await.unwrap();
        let answer = connection.response().await.unwrap();
        assert_eq!(answer.status, 201, "push {seed}: {}", answer.text());
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    assert_eq!(pushes(&stack, "stored"), 5.0);
}

#[tokio::test]
async fn a_client_that_wants_the_connection_closed_gets_it_closed() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, PART + 1);
    let mut connection = open(&stack).await;
    let headers = format!("Connection: close\r\n{}", length(blob));
    let answer = whole(
        &mut connection,
        head("HTTP/1.1", blob, &headers),
        &blob.bytes(),
    )
    .await;
    assert_eq!(
        (answer.status, answer.header("connection")),
        (201, Some("close"))
    );
    assert!(connection.ended().await.unwrap());
    // The same of what is forwarded.
    let mut connection = open(&stack).await;
    let request = "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    connection.send(request).await.unwrap();
    let answer = connection.response().await.unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert!(connection.ended().await.unwrap());
}

#[tokio::test]
async fn http_1_0_is_understood() {
    let stack = stack().start().unwrap();
    // It knows no 100 Continue: none may come, and the body is sent at once.
    for (seed, expect) in ["", "Expect: 100-continue\r\n"].into_iter().enumerate() {
        let blob = Blob::new(seed as u64, PART + 1);
        let mut connection = open(&stack).await;
        let headers = format!("{expect}{}", length(blob));
        let answer = whole(
            &mut connection,
            head("HTTP/1.0", blob, &headers),
            &blob.bytes(),
        )
        .await;
        assert_eq!(answer.status, 201, "{expect:?}");
        assert!(connection.ended().await.unwrap());
    }
    let mut connection = open(&stack).await;
    for seed in [7, 8] {
        let blob = Blob::new(seed, PART + 1);
        let headers = format!("Connection: keep-alive\r\n{}", length(blob));
        let answer = whole(
            &mut connection,
            head("HTTP/1.0", blob, &headers),
            &blob.bytes(),
        )
        .await;
        assert_eq!(answer.status, 201, "kept where the client asks for it");
    }
}

#[tokio::test]
async fn trailers_end_a_body_and_are_no_request() {
    let stack = stack().start().unwrap();
    let mut connection = open(&stack).await;
    for seed in [1, 2] {
        let blob = Blob::new(seed, PART + 1);
        let headers = "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n";
        let body = chunks(blob, "X-Sum: 123\r\nX-Other: 4\r\n");
        let answer = whole(&mut connection, head("HTTP/1.1", blob, headers), &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let link = stack
            .s3()
            .read_object(BUCKET, &link_key("a", &blob.sha256()));
        assert_eq!(link, Some(blob.sha256().into_bytes()));
    }
}

/// The client may have begun to send its body just when the answer came, so nothing after it can be
/// told to be a request.
#[tokio::test]
async fn after_a_refusal_instead_of_100_continue_nothing_is_taken_for_a_request() {
    let stack = stack()
        .config("upload.max_blob_size", "6MiB")
        .start()
        .unwrap();
    let blob = Blob::new(1, 7 << 20);
    let mut connection = open(&stack).await;
    let headers = format!("Expect: 100-continue\r\n{}", length(blob));
    connection
        .send(head("HTTP/1.1", blob, &headers))
        .await
        .unwrap();
    let answer = connection.response().await.unwrap();
    assert_eq!(
        (answer.status, answer.header("connection")),
        (413, Some("close"))
    );
    let request = "GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: x\r\n\r\n";
    connection.send(request).await.unwrap();
    connection.finish_sending().await.unwrap();
    let after = connection.rest().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&after), "");
    assert!(!stack.registry().log().contains("smuggled"));
    assert_bucket_empty(&stack);
}

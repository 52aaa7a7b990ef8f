//! A refused push's body is never a request, whoever refused it and whatever it looks like.

use super::*;
use blobgate_testkit::blob::sha256;

const SMUGGLED: &str = "GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: x\r\n\r\n";

/// A push to this path, whose body is a request.
fn carrying(path: &str, lines: &str) -> String {
    let length = SMUGGLED.len();
    format!("PUT {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {length}\r\n\r\n{SMUGGLED}")
}

fn blob_path(content: &str) -> String {
    format!("/v2/a/blobs/{}", sha256(content))
}

#[tokio::test]
async fn a_refused_body_is_not_executed() {
    let stack = stack()
        .registry_faults()
        .config("upload.max_blob_size", "1MiB")
        .start()
        .unwrap();
    let large = format!(
        "PUT {} HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n{SMUGGLED}",
        blob_path("x")
    );
    let chunked = format!(
        "PUT {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
        blob_path("x"),
        SMUGGLED.len()
    );
    let broken = format!(
        "PUT {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{SMUGGLED}",
        blob_path("x")
    );
    for (request, status, code) in [
        (carrying("/v2/A/blobs/x", ""), 400, "NAME_INVALID"),
        (carrying("/v2/a/blobs/x", ""), 400, "DIGEST_INVALID"),
        (carrying(&blob_path("x"), ""), 400, "DIGEST_INVALID"),
        (
            carrying(&blob_path("x"), "Content-Range: 0-5\r\n"),
            400,
            "BLOB_UPLOAD_INVALID",
        ),
        (large, 413, "SIZE_INVALID"),
        (chunked, 400, "DIGEST_INVALID"),
        (broken, 400, "BLOB_UPLOAD_INVALID"),
    ] {
        let mut connection = connect(&stack).await;
        connection.send(&request).await.unwrap();
        let answer = connection.response().await.unwrap();
        assert_eq!(answer.status, status, "{request}: {}", answer.text());
        assert!(answer.text().contains(code), "{request}: {}", answer.text());
        // Nothing answers what was in the body, though the client says that it is done.
        connection.finish_sending().await.unwrap();
        assert_eq!(connection.rest().await.unwrap(), b"", "{request}");
        assert_unheard(&stack, "smuggled");
    }
    assert_bucket_empty(&stack);
    assert_all_free(&stack);
}

#[tokio::test]
async fn a_body_that_the_registry_refuses_is_not_executed() {
    let stack = stack()
        .registry_faults()
        .registry(|registry| registry.users = vec![("alice".into(), "right".into())])
        .start()
        .unwrap();
    for lines in ["", "Expect: 100-continue\r\n"] {
        let mut connection = connect(&stack).await;
        let request = carrying(&blob_path("x"), lines);
        connection.send(&request).await.unwrap();
        assert_eq!(connection.response().await.unwrap().status, 401);
        connection.finish_sending().await.unwrap();
        assert_eq!(connection.rest().await.unwrap(), b"", "{lines}");
        assert_unheard(&stack, "smuggled");
    }
    assert_bucket_empty(&stack);
}

/// What follows a body that was taken belongs to the next request, or to nobody.
#[tokio::test]
async fn what_follows_a_body_is_answered_in_order_or_not_at_all() {
    let stack = stack().registry_faults().start().unwrap();
    for (nth, length) in [SMUGGLED.len(), 5].into_iter().enumerate() {
        let content = &SMUGGLED[..length];
        let request = format!(
            "PUT {} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{content}{}",
            blob_path(content),
            "GET /v2/second/tags/list HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        let mut connection = connect(&stack).await;
        connection.send(request).await.unwrap();
        assert_eq!(connection.response().await.unwrap().status, 201, "{nth}");
        connection.finish_sending().await.unwrap();
        let rest = String::from_utf8_lossy(&connection.rest().await.unwrap()).into_owned();
        // Either the connection ended, or the one request that follows was answered: that there is
        // no such repository.
        assert!(
            rest.is_empty()
                || rest.starts_with("HTTP/1.1 404 ") && rest.matches("HTTP/1.1 ").count() == 1,
            "{rest}"
        );
        assert_unheard(&stack, "smuggled");
    }
}

/// A client that asks before it sends, is refused, sends all the same, and goes on as if nothing had
/// happened.
#[tokio::test]
async fn a_body_sent_in_spite_of_a_refusal_is_not_executed() {
    let stack = stack().registry_faults().start().unwrap();
    let there = Blob::new(1, 1000);
    assert_eq!(push(&stack, "a", there).await.status(), 201);
    let there = format!("/v2/a/blobs/{}", there.sha256());
    for (path, length, status) in [
        ("/v2/A/blobs/x", SMUGGLED.len(), 400),
        ("/v2/a/blobs/x", SMUGGLED.len(), 400),
        // There already, of this length: 201 without the body.
        (there.as_str(), 1000, 201),
    ] {
        let mut connection = connect(&stack).await;
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        connection.send(head).await.unwrap();
        let answer = connection.response().await.unwrap();
        assert_eq!(answer.status, status, "{path}: no 100 comes first");
        assert_eq!(answer.header("connection"), Some("close"), "{path}");
        // It may be closed already.
        let _ = connection.send(SMUGGLED).await;
        let _ = connection.send(SMUGGLED).await;
        let _ = connection.finish_sending().await;
        assert_eq!(connection.rest().await.unwrap(), b"", "{path}");
        assert_unheard(&stack, "smuggled");
    }
}

/// A forwarded request's body is as little a request, for the registry behind as for us.
#[tokio::test]
async fn a_forwarded_body_stays_a_body() {
    let stack = stack().registry_faults().start().unwrap();
    let length = SMUGGLED.len();
    let chunk = format!("{length:x}\r\n{SMUGGLED}\r\n0\r\n\r\n");
    for (lines, body) in [
        (format!("Content-Length: {length}\r\n"), SMUGGLED),
        ("Transfer-Encoding: chunked\r\n".to_owned(), chunk.as_str()),
    ] {
        for (method, path) in [
            ("POST", "/v2/a/blobs/uploads/"),
            ("GET", "/v2/"),
            ("HEAD", "/v2/"),
            ("DELETE", "/v2/a/manifests/none"),
            ("PUT", "/v2/a/manifests/none"),
            ("OPTIONS", "/v2/"),
        ] {
            let mut connection = connect(&stack).await;
            let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n{body}");
            connection.send(request).await.unwrap();
            let answer = connection.response_to(method).await.unwrap();
            assert!(answer.status < 500, "{method} {path}: {}", answer.text());
            connection.finish_sending().await.unwrap();
            assert_eq!(connection.rest().await.unwrap(), b"", "{method} {path}");
            assert_unheard(&stack, "smuggled");
        }
    }
}

//! Requests whose head is broken or ambiguous.

use super::*;
use blobgate_testkit::blob::sha256;

const BODY: &str = "hello";

/// A push of [`BODY`] with these header lines, and a request behind it.
fn push_with(lines: &str) -> String {
    let head = push_head("a", &sha256(BODY), lines);
    format!("{head}{BODY}GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Refused with 400, or dropped without an answer; in either case the connection ends, nothing is
/// stored and nothing behind it is taken for a request.
async fn assert_rejected(stack: &Stack, request: &[u8], what: &str) {
    let mut connection = connect(stack).await;
    connection.send(request).await.unwrap();
    let heard = String::from_utf8_lossy(&connection.rest().await.unwrap()).into_owned();
    let answers = heard.matches("HTTP/1.1 ").count();
    assert!(answers <= 1, "{what}: {heard}");
    assert!(
        heard.is_empty() || heard.starts_with("HTTP/1.1 400 "),
        "{what}: {heard}"
    );
    assert_unheard(stack, "smuggled");
    assert_bucket_empty(stack);
    assert_all_free(stack);
}

/// The same, and the client hears why it is refused.
async fn assert_bad_request(stack: &Stack, request: &[u8], what: &str) {
    assert_rejected(stack, request, what).await;
    let answer = ask(stack, request).await;
    let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(answer.status, 400, "{what}");
}

#[tokio::test]
async fn lengths_that_are_none_are_refused() {
    let stack = stack().registry_faults().start().unwrap();
    for lines in [
        "Content-Length: -1\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: five\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551621\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 6\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5\r\nContent-Length:\r\n",
        "Content-Length : 5\r\n",
    ] {
        assert_bad_request(&stack, push_with(lines).as_bytes(), lines).await;
    }
}

/// Said twice, it is still one length: taken or refused, but never two bodies.
#[tokio::test]
async fn the_same_length_twice_is_one_body_at_most() {
    let stack = stack().registry_faults().start().unwrap();
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
    ] {
        let mut connection = connect(&stack).await;
        connection.send(push_with(lines)).await.unwrap();
        let status = connection.response().await.unwrap().status;
        assert!([201, 400].contains(&status), "{lines}: {status}");
        assert_eq!(connection.rest().await.unwrap(), b"", "{lines}");
        assert_unheard(&stack, "smuggled");
    }
}

#[tokio::test]
async fn codings_that_are_not_chunked_are_refused() {
    let stack = stack().registry_faults().start().unwrap();
    for lines in [
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
    ] {
        assert_bad_request(&stack, push_with(lines).as_bytes(), lines).await;
    }
}

/// Length and coding at once are a known way to smuggle: the coding counts, and the connection is
/// good for nothing more.
#[tokio::test]
async fn a_length_beside_a_coding_ends_the_connection() {
    let stack = stack().registry_faults().start().unwrap();
    for (method, path) in [
        ("PUT", format!("/v2/a/blobs/{}", sha256(BODY))),
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
    ] {
        for length in [3, 5, 400] {
            let mut connection = connect(&stack).await;
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\
                 Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
                 GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: x\r\n\r\n"
            );
            connection.send(request).await.unwrap();
            let answer = connection.response().await.unwrap();
            assert!(
                [201, 202, 400].contains(&answer.status),
                "{}",
                answer.text()
            );
            assert_eq!(connection.rest().await.unwrap(), b"");
            assert_unheard(&stack, "smuggled");
        }
    }
    assert_all_free(&stack);
}

#[tokio::test]
async fn heads_that_are_no_http_are_refused() {
    let stack = stack().registry_faults().start().unwrap();
    let many = "X-Many: 1\r\n".repeat(2000);
    let huge = format!("X-Huge: {}\r\n", "x".repeat(3 << 20));
    for (what, lines) in [
        (
            "a folded line",
            "X-A: 1\r\n folded\r\nContent-Length: 5\r\n",
        ),
        ("a NUL in a value", "X-A: \0\r\nContent-Length: 5\r\n"),
        ("a NUL in a name", "X\0A: 1\r\nContent-Length: 5\r\n"),
        (
            "a CR alone",
            "X-A: 1\rContent-Length: 6\r\nContent-Length: 5\r\n",
        ),
        ("no colon", "X-A\r\nContent-Length: 5\r\n"),
        ("no name", ": 1\r\nContent-Length: 5\r\n"),
        ("a space before all", " X-A: 1\r\nContent-Length: 5\r\n"),
        ("two hosts", "Host: y\r\nContent-Length: 5\r\n"),
        ("too many lines", &many),
        ("too long a line", &huge),
    ] {
        assert_rejected(&stack, push_with(lines).as_bytes(), what).await;
    }
    let path = format!("/v2/a/blobs/{}", sha256(BODY));
    let tail = "Host: x\r\nContent-Length: 5\r\n\r\nhello\
                GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: x\r\n\r\n";
    for line in [
        format!("PUT {path}"),
        format!("PUT {path} HTTP/0.9"),
        format!("PUT {path} HTTP/3.0"),
        format!("PUT {path} HTTP/1.10"),
        format!("PUT {path} http/1.1"),
        format!("PUT {path} HTTP/1.1 HTTP/1.1"),
        format!("PUT\0 {path} HTTP/1.1"),
        format!("P(T {path} HTTP/1.1"),
        format!("PUT /v2/a\0/blobs/{} HTTP/1.1", sha256(BODY)),
        format!("PUT  {path} HTTP/1.1"),
    ] {
        let request = format!("{line}\r\n{tail}");
        assert_rejected(&stack, request.as_bytes(), &line).await;
    }
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"\xff\xfe\xfd\r\n\r\n",
        b"GET /v2/\r\n\r\n",
    ] {
        let mut connection = connect(&stack).await;
        connection.send(garbage).await.unwrap();
        connection.finish_sending().await.unwrap();
        let heard = connection.rest().await.unwrap();
        let heard = String::from_utf8_lossy(&heard).into_owned();
        assert!(
            !heard.contains("HTTP/1.1 2") && !heard.contains("HTTP/1.1 5"),
            "{heard}"
        );
    }
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn http_1_0_is_taken_with_a_length_and_only_so() {
    let stack = stack().registry_faults().start().unwrap();
    let request = |digest: &str, lines: &str, body: &str| {
        format!("PUT /v2/a/blobs/{digest} HTTP/1.0\r\n{lines}\r\n{body}")
    };
    let digest = sha256(BODY);
    let mut connection = connect(&stack).await;
    let whole = request(&digest, "Content-Length: 5\r\n", BODY);
    connection.send(whole).await.unwrap();
    assert_eq!(connection.response().await.unwrap().status, 201);
    assert_eq!(connection.rest().await.unwrap(), b"", "it is closed");
    assert_served(&stack, "a", &digest, BODY.as_bytes()).await;
    let objects = stack.s3().objects(BUCKET);

    // Without a length there is no body, and so no such blob.
    let other = sha256("other");
    let bare = request(&other, "", "other");
    assert_refused(sent(&stack, bare).await, 400, "DIGEST_INVALID", "no length").await;
    // `Expect` is none of HTTP/1.0's, and no interim answer may come.
    let waiting = request(
        &other,
        "Content-Length: 5\r\nExpect: 100-continue\r\n",
        BODY,
    );
    assert_refused(sent(&stack, waiting).await, 400, "DIGEST_INVALID", "expect").await;
    let coded = request(&other, "Transfer-Encoding: chunked\r\n", "0\r\n\r\n");
    let answer = ask(&stack, coded).await.unwrap();
    assert_eq!(answer.status, 400);
    assert_eq!(stack.s3().objects(BUCKET), objects);
    assert_all_free(&stack);
}

async fn sent(stack: &Stack, request: String) -> RawConnection {
    let mut connection = connect(stack).await;
    connection.send(request).await.unwrap();
    connection
}

/// The whole URL in place of the path, as for a proxy: the path in it counts, the host is ours.
#[tokio::test]
async fn a_whole_url_is_taken_for_its_path() {
    let stack = stack().registry_faults().start().unwrap();
    let digest = sha256(BODY);
    let request = format!(
        "PUT http://registry.example/v2/a/blobs/{digest} HTTP/1.1\r\nHost: registry.example\r\n\
         Content-Length: 5\r\n\r\n{BODY}"
    );
    assert_eq!(ask(&stack, request).await.unwrap().status, 201);
    assert_served(&stack, "a", &digest, BODY.as_bytes()).await;

    let bad = "PUT http://registry.example/v2/A/blobs/x HTTP/1.1\r\nHost: registry.example\r\n\
               Content-Length: 0\r\n\r\n";
    let answer = ask(&stack, bad).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("NAME_INVALID"), "{}", answer.text());

    let get = "GET http://registry.example/v2/ HTTP/1.1\r\nHost: registry.example\r\n\r\n";
    assert_eq!(ask(&stack, get).await.unwrap().status, 200);
}

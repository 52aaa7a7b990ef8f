//! The access log, the id a request is known by, and that no log tells a secret.
#![forbid(unsafe_code)]

mod common;

use base64::Engine;
use blobgate_testkit::blob::Blob;
use blobgate_testkit::faults::{Fault, Rule};
use blobgate_testkit::stack::{Stack, StackBuilder};
use common::*;
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The fields of the next line of the text log that has this part.
fn fields(stack: &Stack, part: &str) -> BTreeMap<String, String> {
    let line = stack.blobgate().wait_for_log(part, PATIENCE).unwrap();
    let (_, line) = line.split_once("access] ").expect("an access log line");
    let pair = |field: &str| {
        let (name, value) = field.split_once('=').unwrap_or_else(|| panic!("{line}"));
        (name.to_owned(), value.to_owned())
    };
    line.split(' ').map(pair).collect()
}

#[tokio::test]
async fn each_request_has_one_line() {
    let stack = stack().start().unwrap();
    stack
        .s3_faults()
        .add(Rule::on("UploadPart", Fault::ResetAfter(1000)).nth(1));
    let blob = Blob::new(1, 2 * PART);
    assert_eq!(push(&stack, "a", blob).await.status(), 201);
    let digest = blob.sha256();
    let line = fields(&stack, "method=PUT");
    let expected = [
        ("path", &*format!("/v2/a/blobs/{digest}")),
        ("status", "201"),
        ("outcome", "stored"),
        ("received", &blob.size.to_string()),
        ("sent", "0"),
        ("digest", &digest),
        ("retries", "1"),
    ];
    for (name, value) in expected {
        assert_eq!(line[name], value, "{name}");
    }
    assert!(!line["upload_id"].is_empty());
    assert!(line["client"].starts_with("127.0.0.1:"));
    let seconds = |name: &str| line[name].parse::<f64>().unwrap();
    for phase in [
        "authorise",
        "admission",
        "client",
        "store",
        "commit",
        "answer",
    ] {
        let spent = seconds(&format!("{phase}_seconds"));
        assert!(spent <= seconds("seconds"), "{phase}: {line:?}");
    }

    assert_served(&stack, "a", &digest, &blob.bytes()).await;
    let line = fields(&stack, "method=GET");
    assert_eq!((&*line["status"], &*line["outcome"]), ("200", "forwarded"));
    assert_eq!(line["sent"], blob.size.to_string());

    put(&stack, "NO", &digest, "x").await;
    let line = fields(&stack, "method=PUT");
    assert_eq!(
        (&*line["status"], &*line["outcome"]),
        ("400", "bad_request")
    );

    let lines = stack.blobgate().log();
    let lines = lines.lines().filter(|line| line.contains(" access] "));
    assert_eq!(lines.count(), 3, "{}", stack.blobgate().log());
}

#[tokio::test]
async fn a_client_that_leaves_has_its_line_too() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, PART);
    let mut connection = connect(&stack).await;
    let head = announced_head("a", &blob.sha256(), blob.size);
    connection.send(head).await.unwrap();
    connection.send(blob.bytes().slice(..1000)).await.unwrap();
    until_metric(stack.blobgate(), "blobgate_received_bytes_total", |bytes| {
        bytes > 0.0
    })
    .await;
    drop(connection);
    let line = fields(&stack, "method=PUT");
    assert_eq!((&*line["status"], &*line["outcome"]), ("-", "client_gone"));
}

#[tokio::test]
async fn as_json_every_line_is_one_object() {
    let stack = stack().config("log.format", "json").start().unwrap();
    let blob = Blob::new(1, 1000);
    assert_eq!(push(&stack, "a", blob).await.status(), 201);
    stack
        .blobgate()
        .wait_for_log("\"request\"", PATIENCE)
        .unwrap();
    let mut requests = Vec::new();
    for line in stack.blobgate().log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(line["time"].is_string() && line["level"].is_string());
        match line["target"] == "access" {
            true => requests.push(line["request"].clone()),
            false => assert!(line["message"].is_string(), "{line}"),
        }
    }
    let [request] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert_eq!(request["outcome"], "stored");
    assert_eq!(request["status"], 201);
    assert_eq!(request["received"], 1000);
    assert_eq!(request["digest"], blob.sha256());
    assert!(request["phases"]["commit"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn a_request_is_known_by_its_id_everywhere() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 1000);
    let answer = client()
        .put(blob_url(&stack, "a", &blob.sha256()))
        .header("x-request-id", "from-the-client-1")
        .body(blob.bytes())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-request-id"], "from-the-client-1");
    assert_eq!(fields(&stack, "method=PUT")["id"], "from-the-client-1");

    // One that would break the line is replaced; the registry's own answer has the new one.
    let answer = client()
        .get(stack.blobgate().url() + "/v2/")
        .header("x-request-id", "two words")
        .send()
        .await
        .unwrap();
    let id = answer.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(fields(&stack, "method=GET")["id"], id);
    assert_eq!(id.len(), 32);
}

#[tokio::test]
async fn the_upstream_hears_the_id() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("http://{}", listener.local_addr().unwrap());
    let stack = stack().config("upstream.url", upstream).start().unwrap();
    let asked = client()
        .get(stack.blobgate().url() + "/v2/")
        .header("x-request-id", "from-the-client-2")
        .send();
    let heard = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        String::from_utf8(head).unwrap().to_lowercase()
    };
    let (answer, heard) = tokio::join!(asked, heard);
    assert_eq!(answer.unwrap().status(), 204);
    assert!(
        heard.contains("x-request-id: from-the-client-2\r\n"),
        "{heard}"
    );
}

/// A stack whose every log line is written.
fn loud() -> StackBuilder {
    stack()
        .config("log.level", "trace")
        .registry(|registry| {
            registry.users = vec![("alice".into(), "correct-horse".into())];
            // Its redirects are signed URLs of the bucket.
            registry.redirect = true;
        })
        .environment("AWS_SESSION_TOKEN", "session-token-of-the-test")
}

#[tokio::test]
async fn no_secret_is_ever_logged() {
    let stack = loud().start().unwrap();
    stack
        .s3_faults()
        .add(Rule::on("UploadPart", Fault::ResetAfter(1000)).nth(1));
    let basic = base64::engine::general_purpose::STANDARD.encode("alice:correct-horse");
    let send = |method: &str, url: String| {
        client()
            .request(method.parse().unwrap(), url)
            .header("authorization", format!("Basic {basic}"))
            .header("cookie", "session=cookie-of-the-test")
    };
    let (blob, wrong) = (Blob::new(1, 2 * PART), Blob::new(2, 1000));
    let pushed = send("PUT", blob_url(&stack, "a", &blob.sha256()));
    assert_eq!(
        pushed.body(blob.bytes()).send().await.unwrap().status(),
        201
    );
    let refused = send("PUT", blob_url(&stack, "a", &wrong.sha256()));
    assert_eq!(refused.body("x").send().await.unwrap().status(), 400);
    let stranger = client()
        .put(blob_url(&stack, "a", &wrong.sha256()))
        .header("authorization", "Bearer bearer-of-the-test")
        .body(wrong.bytes());
    assert_eq!(stranger.send().await.unwrap().status(), 401);

    let pulled = send("GET", blob_url(&stack, "a", &blob.sha256())).send();
    let pulled = pulled.await.unwrap();
    assert_eq!(pulled.status(), 307);
    let signed = pulled.headers()["location"].to_str().unwrap().to_owned();
    let (_, signature) = signed.split_once("X-Amz-Signature=").unwrap();

    let begun = send("POST", stack.blobgate().url() + "/v2/a/blobs/uploads/").send();
    let session = begun.await.unwrap().headers()["location"]
        .to_str()
        .unwrap()
        .to_owned();
    let (_, state) = session.split_once("_state=").unwrap();
    let put = send("PUT", format!("{session}&digest={}", wrong.sha256()));
    assert_eq!(put.body(wrong.bytes()).send().await.unwrap().status(), 201);
    let line = fields(&stack, "path=/v2/a/blobs/uploads/");
    assert_eq!(line["method"], "POST");

    // One more request, so that the lines of all before it are there.
    send("GET", stack.blobgate().url() + "/v2/")
        .send()
        .await
        .unwrap();
    fields(&stack, "path=/v2/ ");
    let log = stack.blobgate().log();
    assert!(log.contains("TRACE ") || log.contains("DEBUG "), "{log}");
    assert!(log.contains("trying again"), "{log}");
    let secrets = [
        "correct-horse",
        &basic,
        "cookie-of-the-test",
        "bearer-of-the-test",
        "testkit-secret",
        "session-token-of-the-test",
        "AWS4-HMAC",
        "Signature=",
        "X-Amz-",
        signature,
        "_state",
        &state[..40],
    ];
    for secret in secrets {
        let told = log.lines().find(|line| line.contains(secret));
        assert!(told.is_none(), "{secret}: {told:?}");
    }
    for line in log.lines() {
        assert!(!line.to_lowercase().contains("authorization:"), "{line}");
    }
}

//! What the integration tests share: a stack with small parts, requests, and the question what a
//! push has left behind.
#![allow(dead_code)] // every test binary uses a part of it

use blobgate_testkit::blob::Blob;
use blobgate_testkit::http::RawConnection;
use blobgate_testkit::process::Blobgate;
use blobgate_testkit::stack::{Stack, StackBuilder};
use reqwest::{Body, Client, Response};
use std::time::{Duration, Instant};

/// How long a test waits for something to happen before it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const MIB: u64 = 1 << 20;
pub const BUCKET: &str = "registry";

/// The smallest part S3 takes, so that small blobs have many.
pub const PART: u64 = 5 * MIB;

/// A stack whose blobgate cuts blobs into parts of [`PART`] bytes, with a proxy before S3 whose
/// journal tells when a call is over.
pub fn stack() -> StackBuilder {
    Stack::builder()
        .blobgate(env!("CARGO_BIN_EXE_blobgate"))
        .config("upload.part_size", "5MiB")
        .s3_faults()
}

/// A client that follows no redirect and shares no connection with others.
pub fn client() -> Client {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        // The default of 30 s takes a server that does not read, as for a push that waits, for a
        // dead one.
        .tcp_user_timeout(None)
        .build()
        .expect("a client")
}

pub fn blob_url(stack: &Stack, name: &str, digest: &str) -> String {
    format!("{}/v2/{name}/blobs/{digest}", stack.blobgate().url())
}

/// Pushes a body under a digest, which need not be its own.
pub async fn put(stack: &Stack, name: &str, digest: &str, body: impl Into<Body>) -> Response {
    client()
        .put(blob_url(stack, name, digest))
        .body(body)
        .send()
        .await
        .expect("an answer")
}

/// As [`put`], of a whole blob under its own digest.
pub async fn push(stack: &Stack, name: &str, blob: Blob) -> Response {
    put(stack, name, &blob.sha256(), blob.bytes()).await
}

/// The head of a push; `framing` are its further header lines, each with its line end.
pub fn push_head(name: &str, digest: &str, framing: &str) -> String {
    format!("PUT /v2/{name}/blobs/{digest} HTTP/1.1\r\nHost: x\r\n{framing}\r\n")
}

/// The same with the length announced.
pub fn announced_head(name: &str, digest: &str, length: u64) -> String {
    push_head(name, digest, &format!("Content-Length: {length}\r\n"))
}

pub async fn connect(stack: &Stack) -> RawConnection {
    RawConnection::open(stack.blobgate().address())
        .await
        .expect("a connection")
}

/// Pushes a blob without buffering it, its length announced or not.
pub async fn stream(stack: &Stack, name: &str, blob: Blob, announced: bool) -> Response {
    let mut request = client().put(blob_url(stack, name, &blob.sha256()));
    if announced {
        request = request.header("content-length", blob.size);
    }
    request
        .body(Body::wrap_stream(blob.stream(100_000)))
        .send()
        .await
        .expect("an answer")
}

/// The status and the OCI error code of an answer.
pub async fn error_of(answer: Response) -> (u16, String, serde_json::Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("a body");
    let body: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} without JSON: {text:?}"));
    let error = body["errors"][0].clone();
    let code = error["code"].as_str().unwrap_or_default().to_owned();
    (status, code, error)
}

pub fn data_key(digest: &str) -> String {
    let (algorithm, hex) = digest.split_once(':').expect("a digest");
    format!(
        "docker/registry/v2/blobs/{algorithm}/{}/{hex}/data",
        &hex[..2]
    )
}

pub fn link_key(name: &str, digest: &str) -> String {
    let (algorithm, hex) = digest.split_once(':').expect("a digest");
    format!("docker/registry/v2/repositories/{name}/_layers/{algorithm}/{hex}/link")
}

/// The registry, asked through blobgate, serves exactly these bytes.
pub async fn assert_served(stack: &Stack, name: &str, digest: &str, content: &[u8]) {
    let answer = client()
        .get(blob_url(stack, name, digest))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200, "GET of {digest} in {name}");
    let served = answer.bytes().await.expect("a body");
    assert!(served == content, "the registry serves other bytes");
}

/// The registry, asked past blobgate, does not know the blob in this repository.
pub async fn assert_absent(stack: &Stack, name: &str, digest: &str) {
    let url = format!("{}/v2/{name}/blobs/{digest}", stack.registry().url());
    let answer = client().head(url).send().await.expect("an answer");
    assert_eq!(answer.status(), 404, "HEAD of {digest} in {name}");
}

/// The bucket holds nothing, not even an open upload.
pub fn assert_bucket_empty(stack: &Stack) {
    assert_eq!(stack.s3().objects(BUCKET), []);
    assert_no_uploads(stack);
}

pub fn assert_no_uploads(stack: &Stack) {
    assert_eq!(stack.s3().open_uploads(BUCKET), []);
}

/// No slot and no memory is held: true from the moment an answer is here.
pub fn assert_all_free(stack: &Stack) {
    let metrics = stack.blobgate().metrics().expect("metrics");
    assert_eq!(metrics["blobgate_uploads_streaming"], 0.0);
    assert_eq!(metrics["blobgate_uploads_waiting"], 0.0);
    assert_eq!(metrics["blobgate_memory_budget_used_bytes"], 0.0);
}

/// How many pushes ended this way.
pub fn pushes(stack: &Stack, outcome: &str) -> f64 {
    let metrics = stack.blobgate().metrics().expect("metrics");
    let name = format!("blobgate_pushes_total{{outcome=\"{outcome}\"}}");
    metrics.get(&name).copied().unwrap_or(0.0)
}

pub fn metric(blobgate: &Blobgate, name: &str) -> f64 {
    let metrics = blobgate.metrics().expect("metrics");
    metrics.get(name).copied().unwrap_or(0.0)
}

/// Waits until a metric's value is such. Metrics tell nobody when they change: they must be asked.
pub async fn until_metric(blobgate: &Blobgate, name: &str, such: impl Fn(f64) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !such(metric(blobgate, name)) {
        assert!(
            Instant::now() < deadline,
            "{name} stays {}; the log:\n{}",
            metric(blobgate, name),
            blobgate.log()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for the end of a push, whoever hears of it, and returns its outcome. Earlier lines of the
/// log count no more afterwards.
pub fn ended(stack: &Stack, name: &str, digest: &str) -> String {
    let push = format!("method=PUT path=/v2/{name}/blobs/{digest} status=");
    let line = stack
        .blobgate()
        .wait_for_log(&push, PATIENCE)
        .expect("the push's line in the access log");
    let (_, outcome) = line.split_once(" outcome=").expect("an outcome");
    outcome.split(' ').next().unwrap_or_default().to_owned()
}

/// What the bucket holds of a blob: objects' keys that name it, the registry's own not counted.
pub fn objects_of(stack: &Stack, digest: &str) -> Vec<String> {
    let (_, hex) = digest.split_once(':').expect("a digest");
    let objects = stack.s3().objects(BUCKET).into_iter();
    objects
        .map(|(key, _)| key)
        .filter(|key| key.contains(hex))
        .collect()
}

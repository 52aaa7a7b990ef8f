//! The same over TLS and over HTTP/2, where bodies have other ways to go wrong.
//!
//! A thread of its own drives the clients' connections, as waiting for blobgate's log blocks.

use super::*;
use crate::h2client::{self, Connection, Stream};
use blobgate_testkit::stack::StackBuilder;
use blobgate_testkit::tls::{Files, Identity};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

const SIZE: u64 = 2 * PART + 9;

/// None of the body, some of the first part, just more than it, and all but one byte.
const MOMENTS: [u64; 4] = [0, 1000, PART + 1, SIZE - 1];

struct Encrypted {
    stack: Stack,
    files: Files,
    _dir: TempDir,
}

impl Encrypted {
    fn start(edit: impl FnOnce(StackBuilder) -> StackBuilder) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Identity::new(&["localhost"]).save(dir.path()).unwrap();
        let builder = stack()
            .config(
                "listen.tls.certificate",
                files.certificate.to_str().unwrap(),
            )
            .config("listen.tls.key", files.key.to_str().unwrap());
        let stack = edit(builder).start().unwrap();
        Self {
            stack,
            files,
            _dir: dir,
        }
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.stack.blobgate().address(), &self.files.ca).await
    }

    /// A push of which `bytes` of the body are sent, and its parts on their way.
    async fn begun(&self, connection: &mut Connection, blob: Blob, push: Push) -> Stream {
        let faults = self.stack.s3_faults();
        let before = |operation| faults.calls().get(operation).copied().unwrap_or(0);
        let (heads, parts) = (before("HeadObject"), before("UploadPart"));
        let path = format!("/v2/a/blobs/{}", blob.sha256());
        let length = push.announced.then_some(blob.size);
        let mut stream = connection.announce("PUT", &path, length).await;
        let content = blob.bytes().slice(..push.bytes as usize);
        stream.send(content, false).await;
        // A push that blobgate has not heard of cannot end.
        faults.arrived("HeadObject", heads + 1).await;
        let full = push.bytes.saturating_sub(1) / PART;
        faults.arrived("UploadPart", parts + full).await;
        stream
    }

    /// After the push's end; its aborts are over too.
    async fn assert_nothing_left(&self, blob: Blob, aborts: u64, outcome: &str, what: &str) {
        assert_eq!(ended(&self.stack, "a", &blob.sha256()), outcome, "{what}");
        assert_all_free(&self.stack);
        let faults = self.stack.s3_faults();
        faults.finished("AbortMultipartUpload", aborts).await;
        assert_bucket_empty(&self.stack);
    }
}

#[derive(Debug, Clone, Copy)]
struct Push {
    announced: bool,
    bytes: u64,
}

impl Push {
    fn all() -> impl Iterator<Item = Push> {
        let both = [true, false].into_iter();
        both.flat_map(|announced| MOMENTS.map(|bytes| Push { announced, bytes }))
    }

    /// Multipart uploads it has opened by now.
    fn opened(self) -> u64 {
        u64::from(self.announced || self.bytes > PART)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_that_is_reset_leaves_nothing_and_its_connection_goes_on() {
    let encrypted = Encrypted::start(|stack| stack);
    let mut connection = encrypted.connect().await;
    let mut aborts = 0;
    for (seed, push) in Push::all().enumerate() {
        let blob = Blob::new(seed as u64, SIZE);
        let mut stream = encrypted.begun(&mut connection, blob, push).await;
        stream.cancel();
        aborts += push.opened();
        let what = format!("{push:?}");
        encrypted
            .assert_nothing_left(blob, aborts, "client_gone", &what)
            .await;
    }
    assert_eq!(connection.get("/v2/").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_is_cut_leaves_nothing_of_any_of_its_streams() {
    let encrypted = Encrypted::start(|stack| stack);
    let mut aborts = 0;
    for (seed, push) in Push::all().enumerate() {
        let mut connection = encrypted.connect().await;
        let blobs = [0, 1].map(|nth| Blob::new(2 * seed as u64 + nth, SIZE));
        for blob in blobs {
            // What becomes of the stream when its handle goes is the connection's matter.
            std::mem::forget(encrypted.begun(&mut connection, blob, push).await);
        }
        drop(connection);
        let gone = 2.0 * (seed + 1) as f64;
        let outcome = "blobgate_pushes_total{outcome=\"client_gone\"}";
        let blobgate = encrypted.stack.blobgate();
        until_metric(blobgate, outcome, |count| count == gone).await;
        aborts += 2 * push.opened();
        let faults = encrypted.stack.s3_faults();
        faults.finished("AbortMultipartUpload", aborts).await;
        assert_all_free(&encrypted.stack);
        assert_bucket_empty(&encrypted.stack);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_that_stalls_hears_so_and_leaves_nothing() {
    let encrypted = Encrypted::start(|stack| stack.config("upload.idle_timeout", "2s"));
    let mut connection = encrypted.connect().await;
    let mut aborts = 0;
    for (seed, push) in Push::all().enumerate() {
        let blob = Blob::new(seed as u64, SIZE);
        let mut stream = encrypted.begun(&mut connection, blob, push).await;
        let (status, text) = stream.answer().await;
        assert_eq!(status, 408, "{push:?}: {text}");
        assert!(text.contains("BLOB_UPLOAD_INVALID"), "{push:?}: {text}");
        aborts += push.opened();
        let what = format!("{push:?}");
        encrypted
            .assert_nothing_left(blob, aborts, "client_slow", &what)
            .await;
    }
    assert_eq!(connection.get("/v2/").await, 200);
}

/// One byte less than the digest's, than announced, and one more.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_wrong_number_of_bytes_is_refused_and_leaves_nothing() {
    let encrypted = Encrypted::start(|stack| stack);
    let mut connection = encrypted.connect().await;
    let blob = Blob::new(1, SIZE);
    let path = format!("/v2/a/blobs/{}", blob.sha256());
    let mut stream = connection.begin("PUT", &path).await;
    stream
        .send(blob.bytes().slice(..SIZE as usize - 1), true)
        .await;
    let (status, text) = stream.answer().await;
    assert!(status == 400 && text.contains("DIGEST_INVALID"), "{text}");
    encrypted
        .assert_nothing_left(blob, 1, "digest_mismatch", "unannounced")
        .await;

    // RFC 9113 (8.1.1): a length that is not kept to makes the request malformed.
    let mut aborts = 1;
    for (announced, seed) in [(SIZE + 1, 2), (SIZE - 1, 3)] {
        let blob = Blob::new(seed, SIZE);
        let path = format!("/v2/a/blobs/{}", blob.sha256());
        let mut stream = connection.announce("PUT", &path, Some(announced)).await;
        stream.send(blob.bytes(), true).await;
        let outcome = ended(&encrypted.stack, "a", &blob.sha256());
        assert!(
            ["client_gone", "bad_request", "digest_mismatch"].contains(&&*outcome),
            "{announced}: {outcome}"
        );
        aborts += 1;
        let faults = encrypted.stack.s3_faults();
        faults.finished("AbortMultipartUpload", aborts).await;
        assert_all_free(&encrypted.stack);
        assert_bucket_empty(&encrypted.stack);
    }
    assert_eq!(connection.get("/v2/").await, 200);
}

/// A TLS connection that ends without its goodbye may have been cut by anyone: no body has come to
/// its end by that.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_cut_tls_connection_is_no_end_of_a_body() {
    let encrypted = Encrypted::start(|stack| stack);
    let faults = encrypted.stack.s3_faults();
    let mut parts = 0;
    for (nth, bytes) in MOMENTS.into_iter().enumerate() {
        for framing in ["Content-Length", "Transfer-Encoding"] {
            let blob = Blob::new(10 * nth as u64 + framing.len() as u64, SIZE);
            let address = encrypted.stack.blobgate().address();
            let mut stream = h2client::tls(address, &encrypted.files.ca, b"\x08http/1.1").await;
            let content = blob.bytes().slice(..bytes as usize);
            let (value, content) = match framing {
                "Content-Length" => (blob.size.to_string(), content.to_vec()),
                _ => {
                    let mut chunk = format!("{:x}\r\n", blob.size).into_bytes();
                    chunk.extend_from_slice(&content);
                    ("chunked".to_owned(), chunk)
                }
            };
            let head = push_head("a", &blob.sha256(), &format!("{framing}: {value}\r\n"));
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&content).await.unwrap();
            parts += bytes.saturating_sub(1) / PART;
            faults.arrived("UploadPart", parts).await;
            // Closes the socket, and says nothing in TLS.
            drop(stream);
            let outcome = ended(&encrypted.stack, "a", &blob.sha256());
            assert_eq!(outcome, "client_gone", "{framing} after {bytes} bytes");
        }
    }
    // Of each moment: one with its length announced; without, one that filled a part.
    let opened = faults.calls()["CreateMultipartUpload"];
    assert_eq!(opened, 4 + 2);
    faults.finished("AbortMultipartUpload", opened).await;
    assert_all_free(&encrypted.stack);
    assert_bucket_empty(&encrypted.stack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_without_a_request_is_closed() {
    let encrypted = Encrypted::start(|stack| {
        stack
            .config("listen.header_timeout", "500ms")
            .config("listen.keepalive_timeout", "1d")
    });
    let address = encrypted.stack.blobgate().address();
    // Not even HTTP/2's preface, or nothing after it.
    for preface in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = h2client::tls(address, &encrypted.files.ca, b"\x02h2").await;
        stream.write_all(preface).await.unwrap();
        h2client::ended(&mut stream).await;
    }
    // One that has asked something may stay.
    let mut connection = encrypted.connect().await;
    assert_eq!(connection.get("/v2/").await, 200);
    let blob = Blob::new(1, 1000);
    let path = format!("/v2/a/blobs/{}", blob.sha256());
    let mut stream = connection.begin("PUT", &path).await;
    let mut silent = h2client::tls(address, &encrypted.files.ca, b"\x02h2").await;
    h2client::ended(&mut silent).await;
    stream.send(blob.bytes(), true).await;
    assert_eq!(stream.answer().await.0, 201);
}

/// Pushes that wait for a slot lie unread in their windows. However many connections hold such
/// windows, another one still gets its push through.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn windows_full_of_waiting_pushes_starve_nobody() {
    let encrypted = Encrypted::start(|stack| {
        stack
            .config("upload.max_streaming", 1)
            .config("listen.http2_memory", "8MiB")
            .config("upload.idle_timeout", "1d")
    });
    let holder = Blob::new(0, SIZE);
    let mut first = encrypted.connect().await;
    let begun = Push {
        announced: true,
        bytes: PART + 1,
    };
    let mut held = encrypted.begun(&mut first, holder, begun).await;
    let mut waiting = Vec::new();
    let mut connections = Vec::new();
    for connection in 0..3 {
        let mut client = encrypted.connect().await;
        for nth in 0..8 {
            let blob = Blob::new(100 + 10 * connection + nth, 600_000);
            let path = format!("/v2/a/blobs/{}", blob.sha256());
            let mut stream = client.announce("PUT", &path, Some(blob.size)).await;
            waiting.push(tokio::spawn(async move {
                stream.send(blob.bytes(), true).await;
                stream.answer().await.0
            }));
        }
        connections.push(client);
    }
    let blobgate = encrypted.stack.blobgate();
    until_metric(blobgate, "blobgate_uploads_waiting", |waiting| {
        waiting == 24.0
    })
    .await;
    held.send(holder.bytes().slice(PART as usize + 1..), true)
        .await;
    assert_eq!(held.answer().await.0, 201);
    for push in waiting {
        let status = tokio::time::timeout(Duration::from_secs(120), push).await;
        assert_eq!(status.expect("its turn").unwrap(), 201);
    }
    assert_all_free(&encrypted.stack);
}

/// Neither TCP connections that never begin TLS, nor what they leave when they are ended, take more
/// places than there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_without_a_handshake_count_and_are_ended() {
    let encrypted = Encrypted::start(|stack| {
        stack
            .config("listen.max_connections", 3)
            .config("listen.header_timeout", "2s")
    });
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(connect(&encrypted.stack).await);
    }
    // The fourth finds no place, and hears so at once.
    let mut fourth = connect(&encrypted.stack).await;
    assert!(fourth.ended().await.unwrap());
    let blobgate = encrypted.stack.blobgate();
    assert!(
        blobgate.log().contains("3 connections are open"),
        "{}",
        blobgate.log()
    );
    for connection in &mut silent {
        assert!(connection.ended().await.unwrap());
    }
    // Their places are free again.
    let mut connection = encrypted.connect().await;
    assert_eq!(connection.get("/v2/").await, 200);
}

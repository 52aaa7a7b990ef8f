//! TLS on every side: the listener, the upstream, the bucket; and buckets that have a host name.

mod common;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::stack::{Stack, StackBuilder};
use blobgate_testkit::tls::{Files, Identity};
use common::*;
use openssl::ssl::{SslConnector, SslMethod, SslVersion};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use tempfile::TempDir;

/// A certificate for these names, as files that lie as long as the directory.
fn identity(names: &[&str]) -> (Identity, Files, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::new(names);
    let files = identity.save(dir.path()).unwrap();
    (identity, files, dir)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn listener(files: &Files) -> StackBuilder {
    stack()
        .config("listen.tls.certificate", text(&files.certificate))
        .config("listen.tls.key", text(&files.key))
}

/// One request over HTTP/1.1 by a client that offers these protocols; what was agreed on, and the
/// answer.
fn ask(stack: &Stack, ca: &Path, offered: &[u8]) -> (Option<Vec<u8>>, String) {
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    connector.set_ca_file(ca).unwrap();
    if !offered.is_empty() {
        connector.set_alpn_protos(offered).unwrap();
    }
    let stream = TcpStream::connect(stack.blobgate().address()).unwrap();
    let mut stream = connector.build().connect("localhost", stream).unwrap();
    let agreed = stream.ssl().selected_alpn_protocol().map(<[u8]>::to_vec);
    if agreed.as_deref() == Some(b"h2") {
        return (agreed, String::new());
    }
    let request = "GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (agreed, answer)
}

#[tokio::test]
async fn the_listener_agrees_on_http_2_or_1_1() {
    let (_, files, _dir) = identity(&["localhost"]);
    let stack = listener(&files).start().unwrap();
    let (agreed, _) = ask(&stack, &files.ca, b"\x02h2\x08http/1.1");
    assert_eq!(agreed.as_deref(), Some(&b"h2"[..]));
    for (offered, expected) in [
        (&b"\x08http/1.1"[..], Some(&b"http/1.1"[..])),
        // A client that knows nothing of the choice speaks HTTP/1.1.
        (b"", None),
    ] {
        let (agreed, answer) = ask(&stack, &files.ca, offered);
        assert_eq!(agreed.as_deref(), expected);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn old_versions_and_plain_http_are_turned_away() {
    let (_, files, _dir) = identity(&["localhost"]);
    let stack = listener(&files).start().unwrap();
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    connector.set_ca_file(&files.ca).unwrap();
    // What OpenSSL itself holds back by default would prove nothing of the listener.
    connector.set_security_level(0);
    connector
        .set_min_proto_version(Some(SslVersion::TLS1))
        .unwrap();
    connector
        .set_max_proto_version(Some(SslVersion::TLS1_1))
        .unwrap();
    let stream = TcpStream::connect(stack.blobgate().address()).unwrap();
    assert!(
        connector.build().connect("localhost", stream).is_err(),
        "TLS 1.1"
    );

    let mut stream = TcpStream::connect(stack.blobgate().address()).unwrap();
    stream
        .write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    // A reset is as good an end.
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/"), "plain HTTP on a TLS port");
    assert!(
        ask(&stack, &files.ca, b"").1.starts_with("HTTP/1.1 200 "),
        "it still serves"
    );
}

#[tokio::test]
async fn locations_lead_back_by_https() {
    let (identity, files, _dir) = identity(&["localhost"]);
    let stack = listener(&files).start().unwrap();
    let authority = reqwest::Certificate::from_pem(identity.ca.as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .add_root_certificate(authority)
        .build()
        .unwrap();
    let base = format!("https://localhost:{}", stack.blobgate().address().port());
    let url = format!("{base}/v2/a/blobs/uploads/");
    let answer = client.post(url).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let location = answer.headers()["location"].to_str().unwrap();
    assert!(location.starts_with(&format!("{base}/v2/a/")), "{location}");
}

/// A registry that speaks TLS, and blobgate told to trust one authority, on a machine that trusts
/// another.
fn secure_upstream(host: &str, server: &Files, trusted: Option<&Path>, system: &Path) -> Stack {
    let tls = json!({"http": {"tls": {"certificate": server.certificate, "key": server.key}}});
    let mut stack = stack()
        .environment("SSL_CERT_FILE", text(system))
        .registry(move |registry| registry.config = tls)
        .start()
        .unwrap();
    let url = format!("https://{host}:{}", stack.registry().address().port());
    stack
        .restart_blobgate(|config| {
            let config = config.set("upstream.url", url);
            match trusted {
                Some(trusted) => config.set("upstream.ca_file", text(trusted)),
                None => config,
            }
        })
        .unwrap();
    stack
}

#[tokio::test]
async fn an_upstream_that_proves_its_name_is_trusted() {
    let (_, files, _dir) = identity(&["localhost", "127.0.0.1"]);
    let (_, stranger, _stranger_dir) = identity(&["localhost"]);
    for (host, trusted, system) in [
        ("localhost", Some(&files), &stranger),
        ("127.0.0.1", Some(&files), &stranger),
        ("localhost", None, &files),
    ] {
        let trusted = trusted.map(|files| files.ca.as_path());
        let stack = secure_upstream(host, &files, trusted, &system.ca);
        let blob = Blob::new(1, 2 * PART + 1);
        let answer = stream(&stack, "a", blob, true).await;
        let status = answer.status();
        assert_eq!(status, 201, "{host}: {}", answer.text().await.unwrap());
        assert_served(&stack, "a", &blob.sha256(), &blob.bytes()).await;
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_prove_its_name_is_refused_and_said_so() {
    let (_, files, _dir) = identity(&["localhost"]);
    let (_, stranger, _stranger_dir) = identity(&["localhost"]);
    for (host, trusted, system) in [
        // The authority that is named counts, not the system's.
        ("localhost", Some(&stranger), &files),
        ("localhost", None, &stranger),
        // The certificate is good, but for another name.
        ("127.0.0.1", Some(&files), &stranger),
    ] {
        let trusted = trusted.map(|files| files.ca.as_path());
        let stack = secure_upstream(host, &files, trusted, &system.ca);
        let answer = stream(&stack, "a", Blob::new(1, 1000), true).await;
        let (status, code, error) = error_of(answer).await;
        assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("certificate verify failed"), "{message}");

        let url = format!("{}/v2/", stack.blobgate().url());
        let (status, code, error) = error_of(client().get(url).send().await.unwrap()).await;
        assert_eq!((status, code.as_str()), (502, "UNAVAILABLE"));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("certificate"), "{message}");
        assert_bucket_empty(&stack);
    }
}

/// S3 by https where it has a certificate, for blobgate through this authority.
fn bucket_of(server: Option<Identity>, trusted: &Path) -> Stack {
    let mut builder = Stack::builder()
        .blobgate(env!("CARGO_BIN_EXE_blobgate"))
        .config("upload.part_size", "5MiB")
        .config("bucket.max_attempts", 2);
    if server.is_some() {
        builder = builder
            .config("bucket.ca_file", text(trusted))
            // The registry has no setting for an authority of its own.
            .registry(|registry| {
                registry.config = json!({"storage": {"s3": {"skipverify": true}}})
            });
    }
    builder.s3(move |s3| s3.tls = server).start().unwrap()
}

#[tokio::test]
async fn a_bucket_with_a_custom_authority_is_trusted() {
    let (server, files, _dir) = identity(&["localhost"]);
    let stack = bucket_of(Some(server), &files.ca);
    for (seed, size) in [(1, 1000), (2, 2 * PART + 1)] {
        let blob = Blob::new(seed, size);
        let answer = stream(&stack, "a", blob, true).await;
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
        assert_served(&stack, "a", &blob.sha256(), &blob.bytes()).await;
    }
}

#[tokio::test]
async fn a_bucket_of_another_authority_is_refused_and_said_so() {
    let (server, _, _dir) = identity(&["localhost"]);
    let (_, stranger, _stranger_dir) = identity(&["localhost"]);
    let stack = bucket_of(Some(server), &stranger.ca);
    let answer = stream(&stack, "a", Blob::new(1, 1000), true).await;
    let (status, code, error) = error_of(answer).await;
    assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"), "{error}");
    // The reason is the operator's, and so it is in the log.
    let log = stack.blobgate().log();
    assert!(log.contains("certificate verify failed"), "{log}");
    assert_bucket_empty(&stack);
}

/// The bucket in the host name, `registry.localhost`, over http and https.
#[tokio::test]
async fn a_bucket_with_a_host_name_of_its_own() {
    // Who would ask for the bucket in the path would meet a certificate of another name.
    let (server, files, _dir) = identity(&["registry.localhost"]);
    for secure in [false, true] {
        let mut stack = bucket_of(secure.then(|| server.clone()), &files.ca);
        let scheme = if secure { "https" } else { "http" };
        let endpoint = format!("{scheme}://localhost:{}", stack.s3().address().port());
        stack
            .restart_blobgate(|config| {
                config
                    .set("bucket.endpoint", endpoint)
                    .set("bucket.path_style", false)
            })
            .unwrap();
        for (seed, size) in [(1, 1000), (2, 2 * PART + 1)] {
            let blob = Blob::new(seed, size);
            let answer = stream(&stack, "a", blob, true).await;
            assert_eq!(
                answer.status(),
                201,
                "{scheme}: {}",
                answer.text().await.unwrap()
            );
            assert_served(&stack, "a", &blob.sha256(), &blob.bytes()).await;
        }
    }
}

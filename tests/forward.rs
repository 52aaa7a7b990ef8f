//! Everything but a push by digest behaves as if blobgate were not there.

mod common;

use blobgate_testkit::blob::{Blob, sha256};
use blobgate_testkit::faults::{Fault, Rule};
use blobgate_testkit::http::RawConnection;
use blobgate_testkit::stack::Stack;
use common::*;
use reqwest::Body;
use std::path::Path;
use std::process::Command;

/// Opens an upload session through blobgate; its URL.
async fn session(stack: &Stack) -> String {
    let url = format!("{}/v2/a/blobs/uploads/", stack.blobgate().url());
    let answer = client().post(url).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    answer.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_push_leads_back_through_blobgate() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 12 * MIB);
    let location = session(&stack).await;
    assert!(location.starts_with(&stack.blobgate().url()), "{location}");

    let chunked = Body::wrap_stream(blob.stream(100_000));
    let answer = client()
        .patch(&location)
        .body(chunked)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 202);
    let location = answer.headers()["location"].to_str().unwrap();
    assert!(location.starts_with(&stack.blobgate().url()), "{location}");

    let url = format!("{location}&digest={}", blob.sha256());
    let answer = client()
        .put(url)
        .header("content-length", 0)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    assert_served(&stack, "a", &blob.sha256(), &blob.bytes()).await;
}

#[tokio::test]
async fn the_registry_hears_by_what_name_it_was_called() {
    let stack = stack().start().unwrap();
    let location = |headers: &'static str| {
        let address = stack.blobgate().address();
        async move {
            let mut connection = RawConnection::open(address).await.unwrap();
            let request = format!(
                "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: registry.example:7\r\n{headers}\
                 Content-Length: 0\r\n\r\n"
            );
            connection.send(request).await.unwrap();
            let answer = connection.response().await.unwrap();
            answer.header("location").unwrap().to_owned()
        }
    };
    let plain = location("").await;
    assert!(
        plain.starts_with("http://registry.example:7/v2/a/"),
        "{plain}"
    );
    // What a client claims of itself is not believed.
    let forged = location(
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\
         Forwarded: host=evil.example;proto=https\r\n",
    )
    .await;
    assert!(
        forged.starts_with("http://registry.example:7/v2/a/"),
        "{forged}"
    );
}

#[tokio::test]
async fn what_a_trusted_proxy_says_is_passed_on() {
    let stack = stack()
        .config("listen.trust_forwarded", true)
        .start()
        .unwrap();
    let mut connection = RawConnection::open(stack.blobgate().address())
        .await
        .unwrap();
    connection
        .send(
            "POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: inner\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: outer.example\r\nContent-Length: 0\r\n\r\n",
        )
        .await
        .unwrap();
    let answer = connection.response().await.unwrap();
    let location = answer.header("location").unwrap();
    assert!(
        location.starts_with("https://outer.example/v2/a/"),
        "{location}"
    );
}

#[tokio::test]
async fn ranges_heads_redirects_and_errors_pass_through() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 100_000);
    let url = blob_url(&stack, "a", &blob.sha256());
    assert_eq!(stream(&stack, "a", blob, true).await.status(), 201);

    let head = client().head(&url).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["content-length"], "100000");

    let range = client()
        .get(&url)
        .header("range", "bytes=10-19")
        .send()
        .await
        .unwrap();
    assert_eq!(range.status(), 206);
    assert_eq!(range.bytes().await.unwrap(), blob.bytes().slice(10..20));

    let missing = client()
        .get(blob_url(&stack, "a", &sha256("none")))
        .send()
        .await
        .unwrap();
    let (status, code, _) = error_of(missing).await;
    assert_eq!((status, code.as_str()), (404, "BLOB_UNKNOWN"));

    let base = client()
        .get(format!("{}/v2/", stack.blobgate().url()))
        .send()
        .await
        .unwrap();
    assert_eq!(base.status(), 200);
    assert_eq!(
        base.headers()["docker-distribution-api-version"],
        "registry/2.0"
    );
}

#[tokio::test]
async fn a_redirect_to_the_bucket_is_the_clients_to_follow() {
    let stack = stack()
        .registry(|registry| registry.redirect = true)
        .start()
        .unwrap();
    let blob = Blob::new(1, 100_000);
    assert_eq!(stream(&stack, "a", blob, true).await.status(), 201);
    let url = blob_url(&stack, "a", &blob.sha256());
    let answer = client().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), 307);
    let presigned = answer.headers()["location"].to_str().unwrap();
    let served = client().get(presigned).send().await.unwrap();
    assert_eq!(served.bytes().await.unwrap(), blob.bytes());
    // And a blob that is only redirected to is still known to be there.
    assert_eq!(stream(&stack, "a", blob, true).await.status(), 201);
    assert_eq!(pushes(&stack, "existing"), 1.0);
}

#[tokio::test]
async fn a_waiting_client_is_told_to_go_on_by_the_registry() {
    let stack = stack().start().unwrap();
    let location = session(&stack).await;
    let path = location.strip_prefix(&stack.blobgate().url()).unwrap();
    let mut connection = RawConnection::open(stack.blobgate().address())
        .await
        .unwrap();
    let host = stack.blobgate().address();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    );
    connection.send(head).await.unwrap();
    assert_eq!(connection.response().await.unwrap().status, 100);
    connection.send("hello").await.unwrap();
    assert_eq!(connection.response().await.unwrap().status, 202);
}

#[tokio::test]
async fn an_upstream_that_fails_is_502_or_504_in_json() {
    let stack = stack()
        .registry_faults()
        .config("upstream.idle_timeout", "300ms")
        .start()
        .unwrap();
    for (fault, expected) in [
        (Fault::Hang { effect: false }, 504),
        (Fault::Garbage, 502),
        (Fault::CutAnswer, 502),
    ] {
        stack.registry_faults().clear();
        stack.registry_faults().add(Rule::new(fault.clone()));
        let url = format!("{}/v2/a/tags/list", stack.blobgate().url());
        let answer = client().post(url).body("x").send().await.unwrap();
        let (status, code, _) = error_of(answer).await;
        assert_eq!(
            (status, code.as_str()),
            (expected, "UNAVAILABLE"),
            "{fault:?}"
        );
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    stack.registry_faults().clear();
    stack.registry_faults().set_upstream(nobody);
    let url = format!("{}/v2/", stack.blobgate().url());
    let (status, code, _) = error_of(client().get(url).send().await.unwrap()).await;
    assert_eq!((status, code.as_str()), (502, "UNAVAILABLE"));
}

/// An OCI image layout with one layer; its manifest.
fn image_layout(dir: &Path, layer: Blob) -> Vec<u8> {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let store = |content: &[u8]| {
        let digest = sha256(content);
        std::fs::write(blobs.join(digest.strip_prefix("sha256:").unwrap()), content).unwrap();
        digest
    };
    let layer_digest = store(&layer.bytes());
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    })
    .to_string();
    let config_digest = store(config.as_bytes());
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": config_digest, "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": layer_digest, "size": layer.size}],
    })
    .to_string();
    let manifest_digest = store(manifest.as_bytes());
    let index = serde_json::json!({
        "schemaVersion": 2,
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                       "digest": manifest_digest, "size": manifest.len(),
                       "annotations": {"org.opencontainers.image.ref.name": "latest"}}],
    });
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    manifest.into_bytes()
}

fn skopeo_copy(from: &str, to: &str) {
    let output = Command::new("skopeo")
        .args([
            "--insecure-policy",
            "copy",
            // Else it compresses the layer on its way.
            "--preserve-digests",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ])
        .args([from, to])
        .output()
        .expect("skopeo runs (Debian package skopeo)");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn skopeo_copies_an_image_through_blobgate_and_back() {
    let stack = stack().start().unwrap();
    let layer = Blob::new(1, 12 * MIB);
    let (here, back) = (stack.dir().join("image"), stack.dir().join("back"));
    image_layout(&here, layer);
    let image = format!("docker://{}/team/app:1.0", stack.blobgate().address());
    skopeo_copy(&format!("oci:{}:latest", here.display()), &image);
    skopeo_copy(&image, &format!("oci:{}:latest", back.display()));
    let path = format!(
        "blobs/sha256/{}",
        layer.sha256().strip_prefix("sha256:").unwrap()
    );
    assert!(std::fs::read(back.join(path)).unwrap() == layer.bytes());
}

#[tokio::test]
async fn skopeo_pulls_an_image_whose_blobs_were_pushed_by_digest() {
    let stack = stack().start().unwrap();
    let layer = Blob::new(1, 3 * PART + 1);
    let (here, back) = (stack.dir().join("image"), stack.dir().join("back"));
    let manifest = image_layout(&here, layer);
    let parsed: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let config = parsed["config"]["digest"].as_str().unwrap();
    let config_path = here.join("blobs").join(config.replace(':', "/"));

    assert_eq!(stream(&stack, "team/app", layer, true).await.status(), 201);
    let content = std::fs::read(config_path).unwrap();
    assert_eq!(put(&stack, "team/app", config, content).await.status(), 201);
    let answer = client()
        .put(format!(
            "{}/v2/team/app/manifests/2.0",
            stack.blobgate().url()
        ))
        .header("content-type", "application/vnd.oci.image.manifest.v1+json")
        .body(manifest)
        .send()
        .await
        .unwrap();
    assert_eq!(
        answer.status(),
        201,
        "the registry finds every blob the manifest names"
    );
    let image = format!("docker://{}/team/app:2.0", stack.blobgate().address());
    skopeo_copy(&image, &format!("oci:{}:latest", back.display()));
    let path = format!(
        "blobs/sha256/{}",
        layer.sha256().strip_prefix("sha256:").unwrap()
    );
    assert!(std::fs::read(back.join(path)).unwrap() == layer.bytes());
}

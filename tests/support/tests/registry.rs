//! The real registry, and a real client of it, on the S3 server.

use std::fs;
use std::path::Path;
use std::process::Command;

use blobgate_testkit::blob::{Blob, sha256};
use blobgate_testkit::faults::{Dialect, FaultProxy};
use blobgate_testkit::registry::{Registry, RegistryOptions};
use blobgate_testkit::s3::{S3Options, S3Server};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn start(dir: &Path, edit: impl FnOnce(&mut RegistryOptions)) -> (S3Server, Registry) {
    let s3 = S3Server::start(S3Options::new(dir.join("s3"))).unwrap();
    let mut options = RegistryOptions::new(dir.join("registry"), &s3);
    edit(&mut options);
    let registry = Registry::start(&options).unwrap();
    (s3, registry)
}

fn get(url: &str) -> reqwest::blocking::Response {
    let client = reqwest::blocking::Client::builder().no_proxy().build();
    client.unwrap().get(url).send().unwrap()
}

fn skopeo(arguments: &[&str]) {
    let mut command = Command::new("skopeo");
    command.args(["--insecure-policy", "copy"]).args(arguments);
    // Else it compresses the layer on its way.
    command.arg("--preserve-digests");
    command.env_remove("HTTP_PROXY").env_remove("HTTPS_PROXY");
    command.env_remove("http_proxy").env_remove("https_proxy");
    let output = command
        .output()
        .expect("no skopeo: install it (apt-get install skopeo)");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo {arguments:?}: {log}");
}

/// Writes an image with one uncompressed layer as an OCI layout; returns the layer's digest.
fn image(dir: &Path, layer: &[u8]) -> String {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let add = |kind: &str, content: &[u8]| {
        let digest = sha256(content);
        fs::write(blobs.join(&digest["sha256:".len()..]), content).unwrap();
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    };
    let document = |kind: &str, content: Value| add(kind, content.to_string().as_bytes());

    let layer = add("layer.v1.tar", layer);
    let config = document(
        "config.v1+json",
        json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        }),
    );
    let manifest = document(
        "manifest.v1+json",
        json!({ "schemaVersion": 2, "config": config, "layers": [layer] }),
    );
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    layer["digest"].as_str().unwrap().to_owned()
}

fn data_key(digest: &str) -> String {
    let (algorithm, hex) = digest.split_once(':').unwrap();
    let shard = &hex[..2];
    format!("docker/registry/v2/blobs/{algorithm}/{shard}/{hex}/data")
}

fn link_key(name: &str, digest: &str) -> String {
    let path = digest.replace(':', "/");
    format!("docker/registry/v2/repositories/{name}/_layers/{path}/link")
}

#[test]
fn an_image_goes_in_and_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let (s3, registry) = start(dir.path(), |_| ());
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    fs::create_dir_all(&source).unwrap();
    // Above 32 MiB the registry commits with UploadPartCopy.
    let layer = Blob::new(1, 40 * MIB);
    let digest = image(&source, &layer.bytes());

    let remote = format!("docker://{}/team/app:1", registry.address());
    let from = format!("oci:{}", source.display());
    skopeo(&["--dest-tls-verify=false", &from, &remote]);
    let to = format!("oci:{}:1", target.display());
    skopeo(&["--src-tls-verify=false", &remote, &to]);

    let content = s3.read_object("registry", &data_key(&digest)).unwrap();
    assert_eq!(content, layer.bytes());
    let copied = target.join("blobs/sha256").join(&digest["sha256:".len()..]);
    assert_eq!(fs::read(copied).unwrap(), layer.bytes());
    assert!(s3.calls().contains_key("UploadPartCopy"));
    assert_eq!(s3.open_uploads("registry"), []);
}

#[test]
fn data_and_link_make_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let (s3, registry) = start(dir.path(), |_| ());
    let blob = Blob::new(2, 3 * MIB);
    for digest in [blob.sha256(), blob.sha512()] {
        let url = format!("{}/v2/team/app/blobs/{digest}", registry.url());
        s3.put_object("registry", &data_key(&digest), blob.bytes());
        assert_eq!(get(&url).status(), 404, "{digest} without a link");

        let link = link_key("team/app", &digest);
        s3.put_object("registry", &link, digest.clone());
        let answer = get(&url);
        assert_eq!(answer.status(), 200, "{digest}: {}", registry.log());
        assert_eq!(answer.headers()["docker-content-digest"], digest.as_str());
        assert_eq!(answer.bytes().unwrap(), blob.bytes());

        let client = reqwest::blocking::Client::builder().no_proxy().build();
        let part = client
            .unwrap()
            .get(&url)
            .header("Range", "bytes=1048576-1048676");
        let part = part.send().unwrap();
        assert_eq!(part.status(), 206);
        assert_eq!(part.bytes().unwrap(), blob.bytes().slice(1048576..1048677));
    }
}

#[test]
fn a_redirected_pull_has_a_signature_that_s3_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let (s3, registry) = start(dir.path(), |options| options.redirect = true);
    let blob = Blob::new(3, MIB);
    let digest = blob.sha256();
    s3.put_object("registry", &data_key(&digest), blob.bytes());
    s3.put_object("registry", &link_key("a", &digest), digest.clone());
    let answer = get(&format!("{}/v2/a/blobs/{digest}", registry.url()));
    assert_eq!(answer.url().port(), Some(s3.address().port()));
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().unwrap(), blob.bytes());
}

#[test]
fn users_read_only_mode_root_directory_and_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let (s3, registry) = start(dir.path(), |options| {
        options.users = vec![("ann".into(), "secret".into())];
        options.root_directory = Some("/some/root".into());
    });
    let client = reqwest::blocking::Client::builder().no_proxy().build();
    let client = client.unwrap();
    let base = registry.url();
    assert_eq!(get(&format!("{base}/v2/")).status(), 401);
    let digest = Blob::new(4, 100).sha256();
    s3.put_object(
        "registry",
        &format!("some/root/{}", data_key(&digest)),
        Blob::new(4, 100).bytes(),
    );
    s3.put_object(
        "registry",
        &format!("some/root/{}", link_key("a", &digest)),
        digest.clone(),
    );
    let url = format!("{base}/v2/a/blobs/{digest}");
    let ask = |request: reqwest::blocking::RequestBuilder| {
        let request = request.basic_auth("ann", Some("secret"));
        request.send().unwrap().status().as_u16()
    };
    assert_eq!(ask(client.head(&url)), 200);
    assert_eq!(ask(client.delete(&url)), 202);
    assert_eq!(ask(client.head(&url)), 404);

    drop(registry);
    let mut options = RegistryOptions::new(dir.path().join("second"), &s3);
    options.read_only = true;
    let registry = Registry::start(&options).unwrap();
    let uploads = format!("{}/v2/a/blobs/uploads/", registry.url());
    assert_eq!(ask(client.post(&uploads)), 405);
}

#[test]
fn a_missing_program_and_a_wrong_config_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let s3 = S3Server::start(S3Options::new(dir.path().join("s3"))).unwrap();
    let mut options = RegistryOptions::new(dir.path().join("registry"), &s3);
    options.binary = "no-such-registry".into();
    let error = Registry::start(&options).unwrap_err().to_string();
    assert!(error.contains("apt-get install docker-registry"), "{error}");

    options.binary = "docker-registry".into();
    options.config = json!({ "http": { "addr": "not an address" } });
    let error = Registry::start(&options).unwrap_err().to_string();
    assert!(error.contains("not an address"), "{error}");
}

#[test]
fn signatures_hold_through_a_fault_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let s3 = S3Server::start(S3Options::new(dir.path().join("s3"))).unwrap();
    let proxy = FaultProxy::start(s3.address(), Dialect::S3).unwrap();
    let mut options = RegistryOptions::new(dir.path().join("registry"), &s3);
    options.s3_endpoint = proxy.url();
    let registry = Registry::start(&options).unwrap();
    let source = dir.path().join("source");
    fs::create_dir_all(&source).unwrap();
    image(&source, &Blob::new(5, 12 * MIB).bytes());
    skopeo(&[
        "--dest-tls-verify=false",
        &format!("oci:{}", source.display()),
        &format!("docker://{}/a:1", registry.address()),
    ]);
    assert_eq!(proxy.calls(), s3.calls());
}

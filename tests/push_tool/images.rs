//! Whole images: every blob before the manifests, children before their index, tags last.

use crate::server::{Plan, Server, generous, reply};
use crate::{Run, run, sha256, tool};
use serde_json::{Value, json};
use std::path::Path;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn blob(layout: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = sha256(bytes);
    std::fs::write(layout.join("blobs/sha256").join(&digest[7..]), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
}

/// One index, tagged `v1`, with two images of two layers that share one.
fn layout() -> (tempfile::TempDir, Vec<Value>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
    std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let images = ["one", "two"].map(|name| {
        let layers = ["shared", name].map(|layer| blob(path, "layer", layer.as_bytes()));
        let config = blob(path, "config", b"{}");
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        blob(path, MANIFEST, manifest.to_string().as_bytes())
    });
    let index = json!({"schemaVersion": 2, "manifests": images}).to_string();
    let mut root = blob(path, INDEX, index.as_bytes());
    let [one, two] = images;
    let all = vec![one, two, root.clone()];
    root["annotations"] = json!({"org.opencontainers.image.ref.name": "v1"});
    let index = json!({"schemaVersion": 2, "manifests": [root]}).to_string();
    std::fs::write(path.join("index.json"), index).unwrap();
    (directory, all)
}

fn push(server: &Server, layout: &str, options: &[&str]) -> Run {
    run(tool()
        .args(["--json", &server.url(), "a/b", "--layout", layout])
        .args(options))
}

#[test]
fn pushes_blobs_then_manifests_then_tags() {
    let (directory, manifests) = layout();
    let path = directory.path().to_str().unwrap();
    let server = Server::generous();
    let report = push(&server, path, &[]).expect(0).json();
    assert_eq!(report["total"]["pushed"], 4);
    assert_eq!(report["manifests"][2]["tags"], json!(["v1"]));

    let puts = server.of("PUT");
    let (blobs, rest) = puts.split_at(4);
    assert!(
        blobs
            .iter()
            .all(|put| put.target.starts_with("/v2/a/b/blobs/sha256:"))
    );
    let digests = manifests.iter().map(|m| m["digest"].as_str().unwrap());
    let expected: Vec<String> = digests
        .chain(["v1"])
        .map(|reference| format!("/v2/a/b/manifests/{reference}"))
        .collect();
    let targets: Vec<&str> = rest.iter().map(|put| put.target.as_str()).collect();
    assert_eq!(targets, expected);
    assert_eq!(rest[0].header("content-type"), Some(MANIFEST));
    assert_eq!(rest[2].header("content-type"), Some(INDEX));
    assert_eq!(sha256(&rest[2].body), manifests[2]["digest"]);
    assert_eq!(rest[2].body, rest[3].body);
}

#[test]
fn a_tag_of_the_users_replaces_the_ref_name() {
    let (directory, _) = layout();
    let path = format!("{}:v1", directory.path().display());
    let server = Server::generous();
    push(&server, &path, &["--tag=stable"]).expect(0);
    let last = server.of("PUT").pop().unwrap().target;
    assert_eq!(last, "/v2/a/b/manifests/stable");

    let path = format!("{}:v2", directory.path().display());
    let run = push(&server, &path, &[]).expect(1);
    assert!(run.stderr.contains("there are: v1"), "{}", run.stderr);
}

#[test]
fn no_manifest_names_what_is_not_there() {
    let (directory, manifests) = layout();
    let path = directory.path().to_str().unwrap();
    let refused = sha256(b"shared");
    let server = Server::start(move |seen| {
        if seen.method == "PUT" && seen.target.ends_with(&refused) {
            Plan::Answer(reply(403))
        } else {
            generous(seen)
        }
    });
    let report = push(&server, path, &[]).expect(1).json();
    assert_eq!(report["total"]["failed"], 1);
    assert!(
        !server
            .of("PUT")
            .iter()
            .any(|put| put.target.contains("/manifests/"))
    );

    let first = manifests[0]["digest"].as_str().unwrap().to_owned();
    let server = Server::start(move |seen| match seen.target.ends_with(&first) {
        true => Plan::Answer(reply(400).error("MANIFEST_INVALID", "no")),
        false => generous(seen),
    });
    let report = push(&server, path, &[]).expect(1).json();
    assert_eq!(
        report["manifests"][0]["error"]["codes"][0],
        "MANIFEST_INVALID"
    );
    assert_eq!(report["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn a_damaged_blob_is_told_from_damage_on_the_way() {
    let (directory, _) = layout();
    let file = directory
        .path()
        .join("blobs/sha256")
        .join(&sha256(b"shared")[7..]);
    std::fs::write(file, b"sharks").unwrap();
    let damaged = sha256(b"shared");
    let server = Server::start(move |seen| {
        if seen.method == "PUT" && seen.target.ends_with(&damaged) {
            Plan::Answer(reply(400).error("DIGEST_INVALID", "no match"))
        } else {
            generous(seen)
        }
    });
    let run = push(&server, directory.path().to_str().unwrap(), &[]).expect(1);
    let report = run.json();
    let blobs = report["blobs"].as_array().unwrap();
    let failed = blobs
        .iter()
        .find(|blob| blob["outcome"] == "failed")
        .unwrap();
    assert_eq!(failed["error"]["kind"], "differs");
}

use super::*;
use blobgate::registry::Algorithm;
use serde_json::{Value, json};

struct Images(tempfile::TempDir);

impl Images {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        let marker = r#"{"imageLayoutVersion": "1.0.0"}"#;
        std::fs::write(directory.path().join("oci-layout"), marker).unwrap();
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let mut hasher = DigestHasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        let digest = hasher.finish();
        std::fs::write(self.path().join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    fn json(&self, media_type: &str, value: &Value) -> Value {
        self.blob(media_type, value.to_string().as_bytes())
    }

    fn image(&self, layers: &[&str]) -> Value {
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| self.blob("application/vnd.oci.image.layer.v1.tar", layer.as_bytes()))
            .collect();
        let config = self.blob("application/vnd.oci.image.config.v1+json", b"{}");
        self.json(MANIFESTS[0], &json!({"config": config, "layers": layers}))
    }

    fn index(&self, roots: &[(Value, Option<&str>)]) {
        let roots: Vec<Value> = roots
            .iter()
            .map(|(root, name)| {
                let mut root = root.clone();
                if let Some(name) = name {
                    root["annotations"] = json!({REF_NAME: name});
                }
                root
            })
            .collect();
        let index = json!({"schemaVersion": 2, "manifests": roots}).to_string();
        std::fs::write(self.path().join("index.json"), index).unwrap();
    }

    fn error(&self, reference: Option<&str>, tag: Option<&str>) -> String {
        read(self.path(), reference, tag).unwrap_err().to_string()
    }
}

fn digest(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap()
}

fn order(layout: &Layout) -> Vec<String> {
    let manifests = layout.manifests.iter();
    manifests
        .map(|manifest| manifest.digest.to_string())
        .collect()
}

#[test]
fn a_nested_index_comes_after_all_it_names_and_shared_blobs_come_once() {
    let images = Images::new();
    let (one, two) = (
        images.image(&["base", "one"]),
        images.image(&["base", "two"]),
    );
    let inner = images.json(INDEXES[0], &json!({"manifests": [two]}));
    let outer = images.json(INDEXES[1], &json!({"manifests": [one, inner, two]}));
    images.index(&[(outer.clone(), Some("v1"))]);

    let layout = read(images.path(), None, None).unwrap();
    let expected: Vec<&str> = [&one, &two, &inner, &outer]
        .into_iter()
        .map(digest)
        .collect();
    assert_eq!(order(&layout), expected);
    // base, one, two and the one config.
    assert_eq!(layout.blobs.len(), 4);
    assert_eq!(layout.manifests[3].tags, ["v1"]);
    assert_eq!(layout.manifests[3].media_type, INDEXES[1]);
    assert!(layout.manifests[..3].iter().all(|m| m.tags.is_empty()));
}

#[test]
fn refs_pick_and_name_images() {
    let images = Images::new();
    let (one, two) = (images.image(&["one"]), images.image(&["two"]));
    images.index(&[
        (one.clone(), Some("v1")),
        (two.clone(), Some("registry.test/a:v2")),
        (one.clone(), Some("latest")),
    ]);

    let layout = read(images.path(), None, None).unwrap();
    assert_eq!(order(&layout), [digest(&one), digest(&two)]);
    assert_eq!(layout.manifests[0].tags, ["v1", "latest"]);
    assert!(layout.manifests[1].tags.is_empty());
    assert!(layout.notes[0].contains("is no tag"), "{:?}", layout.notes);

    let layout = read(images.path(), Some("registry.test/a:v2"), Some("x")).unwrap();
    assert_eq!(order(&layout), [digest(&two)]);
    assert_eq!(layout.manifests[0].tags, ["x"]);

    assert!(
        images
            .error(Some("v3"), None)
            .contains("v1, registry.test/a:v2, latest")
    );
    assert!(
        images
            .error(None, Some("x"))
            .contains("one tag for 2 images")
    );
}

#[test]
fn damage_is_found_before_anything_is_sent() {
    let images = Images::new();
    let image = images.image(&["one"]);
    images.index(&[(image.clone(), None)]);
    let blobs = images.path().join("blobs/sha256");
    let file = |descriptor: &Value| blobs.join(&digest(descriptor)[7..]);

    let layer = images.blob("", b"one");
    std::fs::write(file(&layer), b"longer").unwrap();
    assert!(
        images
            .error(None, None)
            .contains("says 3 bytes, the file has 6")
    );
    std::fs::remove_file(file(&layer)).unwrap();
    assert!(images.error(None, None).contains("needs this blob"));
    images.blob("", b"one");

    let text = std::fs::read_to_string(file(&image)).unwrap();
    std::fs::write(file(&image), text.replace("layers", "lawyers")).unwrap();
    assert!(images.error(None, None).contains("the file has"));
    std::fs::write(file(&image), text.replace("layers", "Layers")).unwrap();
    assert!(images.error(None, None).contains("should have the digest"));
    std::fs::write(file(&image), text).unwrap();
    assert!(read(images.path(), None, None).is_ok());

    let mut evil = image.clone();
    evil["digest"] = json!("sha256:../../../secret");
    images.index(&[(evil, None)]);
    assert!(images.error(None, None).contains("hex digits"));
    images.index(&[]);
    assert!(images.error(None, None).contains("no images"));
    std::fs::remove_file(images.path().join("oci-layout")).unwrap();
    assert!(images.error(None, None).contains("not an OCI image layout"));
}

#[test]
fn a_blob_kept_elsewhere_may_be_missing() {
    let images = Images::new();
    let config = images.blob("application/vnd.oci.image.config.v1+json", b"{}");
    let layer = json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": format!("sha256:{}", "0".repeat(64)), "size": 1,
        "urls": ["https://elsewhere.test/layer"],
    });
    let image = images.json(MANIFESTS[1], &json!({"config": config, "layers": [layer]}));
    images.index(&[(image, None)]);
    let layout = read(images.path(), None, None).unwrap();
    assert_eq!(layout.blobs.len(), 1);
    assert!(layout.notes[0].contains("kept elsewhere"));
}

#[test]
fn takes_directory_and_ref_apart() {
    let images = Images::new();
    let path = images.path().to_str().unwrap();
    assert_eq!(split_argument(path), (path.into(), None));
    for reference in ["v1", "registry.test:5000/a:v1"] {
        let argument = format!("{path}:{reference}");
        assert_eq!(split_argument(&argument), (path.into(), Some(reference)));
    }
    let colon = format!("{path}/a:b");
    std::fs::create_dir(&colon).unwrap();
    assert_eq!(split_argument(&colon), (PathBuf::from(&colon), None));
    std::fs::write(format!("{colon}/oci-layout"), "").unwrap();
    let argument = format!("{colon}:v1");
    assert_eq!(
        split_argument(&argument),
        (PathBuf::from(&colon), Some("v1"))
    );
    assert_eq!(split_argument("none:v1"), ("none".into(), Some("v1")));
}

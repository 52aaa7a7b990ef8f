//! Reads an [OCI image
//! layout](https://github.com/opencontainers/image-spec/blob/main/image-layout.md): which blobs and
//! manifests an image needs, and in which order.

use crate::args;
use crate::failure::Failure;
use crate::source::Source;
use blobgate::registry::{Digest, DigestHasher};
use bytes::Bytes;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What distribution takes for a manifest (`maxManifestBodySize`).
const MAX_MANIFEST: u64 = 4 << 20;

const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

#[derive(Debug, Default)]
pub struct Layout {
    /// Each once, however many images share it.
    pub blobs: Vec<Blob>,
    /// Children before the indexes that name them: a registry refuses an index that names what it
    /// doesn't have.
    pub manifests: Vec<Manifest>,
    /// What is left out, and why.
    pub notes: Vec<String>,
    seen: HashSet<Digest>,
}

#[derive(Debug)]
pub struct Blob {
    pub digest: Digest,
    pub source: Arc<Source>,
}

#[derive(Debug)]
pub struct Manifest {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Bytes,
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    urls: Vec<String>,
}

impl Descriptor {
    fn ref_name(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct ImageManifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Takes `DIR[:REF]` apart. A directory may have a colon in its name, and so may a ref.
pub fn split_argument(argument: &str) -> (PathBuf, Option<&str>) {
    let colons = argument.match_indices(':').map(|(at, _)| at);
    let is_layout = |at: &usize| Path::new(&argument[..*at]).join("oci-layout").exists();
    if Path::new(argument).is_dir() {
        return (argument.into(), None);
    }
    match colons.clone().find(is_layout).or(colons.min()) {
        Some(at) => (argument[..at].into(), Some(&argument[at + 1..])),
        None => (argument.into(), None),
    }
}

/// Reads the layout in `directory`: the image with this ref name, or all of them. `tag` replaces
/// the tags that the ref names give.
pub fn read(
    directory: &Path,
    reference: Option<&str>,
    tag: Option<&str>,
) -> Result<Layout, Failure> {
    let wrong = |reason: String| Failure::File {
        path: directory.to_owned(),
        reason,
    };
    let marker: serde_json::Value = parse(&directory.join("oci-layout"))
        .map_err(|failure| wrong(format!("not an OCI image layout: {failure}")))?;
    if marker["imageLayoutVersion"] != "1.0.0" {
        return Err(wrong("an image layout of unknown version".into()));
    }
    let index: Index = parse(&directory.join("index.json"))?;
    let roots: Vec<&Descriptor> = index
        .manifests
        .iter()
        .filter(|root| reference.is_none() || root.ref_name() == reference)
        .collect();
    if roots.is_empty() {
        let names: Vec<&str> = index
            .manifests
            .iter()
            .filter_map(Descriptor::ref_name)
            .collect();
        return Err(wrong(match reference {
            Some(reference) => format!(
                "no image has the ref name {reference:?}; there are: {}",
                names.join(", ")
            ),
            None => "the layout has no images".into(),
        }));
    }
    let distinct: HashSet<&str> = roots.iter().map(|root| root.digest.as_str()).collect();
    if tag.is_some() && distinct.len() > 1 {
        return Err(wrong(format!(
            "one tag for {} images: pick one with --layout DIR:REF",
            distinct.len()
        )));
    }

    let mut layout = Layout::default();
    for root in roots {
        let Some(digest) = layout.add(directory, root, None)? else {
            continue;
        };
        let manifest = layout.manifests.iter_mut().find(|m| m.digest == digest);
        let Some(manifest) = manifest else { continue };
        let wanted = tag.or(root.ref_name());
        match wanted.map(|wanted| (wanted, args::tag(wanted))) {
            Some((_, Ok(tag))) if !manifest.tags.contains(&tag) => manifest.tags.push(tag),
            Some((name, Err(_))) => layout.notes.push(format!(
                "the ref name {name:?} is no tag: pushing {digest} without; --tag gives one"
            )),
            _ => (),
        }
    }
    Ok(layout)
}

impl Layout {
    /// Adds what a descriptor names, and everything below it first.
    fn add(
        &mut self,
        directory: &Path,
        descriptor: &Descriptor,
        parent: Option<&Digest>,
    ) -> Result<Option<Digest>, Failure> {
        let named_by = || match parent {
            Some(parent) => format!("manifest {parent}"),
            None => "index.json".to_owned(),
        };
        let digest: Digest = descriptor.digest.parse().map_err(|error| Failure::File {
            path: directory.to_owned(),
            reason: format!("{} names {:?}: {error}", named_by(), descriptor.digest),
        })?;
        if self.seen.contains(&digest) {
            return Ok(Some(digest));
        }
        // A parsed digest has nothing in it that could lead out of the directory.
        let algorithm = digest.algorithm().as_str();
        let path = directory.join("blobs").join(algorithm).join(digest.hex());
        if !descriptor.urls.is_empty() && !path.exists() {
            self.notes.push(format!(
                "leaving out {digest}, which the layout doesn't have: it is kept elsewhere, at {}",
                descriptor.urls.join(", ")
            ));
            return Ok(None);
        }
        let source = Source::new(&path).map_err(|failure| Failure::File {
            path: path.clone(),
            reason: format!("{} needs this blob: {failure}", named_by()),
        })?;
        if source.len() != descriptor.size {
            return Err(Failure::File {
                path,
                reason: format!(
                    "{} says {} bytes, the file has {}",
                    named_by(),
                    descriptor.size,
                    source.len()
                ),
            });
        }

        let media_type = descriptor.media_type.as_str();
        let is_index = INDEXES.contains(&media_type);
        if is_index || MANIFESTS.contains(&media_type) {
            let bytes = read_manifest(&path, &digest)?;
            let children = if is_index {
                parse_bytes::<Index>(&path, &bytes)?.manifests
            } else {
                let manifest: ImageManifest = parse_bytes(&path, &bytes)?;
                let mut children = manifest.layers;
                children.push(manifest.config);
                children
            };
            for child in &children {
                self.add(directory, child, Some(&digest))?;
            }
            self.manifests.push(Manifest {
                digest: digest.clone(),
                media_type: media_type.to_owned(),
                bytes,
                tags: Vec::new(),
            });
        } else {
            self.blobs.push(Blob {
                digest: digest.clone(),
                source: Arc::new(source),
            });
        }
        self.seen.insert(digest.clone());
        Ok(Some(digest))
    }
}

fn read_manifest(path: &Path, digest: &Digest) -> Result<Bytes, Failure> {
    let bytes = read_bounded(path)?;
    let mut hasher = DigestHasher::new(digest.algorithm());
    hasher.update(&bytes);
    let found = hasher.finish();
    if found != *digest {
        return Err(Failure::Differs {
            path: path.to_owned(),
            expected: digest.clone(),
            found: found.to_string(),
        });
    }
    Ok(bytes.into())
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, Failure> {
    let io = |error| Failure::io(path, error);
    let len = std::fs::metadata(path).map_err(io)?.len();
    if len > MAX_MANIFEST {
        return Err(Failure::File {
            path: path.to_owned(),
            reason: format!("{len} bytes are too many for a manifest"),
        });
    }
    std::fs::read(path).map_err(io)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    parse_bytes(path, &read_bounded(path)?)
}

fn parse_bytes<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests;

use crate::config::LayoutKind;
use crate::registry::{Digest, RepositoryName};

/// Where a blob's objects lie in the bucket: the only place that makes object keys.
#[derive(Debug, Clone)]
pub struct Layout {
    kind: LayoutKind,
    /// Empty, or ending in `/`.
    root: String,
}

impl Layout {
    /// `root_directory` as in distribution's S3 driver: with or without slashes around it.
    pub fn new(kind: LayoutKind, root_directory: &str) -> Self {
        let root = match root_directory.trim_matches('/') {
            "" => String::new(),
            root => format!("{root}/"),
        };
        Self { kind, root }
    }

    /// Key of the blob's bytes. Distribution: `blobDataPathSpec` in `registry/storage/paths.go`.
    pub fn data_key(&self, digest: &Digest) -> String {
        let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
        match self.kind {
            LayoutKind::Distribution => {
                format!("{}{algorithm}/{}/{hex}/data", self.blob_prefix(), &hex[..2])
            }
            LayoutKind::Flat => format!("{}{algorithm}/{hex}", self.blob_prefix()),
        }
    }

    /// Key and content of the object that makes the blob visible in the repository; `None` where
    /// the layout has none. Distribution: `layerLinkPathSpec`, the content without a newline.
    pub fn link(&self, name: &RepositoryName, digest: &Digest) -> Option<(String, String)> {
        match self.kind {
            LayoutKind::Distribution => Some((
                format!(
                    "{}docker/registry/v2/repositories/{name}/_layers/{}/{}/link",
                    self.root,
                    digest.algorithm().as_str(),
                    digest.hex()
                ),
                digest.to_string(),
            )),
            LayoutKind::Flat => None,
        }
    }

    /// What every data key, and no other key, begins with.
    pub fn blob_prefix(&self) -> String {
        match self.kind {
            LayoutKind::Distribution => format!("{}docker/registry/v2/blobs/", self.root),
            LayoutKind::Flat => format!("{}blobs/", self.root),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_registries() {
        let hex = "ab".repeat(32);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        let name: RepositoryName = "team/app".parse().unwrap();

        let distribution = Layout::new(LayoutKind::Distribution, "/some/root/");
        assert_eq!(
            distribution.data_key(&digest),
            format!("some/root/docker/registry/v2/blobs/sha256/ab/{hex}/data")
        );
        assert_eq!(
            distribution.link(&name, &digest),
            Some((
                format!(
                    "some/root/docker/registry/v2/repositories/team/app/_layers/sha256/{hex}/link"
                ),
                format!("sha256:{hex}")
            ))
        );

        let flat = Layout::new(LayoutKind::Flat, "");
        assert_eq!(flat.data_key(&digest), format!("blobs/sha256/{hex}"));
        assert_eq!(flat.link(&name, &digest), None);
        assert!(flat.data_key(&digest).starts_with(&flat.blob_prefix()));
    }
}

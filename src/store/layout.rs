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
                    "{}{name}/_layers/{}/{}/link",
                    self.repository_prefix(),
                    digest.algorithm().as_str(),
                    digest.hex()
                ),
                digest.to_string(),
            )),
            LayoutKind::Flat => None,
        }
    }

    /// Key of an object that blobgate can write wherever it can write links, and that no registry
    /// takes for anything: no repository's name begins with `_`, and distribution skips such folders
    /// in its catalog and its garbage collection (`registry/storage/catalog.go`). `None` where the
    /// layout has no links.
    pub fn trial_link_key(&self) -> Option<String> {
        match self.kind {
            LayoutKind::Distribution => {
                Some(format!("{}_blobgate/doctor", self.repository_prefix()))
            }
            LayoutKind::Flat => None,
        }
    }

    /// Key of what distribution leaves of an upload session that was cancelled before anything was
    /// sent: having removed everything of it, it stores the state of its hash once more
    /// (`blobwriter.go`, `Cancel` and `Close`). `None` for what is no session's id.
    pub fn session_remains_key(&self, name: &RepositoryName, id: &str) -> Option<String> {
        let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        is_id.then(|| {
            let repositories = self.repository_prefix();
            format!("{repositories}{name}/_uploads/{id}/hashstates/sha256/0")
        })
    }

    /// What every link's key begins with, in layouts that have links.
    pub fn repository_prefix(&self) -> String {
        format!("{}docker/registry/v2/repositories/", self.root)
    }

    /// True for exactly the keys that [`Layout::data_key`] makes.
    pub fn is_data_key(&self, key: &str) -> bool {
        let Some(rest) = key.strip_prefix(&self.blob_prefix()) else {
            return false;
        };
        let mut segments = rest.split('/');
        let (algorithm, hex) = match self.kind {
            LayoutKind::Distribution => (segments.next(), segments.nth(1)),
            LayoutKind::Flat => (segments.next(), segments.next()),
        };
        let digest = match (algorithm, hex) {
            (Some(algorithm), Some(hex)) => format!("{algorithm}:{hex}").parse(),
            _ => return false,
        };
        // Made anew, the key settles whatever else there is in it.
        digest.is_ok_and(|digest| self.data_key(&digest) == key)
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

        assert_eq!(
            distribution.trial_link_key().as_deref(),
            Some("some/root/docker/registry/v2/repositories/_blobgate/doctor")
        );

        let flat = Layout::new(LayoutKind::Flat, "");
        assert_eq!(flat.trial_link_key(), None);
        assert_eq!(flat.data_key(&digest), format!("blobs/sha256/{hex}"));
        assert_eq!(flat.link(&name, &digest), None);
        assert!(flat.data_key(&digest).starts_with(&flat.blob_prefix()));
    }

    #[test]
    fn data_keys_are_told_from_all_others() {
        let hex = "ab".repeat(32);
        let long = "cd".repeat(64);
        let distribution = Layout::new(LayoutKind::Distribution, "root");
        let flat = Layout::new(LayoutKind::Flat, "root");
        for (key, expected) in [
            (
                format!("root/docker/registry/v2/blobs/sha256/ab/{hex}/data"),
                true,
            ),
            (
                format!("root/docker/registry/v2/blobs/sha512/cd/{long}/data"),
                true,
            ),
            (
                format!("root/docker/registry/v2/blobs/sha256/cd/{hex}/data"),
                false,
            ),
            (
                format!("root/docker/registry/v2/blobs/sha512/ab/{hex}/data"),
                false,
            ),
            (
                format!("root/docker/registry/v2/blobs/md5/ab/{hex}/data"),
                false,
            ),
            (
                format!("root/docker/registry/v2/blobs/sha256/ab/{hex}/data/"),
                false,
            ),
            (
                format!("root/docker/registry/v2/blobs/sha256/ab/{hex}/data2"),
                false,
            ),
            (
                format!("root/docker/registry/v2/blobs/sha256/ab/{hex}/link"),
                false,
            ),
            (
                format!("root/docker/registry/v2/blobs/sha256/ab/{hex}"),
                false,
            ),
            (
                format!(
                    "root/docker/registry/v2/blobs/sha256/AB/{}/data",
                    hex.to_uppercase()
                ),
                false,
            ),
            (
                format!("docker/registry/v2/blobs/sha256/ab/{hex}/data"),
                false,
            ),
            (
                format!("x/root/docker/registry/v2/blobs/sha256/ab/{hex}/data"),
                false,
            ),
            (
                format!("root/docker/registry/v2/repositories/a/_uploads/{hex}/data"),
                false,
            ),
            (format!("root/blobs/sha256/{hex}"), false),
            (String::new(), false),
            ("root/docker/registry/v2/blobs/".to_owned(), false),
            ("root/docker/registry/v2/blobs/sha256".to_owned(), false),
        ] {
            assert_eq!(distribution.is_data_key(&key), expected, "{key}");
        }
        for (key, expected) in [
            (format!("root/blobs/sha256/{hex}"), true),
            (format!("root/blobs/sha512/{long}"), true),
            (format!("root/blobs/sha256/{hex}/data"), false),
            (format!("root/blobs/sha256/{long}"), false),
            (format!("root/blobs/sha256/_uploads/{hex}"), false),
            (format!("blobs/sha256/{hex}"), false),
            ("root/blobs/".to_owned(), false),
        ] {
            assert_eq!(flat.is_data_key(&key), expected, "{key}");
        }
    }
}

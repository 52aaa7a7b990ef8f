use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

use super::body::{Body, BodyFiles};
use super::index::SavedBucket;

/// S3's smallest part, the last one excepted.
pub(crate) const MIN_PART_SIZE: u64 = 5 * 1024 * 1024;

/// What a request said about an object besides its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `x-amz-storage-class`.
    pub storage_class: Option<String>,
    /// `x-amz-server-side-encryption`.
    pub server_side_encryption: Option<String>,
    /// `x-amz-server-side-encryption-aws-kms-key-id`.
    pub kms_key_id: Option<String>,
    /// `x-amz-acl`.
    pub acl: Option<String>,
    /// `x-amz-meta-*`.
    pub metadata: HashMap<String, String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) attributes: Attributes,
    pub(crate) e_tag: String,
    pub(crate) modified: SystemTime,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) e_tag: String,
    pub(crate) modified: SystemTime,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) initiated: SystemTime,
    pub(crate) attributes: Attributes,
    pub(crate) parts: BTreeMap<i32, Part>,
}

#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) objects: BTreeMap<String, Object>,
    /// By upload id. Ids sort by age, so that (key, id) is S3's order of listing.
    pub(crate) uploads: BTreeMap<String, Upload>,
}

/// All buckets. The state is in memory, the bytes are in files; every change is one step under one
/// lock, so readers see an object whole or not at all.
#[derive(Debug)]
pub(crate) struct Store {
    index: PathBuf,
    pub(crate) files: BodyFiles,
    buckets: Mutex<BTreeMap<String, Bucket>>,
    /// R2's rule: all parts but the last have the same length.
    uniform_parts: bool,
}

impl Store {
    pub(crate) fn open(root: PathBuf, uniform_parts: bool) -> io::Result<Self> {
        let files = BodyFiles::new(root.join("bodies"))?;
        let index = root.join("index.json");
        let saved: BTreeMap<String, SavedBucket> = match fs::read(&index) {
            Ok(content) => serde_json::from_slice(&content)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let mut recovery = files.recovery();
        let buckets = saved
            .into_iter()
            .map(|(name, bucket)| (name, bucket.recover(&mut recovery)))
            .collect();
        recovery.remove_the_rest()?;
        Ok(Self {
            index,
            files,
            buckets: Mutex::new(buckets),
            uniform_parts,
        })
    }

    /// Leaves everything as it is for the next [`Store::open`] on the same directory.
    pub(crate) fn save(&self) -> io::Result<()> {
        let buckets = self.buckets();
        self.files.keep();
        let saved: BTreeMap<_, _> = buckets
            .iter()
            .map(|(name, bucket)| (name, SavedBucket::of(bucket)))
            .collect();
        fs::write(&self.index, serde_json::to_vec(&saved)?)
    }

    pub(crate) fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().expect("store poisoned")
    }

    /// Runs `step` on a bucket that must exist.
    pub(crate) fn with<T>(
        &self,
        bucket: &str,
        step: impl FnOnce(&mut Bucket) -> S3Result<T>,
    ) -> S3Result<T> {
        match self.buckets().get_mut(bucket) {
            Some(bucket) => step(bucket),
            None => Err(s3_error!(
                NoSuchBucket,
                "The specified bucket does not exist"
            )),
        }
    }

    pub(crate) fn object(&self, bucket: &str, key: &str) -> S3Result<Object> {
        self.with(bucket, |bucket| match bucket.objects.get(key) {
            Some(object) => Ok(object.clone()),
            None => Err(s3_error!(NoSuchKey, "The specified key does not exist.")),
        })
    }

    /// Makes the named parts the object, after S3's own checks.
    pub(crate) fn complete(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        wanted: &[(i32, String)],
    ) -> S3Result<String> {
        self.with(bucket, |bucket| {
            let upload = bucket.upload(key, upload_id)?;
            let e_tag = format!("{}-{}", new_e_tag(), wanted.len());
            let object = Object {
                attributes: upload.attributes.clone(),
                e_tag: e_tag.clone(),
                modified: SystemTime::now(),
                body: self.assemble(upload, wanted)?,
            };
            bucket.uploads.remove(upload_id);
            bucket.objects.insert(key.to_owned(), object);
            Ok(e_tag)
        })
    }

    fn assemble(&self, upload: &Upload, wanted: &[(i32, String)]) -> S3Result<Body> {
        if wanted.is_empty() {
            return Err(s3_error!(
                MalformedXML,
                "You must specify at least one part"
            ));
        }
        if !wanted.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order."
            ));
        }
        let mut bodies = Vec::new();
        for (number, e_tag) in wanted {
            match upload.parts.get(number) {
                Some(part) if part.e_tag == *e_tag => bodies.push(&part.body),
                _ => {
                    return Err(s3_error!(
                        InvalidPart,
                        "Part {number} was not uploaded, or its entity tag does not match"
                    ));
                }
            }
        }
        let all_but_last = &bodies[..bodies.len() - 1];
        if all_but_last.iter().any(|body| body.len() < MIN_PART_SIZE) {
            return Err(s3_error!(
                EntityTooSmall,
                "Your proposed upload is smaller than the minimum allowed size"
            ));
        }
        if self.uniform_parts && all_but_last.windows(2).any(|w| w[0].len() != w[1].len()) {
            return Err(s3_error!(
                InvalidPart,
                "All non-trailing parts must have the same length."
            ));
        }
        Ok(Body::join(bodies))
    }
}

impl Bucket {
    pub(crate) fn upload(&mut self, key: &str, upload_id: &str) -> S3Result<&mut Upload> {
        match self.uploads.get_mut(upload_id) {
            Some(upload) if upload.key == key => Ok(upload),
            _ => Err(s3_error!(
                NoSuchUpload,
                "The specified multipart upload does not exist. The upload ID might be invalid, \
                 or the multipart upload might have been aborted or completed."
            )),
        }
    }
}

/// An entity tag that, like S3's under KMS, is no MD5: nothing may read content out of it.
pub(crate) fn new_e_tag() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// Upload ids sort by age.
pub(crate) fn new_upload_id(initiated: SystemTime) -> String {
    let age = initiated
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("{:016x}{:016x}", age.as_nanos() as u64, fastrand::u64(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    use bytes::Bytes;
    use futures::stream;

    const KEY: &str = "k";

    struct Scene {
        store: Store,
        dir: tempfile::TempDir,
        upload_id: String,
    }

    /// A store with an open upload whose parts have these sizes.
    fn scene(sizes: &[u64], uniform_parts: bool) -> Scene {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().to_owned(), uniform_parts).unwrap();
        let initiated = SystemTime::now();
        let mut upload = Upload {
            key: KEY.to_owned(),
            initiated,
            attributes: Attributes::default(),
            parts: BTreeMap::new(),
        };
        for (number, size) in (1..).zip(sizes) {
            let content = stream::iter([io::Result::Ok(Bytes::from(vec![
                number as u8;
                *size as usize
            ]))]);
            let written = futures::executor::block_on(store.files.write(content, false));
            let part = Part {
                e_tag: format!("e{number}"),
                modified: initiated,
                body: written.unwrap().0,
            };
            upload.parts.insert(number, part);
        }
        let upload_id = new_upload_id(initiated);
        let mut bucket = Bucket::default();
        bucket.uploads.insert(upload_id.clone(), upload);
        store.buckets().insert("b".to_owned(), bucket);
        Scene {
            store,
            dir,
            upload_id,
        }
    }

    impl Scene {
        fn complete(&self, parts: &[(i32, &str)]) -> Result<String, String> {
            let wanted: Vec<_> = parts.iter().map(|(n, e)| (*n, e.to_string())).collect();
            let completed = self.store.complete("b", KEY, &self.upload_id, &wanted);
            completed.map_err(|error| error.code().as_str().to_owned())
        }
    }

    #[test]
    fn complete_is_as_strict_as_s3() {
        let scene_of = |sizes: &[u64]| scene(sizes, false);
        let two = scene_of(&[MIN_PART_SIZE, 1]);
        for (parts, code) in [
            (&[][..], "MalformedXML"),
            (&[(2, "e2"), (1, "e1")], "InvalidPartOrder"),
            (&[(1, "e1"), (1, "e1")], "InvalidPartOrder"),
            (&[(1, "e2")], "InvalidPart"),
            (&[(1, "e1"), (3, "e3")], "InvalidPart"),
        ] {
            assert_eq!(two.complete(parts), Err(code.to_owned()), "{parts:?}");
        }
        two.complete(&[(1, "e1"), (2, "e2")]).unwrap();
        let body = two.store.object("b", KEY).unwrap().body;
        assert_eq!(body.len(), MIN_PART_SIZE + 1);
        assert_eq!(
            body.slice(MIN_PART_SIZE - 1..body.len()).read().unwrap(),
            [1, 2]
        );
        assert_eq!(two.complete(&[(1, "e1")]), Err("NoSuchUpload".to_owned()));

        let small = scene_of(&[MIN_PART_SIZE - 1, 1]);
        assert_eq!(
            small.complete(&[(1, "e1"), (2, "e2")]),
            Err("EntityTooSmall".to_owned())
        );

        let error = two.store.object("c", KEY).unwrap_err();
        assert_eq!(error.code().as_str(), "NoSuchBucket");
    }

    #[test]
    fn r2_wants_parts_of_one_length() {
        let sizes = [MIN_PART_SIZE, MIN_PART_SIZE + 1, 1];
        let parts = [(1, "e1"), (2, "e2"), (3, "e3")];
        assert!(scene(&sizes, false).complete(&parts).is_ok());
        assert_eq!(
            scene(&sizes, true).complete(&parts),
            Err("InvalidPart".to_owned())
        );
    }

    #[test]
    fn files_live_as_long_as_something_refers_to_them() {
        let scene = scene(&[MIN_PART_SIZE, 1, 1], false);
        let files = || {
            fs::read_dir(scene.dir.path().join("bodies"))
                .unwrap()
                .count()
        };
        assert_eq!(files(), 3);
        scene.complete(&[(1, "e1"), (2, "e2")]).unwrap();
        assert_eq!(files(), 2);
        scene.store.buckets().get_mut("b").unwrap().objects.clear();
        assert_eq!(files(), 0);
    }

    #[test]
    fn the_next_start_finds_objects_and_open_uploads() {
        let before = scene(&[3], false);
        before.store.save().unwrap();
        let Scene {
            store,
            dir,
            upload_id,
        } = before;
        drop(store);
        fs::write(dir.path().join("bodies/left-behind"), "x").unwrap();

        let store = Store::open(dir.path().to_owned(), false).unwrap();
        let upload = store.with("b", |bucket| bucket.upload(KEY, &upload_id).cloned());
        assert_eq!(upload.unwrap().parts[&1].body.read().unwrap(), [1, 1, 1]);
        assert_eq!(fs::read_dir(dir.path().join("bodies")).unwrap().count(), 1);
    }
}

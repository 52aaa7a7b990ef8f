//! The store's state as it is written when a server stops, and read when the next one starts.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::body::{Body, Recovery};
use super::store::{Attributes, Bucket, Object, Part, Upload};

type SavedBody = Vec<(String, u64, u64)>;

/// Object or part on disk: entity tag, time, body.
#[derive(Serialize, Deserialize)]
struct SavedContent(String, SystemTime, SavedBody);

#[derive(Serialize, Deserialize)]
struct SavedUpload {
    key: String,
    initiated: SystemTime,
    attributes: Attributes,
    parts: BTreeMap<i32, SavedContent>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SavedBucket {
    objects: BTreeMap<String, (Attributes, SavedContent)>,
    uploads: BTreeMap<String, SavedUpload>,
}

impl SavedBucket {
    pub(super) fn of(bucket: &Bucket) -> Self {
        let content = |e_tag: &String, modified, body: &Body| {
            SavedContent(e_tag.clone(), modified, body.describe())
        };
        let object = |(key, o): (&String, &Object)| {
            let content = content(&o.e_tag, o.modified, &o.body);
            (key.clone(), (o.attributes.clone(), content))
        };
        let upload = |(id, u): (&String, &Upload)| {
            let part = |(n, p): (&i32, &Part)| (*n, content(&p.e_tag, p.modified, &p.body));
            let saved = SavedUpload {
                key: u.key.clone(),
                initiated: u.initiated,
                attributes: u.attributes.clone(),
                parts: u.parts.iter().map(part).collect(),
            };
            (id.clone(), saved)
        };
        Self {
            objects: bucket.objects.iter().map(object).collect(),
            uploads: bucket.uploads.iter().map(upload).collect(),
        }
    }

    pub(super) fn recover(self, files: &mut Recovery<'_>) -> Bucket {
        let mut bucket = Bucket::default();
        for (key, (attributes, SavedContent(e_tag, modified, body))) in self.objects {
            let object = Object {
                attributes,
                e_tag,
                modified,
                body: files.body(body),
            };
            bucket.objects.insert(key, object);
        }
        for (id, saved) in self.uploads {
            let mut parts = BTreeMap::new();
            for (number, SavedContent(e_tag, modified, body)) in saved.parts {
                let body = files.body(body);
                parts.insert(
                    number,
                    Part {
                        e_tag,
                        modified,
                        body,
                    },
                );
            }
            let upload = Upload {
                key: saved.key,
                initiated: saved.initiated,
                attributes: saved.attributes,
                parts,
            };
            bucket.uploads.insert(id, upload);
        }
        bucket
    }
}

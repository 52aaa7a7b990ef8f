use super::*;

use crate::s3::listing::{Page, Query, page};
use crate::s3::store::Bucket as StoredBucket;

/// S3's page size, and the most that a request may ask for.
const MAX_PAGE: i32 = 1000;

impl Service {
    pub(super) fn list(&self, input: ListObjectsInput) -> S3Result<ListObjectsOutput> {
        let marker = input.marker.clone().unwrap_or_default();
        let limit = limit(input.max_keys);
        let query = query(&input.prefix, &input.delimiter, limit);
        self.store.with(&input.bucket, |bucket| {
            let page = objects(bucket, &query, &marker);
            // Like S3, which names the next marker only where a delimiter hides the last key.
            let next = input.delimiter.as_ref().and(page.last);
            Ok(ListObjectsOutput {
                contents: Some(page.items),
                common_prefixes: Some(common_prefixes(page.common_prefixes)),
                is_truncated: Some(page.truncated),
                next_marker: next.filter(|_| page.truncated),
                max_keys: Some(limit),
                marker: Some(marker),
                name: Some(input.bucket.clone()),
                prefix: input.prefix.clone(),
                delimiter: input.delimiter.clone(),
                ..ListObjectsOutput::default()
            })
        })
    }

    pub(super) fn list_v2(&self, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
        let token = input.continuation_token.clone();
        let after = token.clone().or(input.start_after.clone());
        let limit = limit(input.max_keys);
        let query = query(&input.prefix, &input.delimiter, limit);
        self.store.with(&input.bucket, |bucket| {
            let page = objects(bucket, &query, after.as_deref().unwrap_or(""));
            let count = page.items.len() + page.common_prefixes.len();
            Ok(ListObjectsV2Output {
                contents: Some(page.items),
                common_prefixes: Some(common_prefixes(page.common_prefixes)),
                is_truncated: Some(page.truncated),
                next_continuation_token: page.last.filter(|_| page.truncated),
                key_count: i32::try_from(count).ok(),
                max_keys: Some(limit),
                continuation_token: token,
                start_after: input.start_after.clone(),
                name: Some(input.bucket.clone()),
                prefix: input.prefix.clone(),
                delimiter: input.delimiter.clone(),
                ..ListObjectsV2Output::default()
            })
        })
    }

    pub(super) fn uploads(
        &self,
        input: ListMultipartUploadsInput,
    ) -> S3Result<ListMultipartUploadsOutput> {
        let limit = limit(input.max_uploads);
        let query = query(&input.prefix, &input.delimiter, limit);
        let key_marker = input.key_marker.clone().unwrap_or_default();
        // S3 ignores an upload id marker that comes without a key marker.
        let id_marker = input
            .upload_id_marker
            .clone()
            .filter(|_| !key_marker.is_empty());
        self.store.with(&input.bucket, |bucket| {
            let mut open: Vec<_> = bucket.uploads.iter().collect();
            open.sort_by_key(|(id, upload)| (upload.key.clone(), (*id).clone()));
            open.retain(|(id, upload)| match &id_marker {
                None => upload.key > key_marker,
                Some(marker) => {
                    (upload.key.as_str(), id.as_str()) > (key_marker.as_str(), marker.as_str())
                }
            });
            let entries = open.into_iter().map(|(id, upload)| {
                let listed = MultipartUpload {
                    key: Some(upload.key.clone()),
                    upload_id: Some(id.clone()),
                    initiated: Some(upload.initiated.into()),
                    storage_class: Some(storage_class(&upload.attributes)),
                    ..MultipartUpload::default()
                };
                (upload.key.as_str(), listed)
            });
            // The markers have already done what `after` does, except for a folded prefix.
            let page: Page<MultipartUpload> = page(entries, &query, &key_marker);
            let last_id = page
                .items
                .last()
                .and_then(|upload| upload.upload_id.clone());
            Ok(ListMultipartUploadsOutput {
                uploads: Some(page.items),
                common_prefixes: Some(common_prefixes(page.common_prefixes)),
                is_truncated: Some(page.truncated),
                next_key_marker: page.last.filter(|_| page.truncated),
                next_upload_id_marker: last_id.filter(|_| page.truncated),
                max_uploads: Some(limit),
                key_marker: Some(key_marker),
                upload_id_marker: id_marker,
                bucket: Some(input.bucket.clone()),
                prefix: input.prefix.clone(),
                delimiter: input.delimiter.clone(),
                ..ListMultipartUploadsOutput::default()
            })
        })
    }

    pub(super) fn parts(&self, input: ListPartsInput) -> S3Result<ListPartsOutput> {
        let limit = limit(input.max_parts);
        let marker = input.part_number_marker.unwrap_or(0);
        self.store.with(&input.bucket, |bucket| {
            let upload = bucket.upload(&input.key, &input.upload_id)?;
            let mut after = upload.parts.iter().filter(|(number, _)| **number > marker);
            let parts: Vec<_> = after
                .by_ref()
                .take(limit as usize)
                .map(|(number, part)| Part {
                    part_number: Some(*number),
                    e_tag: e_tag(&part.e_tag),
                    size: Some(signed(part.body.len())),
                    last_modified: Some(part.modified.into()),
                    ..Part::default()
                })
                .collect();
            let last = parts.last().and_then(|part| part.part_number);
            Ok(ListPartsOutput {
                parts: Some(parts),
                is_truncated: Some(after.next().is_some()),
                next_part_number_marker: last,
                max_parts: Some(limit),
                part_number_marker: Some(marker),
                storage_class: Some(storage_class(&upload.attributes)),
                bucket: Some(input.bucket.clone()),
                key: Some(input.key.clone()),
                upload_id: Some(input.upload_id.clone()),
                ..ListPartsOutput::default()
            })
        })
    }
}

fn limit(wanted: Option<i32>) -> i32 {
    wanted.unwrap_or(MAX_PAGE).clamp(0, MAX_PAGE)
}

fn query<'a>(prefix: &'a Option<String>, delimiter: &'a Option<String>, limit: i32) -> Query<'a> {
    Query {
        prefix: prefix.as_deref().unwrap_or(""),
        delimiter: delimiter.as_deref(),
        limit: limit as usize,
    }
}

fn objects(bucket: &StoredBucket, query: &Query<'_>, after: &str) -> Page<s3s::dto::Object> {
    // Nothing with the prefix sorts before the prefix.
    let from = after.max(query.prefix).to_owned();
    let entries = bucket
        .objects
        .range(from..)
        .take_while(|(key, _)| key.starts_with(query.prefix))
        .filter(|(key, _)| key.as_str() > after)
        .map(|(key, object)| {
            let listed = s3s::dto::Object {
                key: Some(key.clone()),
                size: Some(signed(object.body.len())),
                e_tag: e_tag(&object.e_tag),
                last_modified: Some(object.modified.into()),
                ..s3s::dto::Object::default()
            };
            (key.as_str(), listed)
        });
    page(entries, query, after)
}

fn common_prefixes(prefixes: Vec<String>) -> Vec<CommonPrefix> {
    let common = |prefix| CommonPrefix {
        prefix: Some(prefix),
    };
    prefixes.into_iter().map(common).collect()
}

fn storage_class(attributes: &Attributes) -> StorageClass {
    match &attributes.storage_class {
        Some(class) => StorageClass::from(class.clone()),
        None => StorageClass::from_static(StorageClass::STANDARD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::BTreeMap;

    use crate::s3::store::Upload;

    #[test]
    fn open_uploads_are_listed_page_by_page_though_they_are_aborted_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let service = Service {
            store: Arc::new(Store::open(dir.path().to_owned(), false).unwrap()),
            calls: Arc::default(),
        };
        let mut bucket = StoredBucket::default();
        for (id, key) in [
            ("1", "p/b"),
            ("2", "p/a"),
            ("3", "p/a"),
            ("4", "p/a"),
            ("5", "q"),
        ] {
            let upload = Upload {
                key: key.to_owned(),
                initiated: SystemTime::UNIX_EPOCH,
                attributes: Attributes::default(),
                parts: BTreeMap::new(),
            };
            bucket.uploads.insert(id.to_owned(), upload);
        }
        service.store.buckets().insert("b".to_owned(), bucket);

        let mut found = Vec::new();
        let (mut key_marker, mut upload_id_marker) = (None, None);
        loop {
            let input = ListMultipartUploadsInput {
                bucket: "b".to_owned(),
                prefix: Some("p/".to_owned()),
                max_uploads: Some(2),
                key_marker,
                upload_id_marker,
                ..ListMultipartUploadsInput::default()
            };
            let page = service.uploads(input).unwrap();
            for upload in page.uploads.unwrap() {
                let id = upload.upload_id.unwrap();
                service
                    .store
                    .buckets()
                    .get_mut("b")
                    .unwrap()
                    .uploads
                    .remove(&id);
                found.push((upload.key.unwrap(), id));
            }
            if page.is_truncated != Some(true) {
                break;
            }
            (key_marker, upload_id_marker) = (page.next_key_marker, page.next_upload_id_marker);
        }
        let expected = [("p/a", "2"), ("p/a", "3"), ("p/a", "4"), ("p/b", "1")];
        assert_eq!(
            found,
            expected.map(|(key, id)| (key.to_owned(), id.to_owned()))
        );
    }
}

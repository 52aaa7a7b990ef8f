use super::*;

use crate::s3::body::Body;
use crate::s3::store::{Part as StoredPart, Upload};

impl Service {
    pub(super) fn create_upload(
        &self,
        input: CreateMultipartUploadInput,
    ) -> S3Result<CreateMultipartUploadOutput> {
        let initiated = SystemTime::now();
        let upload_id = store::new_upload_id(initiated);
        let upload = Upload {
            key: input.key.clone(),
            initiated,
            attributes: Attributes {
                content_type: input.content_type,
                storage_class: input.storage_class.map(|class| class.as_str().into()),
                server_side_encryption: input.server_side_encryption.map(|s| s.as_str().into()),
                kms_key_id: input.ssekms_key_id,
                acl: input.acl.map(|acl| acl.as_str().into()),
                metadata: input.metadata.unwrap_or_default(),
            },
            parts: Default::default(),
        };
        self.store.with(&input.bucket, |bucket| {
            bucket.uploads.insert(upload_id.clone(), upload);
            Ok(CreateMultipartUploadOutput {
                bucket: Some(input.bucket.clone()),
                key: Some(input.key),
                upload_id: Some(upload_id),
                ..CreateMultipartUploadOutput::default()
            })
        })
    }

    pub(super) async fn put_part(&self, input: UploadPartInput) -> S3Result<UploadPartOutput> {
        self.store.with(&input.bucket, |bucket| {
            bucket.upload(&input.key, &input.upload_id).map(|_| ())
        })?;
        let body = self.write(input.body, input.content_md5).await?;
        let (bucket, key) = (&input.bucket, &input.key);
        let part = self.add_part(bucket, key, &input.upload_id, input.part_number, body)?;
        Ok(UploadPartOutput {
            e_tag: e_tag(&part.e_tag),
            ..UploadPartOutput::default()
        })
    }

    pub(super) fn copy_part(&self, input: UploadPartCopyInput) -> S3Result<UploadPartCopyOutput> {
        let source = self.source(&input.copy_source)?;
        let body = match &input.copy_source_range {
            None => source.body,
            Some(range) => slice(&source.body, range)?,
        };
        let (bucket, key) = (&input.bucket, &input.key);
        let part = self.add_part(bucket, key, &input.upload_id, input.part_number, body)?;
        let result = CopyPartResult {
            e_tag: e_tag(&part.e_tag),
            last_modified: Some(part.modified.into()),
            ..CopyPartResult::default()
        };
        Ok(UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..UploadPartCopyOutput::default()
        })
    }

    /// Fails when the upload was aborted or completed while the part was on its way.
    fn add_part(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        number: i32,
        body: Body,
    ) -> S3Result<StoredPart> {
        if !(1..=10_000).contains(&number) {
            return Err(s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive"
            ));
        }
        let part = StoredPart {
            e_tag: store::new_e_tag(),
            modified: SystemTime::now(),
            body,
        };
        self.store.with(bucket, |bucket| {
            let upload = bucket.upload(key, upload_id)?;
            upload.parts.insert(number, part.clone());
            Ok(part)
        })
    }

    pub(super) fn complete_upload(
        &self,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let parts = input.multipart_upload.and_then(|upload| upload.parts);
        let mut wanted = Vec::new();
        for part in parts.unwrap_or_default() {
            match (part.part_number, part.e_tag) {
                (Some(number), Some(e_tag)) => wanted.push((number, e_tag.into_value())),
                _ => return Err(s3_error!(MalformedXML, "a part lacks its number or ETag")),
            }
        }
        let completed =
            self.store
                .complete(&input.bucket, &input.key, &input.upload_id, &wanted)?;
        Ok(CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            e_tag: e_tag(&completed),
            bucket: Some(input.bucket),
            key: Some(input.key),
            ..CompleteMultipartUploadOutput::default()
        })
    }

    pub(super) fn abort_upload(
        &self,
        input: AbortMultipartUploadInput,
    ) -> S3Result<AbortMultipartUploadOutput> {
        self.store.with(&input.bucket, |bucket| {
            bucket.upload(&input.key, &input.upload_id)?;
            bucket.uploads.remove(&input.upload_id);
            Ok(AbortMultipartUploadOutput::default())
        })
    }
}

/// `x-amz-copy-source-range`: only `bytes=first-last`, and within the object.
fn slice(body: &Body, range: &str) -> S3Result<Body> {
    let ends = range
        .strip_prefix("bytes=")
        .and_then(|ends| ends.split_once('-'))
        .and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?)));
    match ends {
        Some((first, last)) if first <= last && last < body.len() => {
            Ok(body.slice(first..last + 1))
        }
        _ => Err(s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last, within the \
             source object"
        )),
    }
}

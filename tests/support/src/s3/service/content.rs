use super::*;

use base64::Engine;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use futures::stream::{self, Stream};

use crate::s3::body::{Body, WriteError};

impl Service {
    pub(super) async fn put(&self, input: PutObjectInput) -> S3Result<PutObjectOutput> {
        self.store.with(&input.bucket, |_| Ok(()))?;
        let body = self.write(input.body, input.content_md5).await?;
        let object = Object {
            attributes: Attributes {
                content_type: input.content_type,
                storage_class: input.storage_class.map(|class| class.as_str().into()),
                server_side_encryption: input.server_side_encryption.map(|s| s.as_str().into()),
                kms_key_id: input.ssekms_key_id,
                acl: input.acl.map(|acl| acl.as_str().into()),
                metadata: input.metadata.unwrap_or_default(),
            },
            e_tag: store::new_e_tag(),
            modified: SystemTime::now(),
            body,
        };
        let condition = input.if_none_match;
        self.store.with(&input.bucket, |bucket| {
            if condition.is_some_and(|c| c.is_any()) && bucket.objects.contains_key(&input.key) {
                return Err(s3_error!(PreconditionFailed));
            }
            let e_tag = e_tag(&object.e_tag);
            bucket.objects.insert(input.key, object);
            Ok(PutObjectOutput {
                e_tag,
                ..PutObjectOutput::default()
            })
        })
    }

    /// Stores a request's body, checked against its `Content-MD5` where it has one.
    pub(super) async fn write(
        &self,
        content: Option<StreamingBlob>,
        content_md5: Option<String>,
    ) -> S3Result<Body> {
        let content: StreamingBlob = match content {
            Some(content) => content,
            None => StreamingBlob::wrap(nothing()),
        };
        let written = self.store.files.write(content, content_md5.is_some()).await;
        let (body, md5) = written.map_err(|error| match error {
            WriteError::Source(error) => s3_error!(IncompleteBody, "the body ended early: {error}"),
            WriteError::File(error) => s3_error!(InternalError, "cannot write: {error}"),
        })?;
        match (content_md5, md5.map(|md5| BASE64.encode(md5))) {
            (Some(expected), Some(found)) if expected != found => {
                Err(s3_error!(BadDigest, "Content-MD5 does not match the body"))
            }
            _ => Ok(body),
        }
    }

    pub(super) fn get(&self, input: GetObjectInput) -> S3Result<GetObjectOutput> {
        let object = self.store.object(&input.bucket, &input.key)?;
        let len = object.body.len();
        let (range, content_range) = match input.range {
            None => (0..len, None),
            Some(range) => {
                let range = range.check(len)?;
                let header = format!("bytes {}-{}/{len}", range.start, range.end - 1);
                (range, Some(header))
            }
        };
        let attributes = object.attributes;
        Ok(GetObjectOutput {
            content_length: Some(signed(range.end - range.start)),
            body: Some(StreamingBlob::wrap(object.body.slice(range).stream())),
            content_range,
            accept_ranges: Some("bytes".into()),
            content_type: attributes.content_type,
            storage_class: attributes.storage_class.map(StorageClass::from),
            server_side_encryption: attributes.server_side_encryption.map(Into::into),
            ssekms_key_id: attributes.kms_key_id,
            metadata: Some(attributes.metadata),
            e_tag: e_tag(&object.e_tag),
            last_modified: Some(object.modified.into()),
            ..GetObjectOutput::default()
        })
    }

    pub(super) fn head(&self, input: HeadObjectInput) -> S3Result<HeadObjectOutput> {
        let object = self.store.object(&input.bucket, &input.key)?;
        let attributes = object.attributes;
        Ok(HeadObjectOutput {
            content_length: Some(signed(object.body.len())),
            accept_ranges: Some("bytes".into()),
            content_type: attributes.content_type,
            storage_class: attributes.storage_class.map(StorageClass::from),
            server_side_encryption: attributes.server_side_encryption.map(Into::into),
            ssekms_key_id: attributes.kms_key_id,
            metadata: Some(attributes.metadata),
            e_tag: e_tag(&object.e_tag),
            last_modified: Some(object.modified.into()),
            ..HeadObjectOutput::default()
        })
    }

    pub(super) fn copy(&self, input: CopyObjectInput) -> S3Result<CopyObjectOutput> {
        let source = self.source(&input.copy_source)?;
        let replace = input
            .metadata_directive
            .is_some_and(|directive| directive.as_str() == MetadataDirective::REPLACE);
        let (content_type, metadata) = if replace {
            (input.content_type, input.metadata.unwrap_or_default())
        } else {
            (source.attributes.content_type, source.attributes.metadata)
        };
        let object = Object {
            attributes: Attributes {
                content_type,
                metadata,
                storage_class: input.storage_class.map(|class| class.as_str().into()),
                server_side_encryption: input.server_side_encryption.map(|s| s.as_str().into()),
                kms_key_id: input.ssekms_key_id,
                acl: input.acl.map(|acl| acl.as_str().into()),
            },
            e_tag: source.e_tag,
            modified: SystemTime::now(),
            body: source.body,
        };
        self.store.with(&input.bucket, |bucket| {
            let result = CopyObjectResult {
                e_tag: e_tag(&object.e_tag),
                last_modified: Some(object.modified.into()),
                ..CopyObjectResult::default()
            };
            bucket.objects.insert(input.key, object);
            Ok(CopyObjectOutput {
                copy_object_result: Some(result),
                ..CopyObjectOutput::default()
            })
        })
    }

    pub(super) fn delete_all(&self, input: DeleteObjectsInput) -> S3Result<DeleteObjectsOutput> {
        self.store.with(&input.bucket, |bucket| {
            let mut deleted = Vec::new();
            for object in input.delete.objects {
                bucket.objects.remove(&object.key);
                deleted.push(DeletedObject {
                    key: Some(object.key),
                    ..DeletedObject::default()
                });
            }
            let quiet = input.delete.quiet == Some(true);
            Ok(DeleteObjectsOutput {
                deleted: (!quiet).then_some(deleted),
                ..DeleteObjectsOutput::default()
            })
        })
    }
}

fn nothing() -> impl Stream<Item = std::io::Result<Bytes>> + Send + Sync {
    stream::empty()
}

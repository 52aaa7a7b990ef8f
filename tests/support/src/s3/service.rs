use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::calls::CallLog;
use super::store::{self, Attributes, Object, Store};

mod content;
mod listings;
mod multipart;

type Answer<T> = S3Result<S3Response<T>>;

/// S3's calls on a [`Store`].
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) store: Arc<Store>,
    pub(crate) calls: Arc<CallLog>,
}

/// The calls that blobgate and distribution's S3 driver make, and those that a curious user's
/// client makes first. One line each: the work is in the modules.
#[async_trait]
impl S3 for Service {
    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        self.calls.add("ListBuckets", "", None);
        Ok(S3Response::new(self.buckets()))
    }

    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        self.calls.add("CreateBucket", "", None);
        self.store.buckets().entry(req.input.bucket).or_default();
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.calls.add("HeadBucket", "", None);
        self.store.with(&req.input.bucket, |_| Ok(()))?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        self.calls.add("GetBucketLocation", "", None);
        self.store.with(&req.input.bucket, |_| Ok(()))?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let input = req.input;
        self.calls
            .add("PutObject", &input.key, input.content_length);
        self.put(input).await.map(S3Response::new)
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        self.calls.add("GetObject", &req.input.key, None);
        self.get(req.input).map(S3Response::new)
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        self.calls.add("HeadObject", &req.input.key, None);
        self.head(req.input).map(S3Response::new)
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        self.calls.add("CopyObject", &req.input.key, None);
        self.copy(req.input).map(S3Response::new)
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        let DeleteObjectInput { bucket, key, .. } = req.input;
        self.calls.add("DeleteObject", &key, None);
        self.store.with(&bucket, |bucket| {
            bucket.objects.remove(&key);
            Ok(S3Response::new(DeleteObjectOutput::default()))
        })
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        self.calls.add("DeleteObjects", "", None);
        self.delete_all(req.input).map(S3Response::new)
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        let prefix = req.input.prefix.as_deref().unwrap_or("");
        self.calls.add("ListObjects", prefix, None);
        self.list(req.input).map(S3Response::new)
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        let prefix = req.input.prefix.as_deref().unwrap_or("");
        self.calls.add("ListObjectsV2", prefix, None);
        self.list_v2(req.input).map(S3Response::new)
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        self.calls
            .add("CreateMultipartUpload", &req.input.key, None);
        self.create_upload(req.input).map(S3Response::new)
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        let input = req.input;
        self.calls
            .add("UploadPart", &input.key, input.content_length);
        self.put_part(input).await.map(S3Response::new)
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> Answer<UploadPartCopyOutput> {
        self.calls.add("UploadPartCopy", &req.input.key, None);
        self.copy_part(req.input).map(S3Response::new)
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        self.calls
            .add("CompleteMultipartUpload", &req.input.key, None);
        self.complete_upload(req.input).map(S3Response::new)
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        self.calls.add("AbortMultipartUpload", &req.input.key, None);
        self.abort_upload(req.input).map(S3Response::new)
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        self.calls.add("ListParts", &req.input.key, None);
        self.parts(req.input).map(S3Response::new)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        let prefix = req.input.prefix.as_deref().unwrap_or("");
        self.calls.add("ListMultipartUploads", prefix, None);
        self.uploads(req.input).map(S3Response::new)
    }
}

impl Service {
    fn buckets(&self) -> ListBucketsOutput {
        let bucket = |name: &String| Bucket {
            name: Some(name.clone()),
            creation_date: Some(SystemTime::UNIX_EPOCH.into()),
            ..Bucket::default()
        };
        ListBucketsOutput {
            buckets: Some(self.store.buckets().keys().map(bucket).collect()),
            ..ListBucketsOutput::default()
        }
    }

    /// The object that a copy reads.
    fn source(&self, source: &CopySource) -> S3Result<Object> {
        match source {
            CopySource::Bucket { bucket, key, .. } => self.store.object(bucket, key),
            _ => Err(s3_error!(
                NotImplemented,
                "only bucket/key is a copy source"
            )),
        }
    }
}

/// Lengths in S3's API are signed.
fn signed(len: u64) -> i64 {
    i64::try_from(len).expect("length beyond i64")
}

fn e_tag(value: &str) -> Option<ETag> {
    Some(ETag::Strong(value.to_owned()))
}

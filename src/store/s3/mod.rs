//! The S3 adapter: the only place that knows rusoto.
//!
//! One bucket, reached through any S3-compatible API. Every call is bounded three times (connecting,
//! silence on the socket, the whole attempt), sent again as [`crate::store::retry`] says, and told
//! to a [`StoreObserver`].

mod answers;
mod call;
mod complete;
mod credentials;
mod fault;
mod listing;
mod probe;
mod profile;
mod transport;

#[cfg(test)]
mod tests;

use super::retry::RetryPolicy;
use super::{
    BlobStore, Completion, FaultClass, Layout, Part, PartReceipt, StoreError, StoreObserver,
    StoreOperation, UploadHandle,
};
use crate::config;
use crate::net;
use crate::registry::{Digest, RepositoryName};
use crate::request_id::RequestId;
use async_trait::async_trait;
use bytes::Bytes;
use call::Congestion;
use credentials::CredentialSource;
pub use credentials::{CredentialsOrigin, find_credentials};
use fault::{Failure, Fault};
use http::HeaderValue;
pub use probe::{Removal, RemovalFault};
use rusoto_core::ByteStream;
use rusoto_s3::{
    AbortMultipartUploadRequest, CreateMultipartUploadRequest, HeadBucketRequest,
    HeadObjectRequest, PutObjectRequest, S3, UploadPartRequest,
};
use std::sync::Arc;
use std::time::Duration;
use transport::{Addressing, Answer, Transport, USER_AGENT};

/// Log targets of the libraries below this adapter that may write credentials, signatures or whole
/// requests at `debug` and `trace`. A log filter must keep them at `info` or above.
pub const SECRET_LOG_TARGETS: [&str; 7] = [
    "rusoto_core",
    "rusoto_credential",
    "rusoto_s3",
    "rusoto_signature",
    "hyper",
    "hyper_util",
    "native_tls",
];

/// As distribution's own driver sets it, so that objects look alike whoever wrote them.
const CONTENT_TYPE: &str = "application/octet-stream";

/// Kept below the 20 seconds after which S3 closes an unused connection, so that a request rarely
/// meets one that is just closing.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Unused connections kept: as many as a busy moment's parts, so that the next ones find them.
const POOL_SIZE: usize = 256;

/// Why the configured bucket cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(
        "the bucket's endpoint {0} is an address, at which a bucket has no host name of its own: \
         use path-style addressing"
    )]
    NoVirtualHost(String),
    #[error(transparent)]
    Net(#[from] net::SetupError),
}

/// The bucket. Cheap to share behind an `Arc`; it belongs to the runtime that first calls it.
#[derive(Clone)]
pub struct S3Store {
    transport: Arc<Transport>,
    user_agent: HeaderValue,
    observer: Arc<dyn StoreObserver>,
    congestion: Arc<Congestion>,
    policy: RetryPolicy,
    layout: Layout,
    bucket: String,
    attributes: Attributes,
}

/// What objects are written with, named as in distribution's S3 driver.
#[derive(Debug, Clone)]
struct Attributes {
    server_side_encryption: Option<String>,
    kms_key_id: Option<String>,
    storage_class: Option<String>,
    acl: Option<String>,
}

impl Attributes {
    fn new(config: &config::Bucket) -> Self {
        let key = config.kms_key_id.clone().filter(|_| config.encrypt);
        let algorithm = if key.is_some() { "aws:kms" } else { "AES256" };
        Self {
            server_side_encryption: config.encrypt.then(|| algorithm.to_owned()),
            kms_key_id: key,
            storage_class: config.storage_class.clone(),
            acl: config.acl.clone(),
        }
    }
}

impl S3Store {
    /// Reads the CA file, but asks the bucket nothing yet: see [`BlobStore::check`].
    pub fn new(
        config: &config::Bucket,
        observer: Arc<dyn StoreObserver>,
    ) -> Result<Self, SetupError> {
        let addressing = Addressing::new(config).ok_or_else(|| {
            SetupError::NoVirtualHost(config.endpoint.iter().map(url::Url::to_string).collect())
        })?;
        let client = net::Client::new(&net::Options {
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            pool_idle_timeout: POOL_IDLE_TIMEOUT,
            pool_size: POOL_SIZE,
            encrypted: addressing.is_encrypted(),
            ca_file: config.ca_file.clone(),
        })?;
        Ok(Self {
            transport: Arc::new(Transport {
                client,
                credentials: CredentialSource::new(&config.credentials),
                addressing,
            }),
            user_agent: HeaderValue::from_static(USER_AGENT),
            observer,
            congestion: Arc::default(),
            policy: RetryPolicy {
                attempt_timeout: config.call_timeout,
                max_attempts: config.max_attempts,
                budget: config.retry_budget,
            },
            layout: Layout::new(config.layout, &config.root_directory),
            bucket: config.name.clone(),
            attributes: Attributes::new(config),
        })
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>
    async fn put(&self, key: String, data: Part) -> Result<(), StoreError> {
        let request = || {
            let attributes = self.attributes.clone();
            PutObjectRequest {
                bucket: self.bucket.clone(),
                key: key.clone(),
                body: Some(body(&data)),
                content_type: Some(CONTENT_TYPE.to_owned()),
                server_side_encryption: attributes.server_side_encryption,
                ssekms_key_id: attributes.kms_key_id,
                storage_class: attributes.storage_class,
                acl: attributes.acl,
                ..Default::default()
            }
        };
        self.call(
            StoreOperation::PutObject,
            &key,
            |s3| {
                let request = request();
                async move { s3.put_object(request).await }
            },
            |result| fault::proven(result, Answer::e_tag).map(drop),
        )
        .await
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html>
    fn head_request(&self, key: &str) -> HeadObjectRequest {
        HeadObjectRequest {
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            ..Default::default()
        }
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html>
    fn abort_request(&self, upload: &UploadHandle) -> AbortMultipartUploadRequest {
        AbortMultipartUploadRequest {
            bucket: self.bucket.clone(),
            key: upload.key.clone(),
            upload_id: upload.upload_id.clone(),
            ..Default::default()
        }
    }
}

#[async_trait]
impl BlobStore for S3Store {
    /// The id goes into the `User-Agent`, as a comment: S3's access log and CloudTrail record it,
    /// and it is not signed.
    fn on_behalf_of(
        self: Arc<Self>,
        request: &RequestId,
        observer: Arc<dyn StoreObserver>,
    ) -> Arc<dyn BlobStore> {
        let user_agent = format!("{USER_AGENT} (request {request})");
        Arc::new(Self {
            user_agent: HeaderValue::from_str(&user_agent)
                .unwrap_or(HeaderValue::from_static(USER_AGENT)),
            observer,
            ..Self::clone(&self)
        })
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let key = self.layout.data_key(digest);
        self.call(
            StoreOperation::HeadObject,
            &key,
            |s3| {
                let request = self.head_request(&key);
                async move { s3.head_object(request).await }
            },
            judge_head,
        )
        .await
    }

    async fn put_blob(&self, digest: &Digest, data: Part) -> Result<(), StoreError> {
        self.put(self.layout.data_key(digest), data).await
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html>
    async fn create_upload(&self, digest: &Digest) -> Result<UploadHandle, StoreError> {
        let key = self.layout.data_key(digest);
        let request = || {
            let attributes = self.attributes.clone();
            CreateMultipartUploadRequest {
                bucket: self.bucket.clone(),
                key: key.clone(),
                content_type: Some(CONTENT_TYPE.to_owned()),
                server_side_encryption: attributes.server_side_encryption,
                ssekms_key_id: attributes.kms_key_id,
                storage_class: attributes.storage_class,
                acl: attributes.acl,
                ..Default::default()
            }
        };
        let upload_id = self
            .call(
                StoreOperation::CreateMultipartUpload,
                &key,
                |s3| {
                    let request = request();
                    async move { s3.create_multipart_upload(request).await }
                },
                |result| fault::proven(result, |answer| answers::upload_id(&answer.body)),
            )
            .await?;
        Ok(UploadHandle { key, upload_id })
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html>
    async fn put_part(
        &self,
        upload: &UploadHandle,
        number: u16,
        data: Part,
    ) -> Result<PartReceipt, StoreError> {
        let request = || UploadPartRequest {
            bucket: self.bucket.clone(),
            key: upload.key.clone(),
            upload_id: upload.upload_id.clone(),
            part_number: i64::from(number),
            body: Some(body(&data)),
            ..Default::default()
        };
        self.call(
            StoreOperation::UploadPart,
            &upload.key,
            |s3| {
                let request = request();
                async move { s3.upload_part(request).await }
            },
            |result| {
                let e_tag = fault::proven(result, Answer::e_tag)?;
                Ok(PartReceipt { number, e_tag })
            },
        )
        .await
    }

    async fn complete_upload(
        &self,
        upload: &UploadHandle,
        parts: &[PartReceipt],
        size: u64,
    ) -> Result<Completion, StoreError> {
        self.complete(upload, parts, size).await
    }

    async fn abort_upload(&self, upload: &UploadHandle) -> Result<(), StoreError> {
        self.call(
            StoreOperation::AbortMultipartUpload,
            &upload.key,
            |s3| {
                let request = self.abort_request(upload);
                async move { s3.abort_multipart_upload(request).await }
            },
            judge_abort,
        )
        .await
    }

    async fn link(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        match self.layout.link(name, digest) {
            Some((key, content)) => self.put(key, Part::from(Bytes::from(content))).await,
            None => Ok(()),
        }
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html>
    async fn check(&self) -> Result<(), StoreError> {
        self.call(
            StoreOperation::HeadBucket,
            &self.bucket,
            |s3| {
                let request = HeadBucketRequest {
                    bucket: self.bucket.clone(),
                    ..Default::default()
                };
                async move { s3.head_bucket(request).await }
            },
            |result| match result {
                Ok(_) => Ok(()),
                Err(mut fault) => {
                    // A HEAD's answer has no body to say it.
                    match fault.class {
                        FaultClass::NotFound => fault.message.push_str(": there is no such bucket"),
                        FaultClass::Denied => fault
                            .message
                            .push_str(": wrong credentials, or no permission s3:ListBucket"),
                        _ => {}
                    }
                    Err(fault)
                }
            },
        )
        .await
    }

    fn recently_throttled(&self) -> bool {
        self.congestion.is_recent()
    }
}

/// The part's chunks as they are, with their length known, so that no chunk is copied and the
/// request has a `Content-Length`.
fn body(data: &Part) -> ByteStream {
    let chunks = data.chunks().to_vec().into_iter().map(Ok);
    // A part is at most 5 GiB, and where `usize` has 32 bits it would not fit into memory anyway.
    ByteStream::new_with_size(futures::stream::iter(chunks), data.len() as usize)
}

fn judge_head(result: Result<Answer, Fault>) -> Result<Option<u64>, Fault> {
    match result {
        Ok(answer) => {
            // A HEAD's answer has no body in which an error could be told.
            fault::proven(Ok(answer), Answer::content_length).map(Some)
        }
        Err(fault) if fault.class == FaultClass::NotFound => Ok(None),
        Err(mut fault) => {
            if fault.class == FaultClass::Denied {
                fault.message.push_str(
                    ": wrong credentials, or no permission s3:ListBucket, without which S3 answers \
                     so for objects that are not there",
                );
            }
            Err(fault)
        }
    }
}

fn judge_abort(result: Result<Answer, Fault>) -> Result<(), Fault> {
    match result {
        Ok(_) => Ok(()),
        // The upload is gone, which is all we want.
        Err(fault) if fault.class == FaultClass::NotFound && !fault.has_code("NoSuchBucket") => {
            Ok(())
        }
        Err(fault) => Err(fault),
    }
}

fn unusable(message: &str) -> Fault {
    Fault::new(&Failure::Unusable, message)
}

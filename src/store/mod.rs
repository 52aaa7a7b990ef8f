//! Where blobs lie: the store's trait, the layouts a bucket can have, and the S3 adapter.

mod error;
mod layout;
mod observer;
mod part;
pub mod retry;
pub mod s3;
pub mod sweep;
mod uploads;

pub use error::{FaultClass, StoreError, StoreOperation};
pub use layout::Layout;
pub use observer::StoreObserver;
pub use part::Part;
pub use uploads::{LastPart, OpenUpload, UploadLister, UploadMarker, UploadPage};

use crate::registry::{Digest, RepositoryName};
use crate::request_id::RequestId;
use async_trait::async_trait;
use std::sync::Arc;

/// What a multipart upload is known by: its object key and the id the store gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadHandle {
    pub key: String,
    pub upload_id: String,
}

/// The store's acknowledgement of one part, needed to complete the upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartReceipt {
    /// 1 to 10,000
    pub number: u16,
    pub e_tag: String,
}

/// How a completion was found to have succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completion {
    /// The store said so, and the upload is no more.
    Confirmed,
    /// The blob is at its key, whoever put it there; the upload may still be open.
    Found,
}

/// The verbs blobgate needs of a store, each already retried by the store's own retry table.
///
/// Nothing written through `create_upload` and `put_part` is visible to a reader until
/// `complete_upload` succeeds. Every method may be cancelled by dropping its future; what that
/// leaves behind is at most a part of an upload that its owner still has to abort.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// The same store for the calls of one request: they carry its id, where the store's own log
    /// can show it, and are told to the request's observer instead.
    fn on_behalf_of(
        self: Arc<Self>,
        request: &RequestId,
        observer: Arc<dyn StoreObserver>,
    ) -> Arc<dyn BlobStore>;

    /// The size in bytes of the blob's data, or `None` where the bucket has none.
    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError>;

    /// Writes a whole blob in one call. `data` must already be verified.
    async fn put_blob(&self, digest: &Digest, data: Part) -> Result<(), StoreError>;

    /// Opens a multipart upload at the blob's final key.
    async fn create_upload(&self, digest: &Digest) -> Result<UploadHandle, StoreError>;

    /// Uploads one part; sent again from `data` as the retry table says.
    async fn put_part(
        &self,
        upload: &UploadHandle,
        number: u16,
        data: Part,
    ) -> Result<PartReceipt, StoreError>;

    /// Makes the upload's bytes the blob's data. `parts` in ascending order, `size` their total in
    /// bytes: an answer lost on the way is settled by asking for the object and comparing its size.
    async fn complete_upload(
        &self,
        upload: &UploadHandle,
        parts: &[PartReceipt],
        size: u64,
    ) -> Result<Completion, StoreError>;

    /// Drops the upload and its parts. Succeeds where the store no longer knows it.
    async fn abort_upload(&self, upload: &UploadHandle) -> Result<(), StoreError>;

    /// Makes the blob visible in the repository; does nothing where the layout has no links.
    async fn link(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError>;

    /// Checks that the bucket is there and may be used, for the start-up and health checks.
    async fn check(&self) -> Result<(), StoreError>;

    /// True for some seconds after the store asked for less: whoever sends parts should have fewer
    /// of them in flight meanwhile.
    fn recently_throttled(&self) -> bool {
        false
    }
}

use super::{BlobStore, StoreError, UploadHandle};
use async_trait::async_trait;
use std::time::SystemTime;

/// A multipart upload that was begun and is neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    pub handle: UploadHandle,
    /// By the store's clock; `None` where the store did not say it in a readable way.
    pub initiated: Option<SystemTime>,
}

/// Where a listing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadMarker {
    pub key: String,
    pub upload_id: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub struct UploadPage {
    pub uploads: Vec<OpenUpload>,
    /// `None` on the last page.
    pub next: Option<UploadMarker>,
    /// The store's clock when it answered, to reckon the uploads' age by: ours may be wrong.
    pub store_time: Option<SystemTime>,
}

/// When an open upload last got a part, by the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastPart {
    At(SystemTime),
    /// There is none yet.
    Never,
    /// The store did not say it in a readable way.
    Unreadable,
    /// The upload is open no more.
    Gone,
}

/// A store that can tell its open uploads.
#[async_trait]
pub trait UploadLister: BlobStore {
    /// The open uploads whose keys begin with the layout's blob prefix, page by page.
    async fn list_uploads(&self, after: Option<&UploadMarker>) -> Result<UploadPage, StoreError>;

    /// When the upload last got a part: one call for each 500 parts it has.
    async fn last_part(&self, upload: &UploadHandle) -> Result<LastPart, StoreError>;
}

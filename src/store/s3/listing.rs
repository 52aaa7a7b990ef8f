use super::answers::Listing;
use super::fault::{self, Fault};
use super::transport::Answer;
use super::{S3Store, unusable};
use crate::store::{
    OpenUpload, StoreError, StoreOperation, UploadHandle, UploadLister, UploadMarker, UploadPage,
};
use async_trait::async_trait;
use rusoto_s3::{ListMultipartUploadsRequest, S3};

/// Uploads asked for at once: some 800 bytes each, so that a page stays far below the longest
/// answer that is read.
const PAGE: i64 = 250;

#[async_trait]
impl UploadLister for S3Store {
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>
    async fn list_uploads(&self, after: Option<&UploadMarker>) -> Result<UploadPage, StoreError> {
        let prefix = self.layout.blob_prefix();
        let request = || ListMultipartUploadsRequest {
            bucket: self.bucket.clone(),
            prefix: Some(prefix.clone()),
            max_uploads: Some(PAGE),
            key_marker: after.map(|marker| marker.key.clone()),
            upload_id_marker: after.and_then(|marker| marker.upload_id.clone()),
            ..Default::default()
        };
        self.call(
            StoreOperation::ListMultipartUploads,
            &prefix,
            |s3| {
                let request = request();
                async move { s3.list_multipart_uploads(request).await }
            },
            judge_page,
        )
        .await
    }
}

fn judge_page(result: Result<Answer, Fault>) -> Result<UploadPage, Fault> {
    let answer = result?;
    let listing = Listing::parse(&answer.body)
        .ok_or_else(|| unusable("the store's answer is no list of uploads"))?;
    let next =
        (listing.is_truncated && !listing.next_key_marker.is_empty()).then(|| UploadMarker {
            key: listing.next_key_marker,
            upload_id: Some(listing.next_upload_id_marker).filter(|id| !id.is_empty()),
        });
    let uploads = listing.uploads.into_iter().map(|upload| OpenUpload {
        handle: UploadHandle {
            key: upload.key,
            upload_id: upload.upload_id,
        },
        initiated: humantime::parse_rfc3339(&upload.initiated).ok(),
    });
    Ok(UploadPage {
        uploads: uploads.collect(),
        next,
        store_time: fault::date(&answer.headers),
    })
}

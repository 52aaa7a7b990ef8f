use super::S3Store;
use super::fault::{self, Fault};
use super::transport::Exchange;
use crate::store::retry::Schedule;
use crate::store::{
    OpenUpload, StoreError, StoreOperation, UploadHandle, UploadLister, UploadMarker, UploadPage,
};
use async_trait::async_trait;
use rusoto_s3::{ListMultipartUploadsOutput, ListMultipartUploadsRequest, S3};

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
        self.run(
            Schedule::start(self.policy, StoreOperation::ListMultipartUploads),
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

fn judge_page(
    result: Result<ListMultipartUploadsOutput, Fault>,
    exchange: &Exchange,
) -> Result<UploadPage, Fault> {
    let output = result?;
    let next = match output.next_key_marker.filter(|key| !key.is_empty()) {
        Some(key) if output.is_truncated == Some(true) => Some(UploadMarker {
            key,
            upload_id: output.next_upload_id_marker.filter(|id| !id.is_empty()),
        }),
        _ => None,
    };
    let uploads = output.uploads.unwrap_or_default().into_iter();
    let uploads = uploads.filter_map(|upload| {
        Some(OpenUpload {
            handle: UploadHandle {
                key: upload.key?,
                upload_id: upload.upload_id?,
            },
            initiated: upload
                .initiated
                .and_then(|time| humantime::parse_rfc3339(&time).ok()),
        })
    });
    let answer = exchange.answer.as_ref();
    Ok(UploadPage {
        uploads: uploads.collect(),
        next,
        store_time: answer.and_then(|answer| fault::date(&answer.headers)),
    })
}

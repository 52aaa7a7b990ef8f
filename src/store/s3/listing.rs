use super::answers::{Listing, PartListing};
use super::fault::{self, Fault};
use super::transport::Answer;
use super::{S3Store, unusable};
use crate::store::{
    FaultClass, LastPart, OpenUpload, StoreError, StoreOperation, UploadHandle, UploadLister,
    UploadMarker, UploadPage,
};
use async_trait::async_trait;
use rusoto_s3::{ListMultipartUploadsRequest, ListPartsRequest, S3};
use std::time::SystemTime;

/// Uploads asked for at once: some 800 bytes each, so that a page stays far below the longest
/// answer that is read.
const PAGE: i64 = 250;

/// Parts asked for at once, likewise: some 400 bytes each where they have checksums.
const PART_PAGE: i64 = 500;

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

    async fn last_part(&self, upload: &UploadHandle) -> Result<LastPart, StoreError> {
        let mut newest: Option<SystemTime> = None;
        let mut after = None;
        loop {
            match self.part_page(upload, after).await? {
                None => return Ok(LastPart::Gone),
                Some(PartPage::Unreadable) => return Ok(LastPart::Unreadable),
                Some(PartPage::Read { times, next }) => {
                    newest = newest.max(times.into_iter().max());
                    if next.is_none() {
                        return Ok(newest.map_or(LastPart::Never, LastPart::At));
                    }
                    // It points to where we are, so what comes after is not to be had.
                    if next <= after {
                        return Ok(LastPart::Unreadable);
                    }
                    after = next;
                }
            }
        }
    }
}

/// Some of an upload's parts.
#[derive(Debug)]
enum PartPage {
    Read {
        times: Vec<SystemTime>,
        /// The part number to go on after; `None` on the last page.
        next: Option<i64>,
    },
    /// A part has no date, or one that is none.
    Unreadable,
}

impl S3Store {
    /// `None` where the store knows no such upload any more.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html>
    async fn part_page(
        &self,
        upload: &UploadHandle,
        after: Option<i64>,
    ) -> Result<Option<PartPage>, StoreError> {
        let request = || ListPartsRequest {
            bucket: self.bucket.clone(),
            key: upload.key.clone(),
            upload_id: upload.upload_id.clone(),
            max_parts: Some(PART_PAGE),
            part_number_marker: after,
            ..Default::default()
        };
        self.call(
            StoreOperation::ListParts,
            &upload.key,
            |s3| {
                let request = request();
                async move { s3.list_parts(request).await }
            },
            judge_parts,
        )
        .await
    }
}

fn judge_parts(result: Result<Answer, Fault>) -> Result<Option<PartPage>, Fault> {
    let answer = match result {
        Ok(answer) => answer,
        Err(fault) if fault.class == FaultClass::NotFound && !fault.has_code("NoSuchBucket") => {
            return Ok(None);
        }
        Err(fault) => return Err(fault),
    };
    let listing = PartListing::parse(&answer.body)
        .ok_or_else(|| unusable("the store's answer is no list of parts"))?;
    let mut times = Vec::with_capacity(listing.parts.len());
    for part in &listing.parts {
        match humantime::parse_rfc3339(&part.last_modified) {
            Ok(time) => times.push(time),
            Err(_) => return Ok(Some(PartPage::Unreadable)),
        }
    }
    let next = if listing.is_truncated {
        let next = listing.next_part_number_marker.parse();
        Some(next.map_err(|_| unusable("the store's list of parts is cut off"))?)
    } else {
        None
    };
    Ok(Some(PartPage::Read { times, next }))
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

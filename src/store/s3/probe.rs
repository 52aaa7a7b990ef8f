//! What only the doctor does with a bucket, beside trying blobgate's own calls. Nothing here is
//! retried or counted in the metrics.

use super::fault::Fault;
use super::{FaultClass, Part, S3Store, StoreError};
use rusoto_s3::{DeleteObjectRequest, S3};
use std::time::Duration;
use url::Url;

/// An object is gone, or was not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    Gone,
    /// The bucket keeps versions: the object is hidden, and its bytes stay.
    Hidden,
}

#[derive(Debug, Clone)]
pub struct RemovalFault {
    pub class: FaultClass,
    pub message: String,
}

impl S3Store {
    /// Where requests go: scheme, host and port, the bucket's name in the host where it belongs
    /// there. `None` only for an endpoint that is no URL.
    pub fn url(&self) -> Option<Url> {
        self.transport.addressing.url()
    }

    /// Writes an object as blobs and links are written, at any key.
    pub async fn put_object(&self, key: &str, data: Part) -> Result<(), StoreError> {
        self.put(key.to_owned(), data).await
    }

    /// Whether there is an object, as far as the store tells.
    pub async fn has_object(&self, key: &str, limit: Duration) -> bool {
        let request = self.head_request(key);
        let answer = self.exchange(limit, |s3| async move { s3.head_object(request).await });
        answer.await.is_ok()
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html>
    pub async fn delete_object(&self, key: &str, limit: Duration) -> Result<Removal, RemovalFault> {
        let request = DeleteObjectRequest {
            bucket: self.bucket.clone(),
            key: key.to_owned(),
            ..Default::default()
        };
        let answer = self
            .exchange(limit, |s3| async move { s3.delete_object(request).await })
            .await;
        match answer {
            Ok(answer) if answer.headers.contains_key("x-amz-version-id") => Ok(Removal::Hidden),
            Ok(_) => Ok(Removal::Gone),
            Err(Fault { class, message, .. }) => Err(RemovalFault { class, message }),
        }
    }
}

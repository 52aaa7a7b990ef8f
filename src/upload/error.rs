use super::BodyError;
use crate::registry::Digest;
use crate::store::StoreError;
use std::time::Duration;

/// Every way a blob push can fail once it is authorised. One exhaustive match each makes it an
/// HTTP answer and a metric label.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UploadError {
    /// The request's header rules out that it is a blob push.
    #[error("{0}")]
    Request(&'static str),
    #[error("no upload slot or buffer became free within {0:?}")]
    AdmissionTimeout(Duration),
    #[error("the blob is longer than the {limit} bytes taken here{}", of_length(*.length))]
    TooLong { limit: u64, length: Option<u64> },
    #[error("the body has {received} bytes, announced were {announced}")]
    LengthMismatch { announced: u64, received: u64 },
    #[error("the body's digest is {computed}, not {expected}")]
    DigestMismatch { expected: Digest, computed: Digest },
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The body is the blob, and what the bucket holds for it is not.
    #[error("{}", of_unfit_data(*.found, *.size))]
    DataUnfit { found: Option<u64>, size: u64 },
    #[error("blobgate is shutting down")]
    ShuttingDown,
    /// A bug or a dying runtime, never the client's or the store's doing.
    #[error("internal failure: {0}")]
    Internal(String),
}

fn of_length(length: Option<u64>) -> String {
    length.map_or_else(String::new, |length| format!(": {length} bytes"))
}

fn of_unfit_data(found: Option<u64>, size: u64) -> String {
    match found {
        Some(found) => format!(
            "the bucket holds {found} bytes under this digest, the blob has {size}; push it again \
             with Content-Length to replace them"
        ),
        None => "the blob's data left the bucket while the push was verified; push it again".into(),
    }
}

impl From<tokio::task::JoinError> for UploadError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Internal(error.to_string())
    }
}

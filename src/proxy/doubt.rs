use super::reply::Reply;
use crate::registry::ErrorCode;
use crate::store::StoreError;
use crate::upload::UploadError;
use crate::upstream::UpstreamError;
use http::StatusCode;
use serde_json::Value;
use std::time::Duration;

/// Why it is not known what to do with a push.
#[derive(Debug, thiserror::Error)]
pub enum Doubt {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Store(StoreError),
    #[error("the blob store gave no answer within {0:?}")]
    StoreTimeout(Duration),
    #[error(transparent)]
    Stopping(UploadError),
}

impl Doubt {
    pub fn reply(&self) -> Reply {
        let message = match self {
            Self::Upstream(error) => return Reply::unauthorisable(error),
            // What the store says of itself is the operator's, in the log.
            Self::Store(error) => format!("the blob store failed: {}", error.class.as_str()),
            Self::StoreTimeout(_) | Self::Stopping(_) => self.to_string(),
        };
        Reply::error(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unavailable,
            message,
            Value::Null,
        )
    }
}

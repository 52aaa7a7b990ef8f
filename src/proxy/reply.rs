use crate::registry::{BlobPush, ErrorBody, ErrorCode, RouteError};
use crate::store::FaultClass;
use crate::upload::{BodyError, UploadError};
use crate::upstream::{Refusal, UpstreamError};
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// Seconds a client is told to wait before it asks again, where blobgate or the store is busy.
const RETRY_AFTER: &str = "5";

/// A whole answer made by blobgate: each constructor fixes its status, headers and body.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// The blob is in the repository. [OCI distribution specification, "Pushing a blob
    /// monolithically"](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs)
    pub fn created(push: &BlobPush) -> Self {
        let mut headers = HeaderMap::new();
        let BlobPush { name, digest } = push;
        // Names and digests are made of characters that any header may hold.
        if let Ok(location) = HeaderValue::from_str(&format!("/v2/{name}/blobs/{digest}")) {
            headers.insert(header::LOCATION, location);
        }
        if let Ok(digest) = HeaderValue::from_str(&digest.to_string()) {
            headers.insert(HeaderName::from_static("docker-content-digest"), digest);
        }
        Self {
            status: StatusCode::CREATED,
            headers,
            body: Bytes::new(),
        }
    }

    pub fn refused(refusal: Refusal) -> Self {
        Self {
            status: refusal.status,
            headers: refusal.headers,
            body: refusal.body,
        }
    }

    pub fn error(status: StatusCode, code: ErrorCode, message: String, detail: Value) -> Self {
        let body = ErrorBody {
            code,
            message,
            detail,
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        Self {
            status,
            headers,
            body: body.to_json().into(),
        }
    }

    pub fn bad_route(error: &RouteError) -> Self {
        let code = match error {
            RouteError::Name(_) => ErrorCode::NameInvalid,
            RouteError::Digest(_) => ErrorCode::DigestInvalid,
        };
        Self::error(
            StatusCode::BAD_REQUEST,
            code,
            error.to_string(),
            Value::Null,
        )
    }

    pub fn bad_request(message: &str) -> Self {
        Self::error(
            StatusCode::BAD_REQUEST,
            ErrorCode::BlobUploadInvalid,
            message.to_owned(),
            Value::Null,
        )
    }

    /// No answer could be had of the upstream, so that nothing is known of what the client may do.
    pub fn unauthorisable(error: &UpstreamError) -> Self {
        Self::error(
            StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unavailable,
            error.to_string(),
            Value::Null,
        )
    }

    /// The answer to a failed upload, or `None` where nobody is left to hear it.
    pub fn failed(error: &UploadError) -> Option<Self> {
        let (status, code, detail) = match error {
            UploadError::AdmissionTimeout(_)
            | UploadError::ShuttingDown
            | UploadError::DataUnfit { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Unavailable,
                Value::Null,
            ),
            UploadError::TooLong { limit, length } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                ErrorCode::SizeInvalid,
                json!({"limit": limit, "length": length}),
            ),
            UploadError::LengthMismatch {
                announced,
                received,
            } => (
                StatusCode::BAD_REQUEST,
                ErrorCode::SizeInvalid,
                json!({"announced": announced, "received": received}),
            ),
            UploadError::DigestMismatch { expected, computed } => (
                StatusCode::BAD_REQUEST,
                ErrorCode::DigestInvalid,
                json!({"expected": expected.to_string(), "computed": computed.to_string()}),
            ),
            UploadError::Body(BodyError::ClientGone) => return None,
            UploadError::Request(_) | UploadError::Body(BodyError::Framing(_)) => (
                StatusCode::BAD_REQUEST,
                ErrorCode::BlobUploadInvalid,
                Value::Null,
            ),
            UploadError::Body(BodyError::Idle(_) | BodyError::TooSlow { .. }) => (
                StatusCode::REQUEST_TIMEOUT,
                ErrorCode::BlobUploadInvalid,
                Value::Null,
            ),
            UploadError::Store(store) => {
                let detail = json!({
                    "operation": store.operation.as_str(),
                    "fault": store.class.as_str(),
                    "attempts": store.attempts,
                });
                match store.class {
                    FaultClass::Throttled => (
                        StatusCode::SERVICE_UNAVAILABLE,
                        ErrorCode::Unavailable,
                        detail,
                    ),
                    FaultClass::Unavailable
                    | FaultClass::Connection
                    | FaultClass::Timeout
                    | FaultClass::Denied
                    | FaultClass::NotFound
                    | FaultClass::Rejected => (
                        StatusCode::INTERNAL_SERVER_ERROR,
                        ErrorCode::Unknown,
                        detail,
                    ),
                }
            }
            UploadError::Internal(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                ErrorCode::Unknown,
                Value::Null,
            ),
        };
        // What a store says of itself (keys, bucket, endpoint) is the operator's, in the log.
        let message = match error {
            UploadError::Store(store) => {
                format!("the blob store failed: {}", store.class.as_str())
            }
            other => other.to_string(),
        };
        Some(Self::error(status, code, message, detail))
    }
}

use std::fmt;
use std::time::Duration;

/// The store calls blobgate makes, named as S3 names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreOperation {
    HeadObject,
    PutObject,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListMultipartUploads,
    ListParts,
    HeadBucket,
}

impl StoreOperation {
    pub const ALL: [StoreOperation; 9] = [
        Self::HeadObject,
        Self::PutObject,
        Self::CreateMultipartUpload,
        Self::UploadPart,
        Self::CompleteMultipartUpload,
        Self::AbortMultipartUpload,
        Self::ListMultipartUploads,
        Self::ListParts,
        Self::HeadBucket,
    ];

    /// The operation's name in the S3 API reference.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HeadObject => "HeadObject",
            Self::PutObject => "PutObject",
            Self::CreateMultipartUpload => "CreateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::CompleteMultipartUpload => "CompleteMultipartUpload",
            Self::AbortMultipartUpload => "AbortMultipartUpload",
            Self::ListMultipartUploads => "ListMultipartUploads",
            Self::ListParts => "ListParts",
            Self::HeadBucket => "HeadBucket",
        }
    }
}

impl fmt::Display for StoreOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of failure a store call met; the retry table and the metrics are written in these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultClass {
    /// 429, 503 or `SlowDown`: the store asks for less.
    Throttled,
    /// 500, 502, 504, `InternalError`, `RequestTimeout`: the store's own trouble, likely passing.
    Unavailable,
    /// No connection could be made, or it broke before a whole answer came.
    Connection,
    /// No progress, or no answer, within the call's deadline.
    Timeout,
    /// 403, bad signature, no usable credentials: an operator must act.
    Denied,
    /// 404: `NoSuchBucket`, `NoSuchUpload`.
    NotFound,
    /// Any other 4xx, or an answer that makes no sense.
    Rejected,
}

impl FaultClass {
    pub const ALL: [FaultClass; 7] = [
        Self::Throttled,
        Self::Unavailable,
        Self::Connection,
        Self::Timeout,
        Self::Denied,
        Self::NotFound,
        Self::Rejected,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Rejected => "rejected",
        }
    }
}

/// A store call that failed for good: final by the retry table, or its attempts or time used up.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{operation} failed after {attempts} attempt(s) in {elapsed:.1?}: {class}: {message}",
    class = self.class.as_str()
)]
pub struct StoreError {
    pub operation: StoreOperation,
    pub class: FaultClass,
    /// HTTP status of the last answer, where there was one.
    pub status: Option<u16>,
    /// S3's error code of the last answer, such as `SlowDown`, where there was one.
    pub code: Option<String>,
    pub message: String,
    pub attempts: u32,
    pub elapsed: Duration,
}

impl StoreError {
    /// A failure that is neither the store's nor the network's: a bug or a dying runtime.
    pub fn internal(operation: StoreOperation, message: String) -> Self {
        Self {
            operation,
            class: FaultClass::Rejected,
            status: None,
            code: None,
            message,
            attempts: 0,
            elapsed: Duration::ZERO,
        }
    }
}

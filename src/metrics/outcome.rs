use crate::upload::{BodyError, UploadError};

/// How a blob push can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushOutcome {
    /// Received, verified and written to the bucket.
    Stored,
    /// The repository had it already.
    Existing,
    /// The bucket had it already; the client proved to have it, and it was linked.
    Linked,
    /// The upstream said no.
    Refused,
    /// It could not be learned whether the push is allowed, or what is there already.
    Unauthorisable,
    BadRequest,
    TooLong,
    LengthMismatch,
    DigestMismatch,
    ClientGone,
    ClientSlow,
    AdmissionTimeout,
    StoreFailed,
    ShuttingDown,
    Internal,
}

impl PushOutcome {
    pub const ALL: [PushOutcome; 15] = [
        Self::Stored,
        Self::Existing,
        Self::Linked,
        Self::Refused,
        Self::Unauthorisable,
        Self::BadRequest,
        Self::TooLong,
        Self::LengthMismatch,
        Self::DigestMismatch,
        Self::ClientGone,
        Self::ClientSlow,
        Self::AdmissionTimeout,
        Self::StoreFailed,
        Self::ShuttingDown,
        Self::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Existing => "existing",
            Self::Linked => "linked",
            Self::Refused => "refused",
            Self::Unauthorisable => "unauthorisable",
            Self::BadRequest => "bad_request",
            Self::TooLong => "too_long",
            Self::LengthMismatch => "length_mismatch",
            Self::DigestMismatch => "digest_mismatch",
            Self::ClientGone => "client_gone",
            Self::ClientSlow => "client_slow",
            Self::AdmissionTimeout => "admission_timeout",
            Self::StoreFailed => "store_failed",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
        }
    }

    pub fn of_failure(error: &UploadError) -> Self {
        match error {
            UploadError::AdmissionTimeout(_) => Self::AdmissionTimeout,
            UploadError::TooLong { .. } => Self::TooLong,
            UploadError::LengthMismatch { .. } => Self::LengthMismatch,
            UploadError::DigestMismatch { .. } => Self::DigestMismatch,
            UploadError::Body(BodyError::ClientGone) => Self::ClientGone,
            UploadError::Request(_) | UploadError::Body(BodyError::Framing(_)) => Self::BadRequest,
            UploadError::Body(BodyError::Idle(_) | BodyError::TooSlow { .. }) => Self::ClientSlow,
            UploadError::Store(_) | UploadError::DataUnfit { .. } => Self::StoreFailed,
            UploadError::ShuttingDown => Self::ShuttingDown,
            UploadError::Internal(_) => Self::Internal,
        }
    }
}

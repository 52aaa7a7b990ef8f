use serde::Serialize;

/// The error codes blobgate answers with: those of the [OCI distribution specification, "Error
/// Codes"](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes), and
/// distribution's own `UNAVAILABLE` and `UNKNOWN` (`registry/api/errcode/register.go`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    BlobUploadInvalid,
    DigestInvalid,
    NameInvalid,
    SizeInvalid,
    Unavailable,
    Unknown,
    Unsupported,
}

impl ErrorCode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::NameInvalid => "NAME_INVALID",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unknown => "UNKNOWN",
            Self::Unsupported => "UNSUPPORTED",
        }
    }
}

/// The JSON body of an error answer, one error long.
#[derive(Debug, Clone)]
pub struct ErrorBody {
    pub code: ErrorCode,
    pub message: String,
    /// Anything that helps the client; `null` is left out.
    pub detail: serde_json::Value,
}

impl ErrorBody {
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Errors<'a> {
            errors: [Item<'a>; 1],
        }
        #[derive(Serialize)]
        struct Item<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(skip_serializing_if = "serde_json::Value::is_null")]
            detail: &'a serde_json::Value,
        }
        let errors = Errors {
            errors: [Item {
                code: self.code.as_str(),
                message: &self.message,
                detail: &self.detail,
            }],
        };
        // Strings and a JSON value under string keys: nothing here can fail to serialise.
        serde_json::to_vec(&errors).expect("an OCI error is always valid JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_shape_of_the_specification() {
        let mut body = ErrorBody {
            code: ErrorCode::DigestInvalid,
            message: "no \"match\"".into(),
            detail: serde_json::json!({"expected": "a"}),
        };
        let json: serde_json::Value = serde_json::from_slice(&body.to_json()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"errors": [{
                "code": "DIGEST_INVALID", "message": "no \"match\"", "detail": {"expected": "a"}
            }]})
        );

        body.detail = serde_json::Value::Null;
        let json: serde_json::Value = serde_json::from_slice(&body.to_json()).unwrap();
        assert_eq!(json["errors"][0].get("detail"), None);
    }
}

use super::answers::ErrorDocument;
use super::transport::Answer;
use crate::net;
use crate::store::FaultClass;
use http::{HeaderMap, StatusCode, header};
use std::time::{Duration, SystemTime};

/// How an attempt failed, before the retry table is asked.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub class: FaultClass,
    pub status: Option<u16>,
    pub code: Option<String>,
    pub message: String,
    /// How long the store asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// Everything that can come instead of a success.
pub(super) enum Failure<'a> {
    /// No whole answer came.
    Wire(net::ErrorClass),
    /// The attempt took longer than it may.
    OutOfTime,
    /// There was nothing to sign the request with.
    NoCredentials,
    /// The request could not be put into words, or the answer makes no sense.
    Unusable,
    /// The store answered with success, but without the proof of it.
    Unconfirmed,
    /// The store answered with an error.
    Answer { status: u16, code: Option<&'a str> },
}

/// The only place that says which failure belongs to which class.
pub(super) fn classify(failure: &Failure<'_>) -> FaultClass {
    match failure {
        Failure::OutOfTime => FaultClass::Timeout,
        Failure::NoCredentials => FaultClass::Denied,
        Failure::Unusable => FaultClass::Rejected,
        Failure::Unconfirmed => FaultClass::Unavailable,
        Failure::Wire(class) => match class {
            net::ErrorClass::Timeout => FaultClass::Timeout,
            net::ErrorClass::TooLarge => FaultClass::Rejected,
            net::ErrorClass::Connect
            | net::ErrorClass::Tls
            | net::ErrorClass::Closed
            | net::ErrorClass::Other => FaultClass::Connection,
        },
        Failure::Answer { status, code } => code
            .and_then(class_of_code)
            .unwrap_or_else(|| class_of_status(*status)),
    }
}

/// The codes that say more than the status they come with, in S3's list of error codes and in those
/// of stores that speak its language.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html#ErrorCodeList>
fn class_of_code(code: &str) -> Option<FaultClass> {
    match code {
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "TooManyRequestsException" => Some(FaultClass::Throttled),
        // RequestTimeout comes with 400, OperationAborted with 409; an error inside a 200 has
        // nothing but its code.
        "InternalError" | "RequestTimeout" | "OperationAborted" => Some(FaultClass::Unavailable),
        "AccessDenied"
        | "AccountProblem"
        | "AllAccessDisabled"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "RequestTimeTooSkewed"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired" => Some(FaultClass::Denied),
        "NoSuchBucket" | "NoSuchKey" | "NoSuchUpload" => Some(FaultClass::NotFound),
        _ => None,
    }
}

fn class_of_status(status: u16) -> FaultClass {
    match status {
        429 | 503 => FaultClass::Throttled,
        408 | 500 | 502 | 504 => FaultClass::Unavailable,
        401 | 403 => FaultClass::Denied,
        404 => FaultClass::NotFound,
        _ => FaultClass::Rejected,
    }
}

/// True where the store knows the credentials no longer, so that new ones must be fetched.
pub(super) fn credentials_are_stale(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "InvalidAccessKeyId"
    )
}

impl Fault {
    pub fn new(failure: &Failure<'_>, message: impl Into<String>) -> Self {
        let (status, code) = match failure {
            Failure::Answer { status, code } => (Some(*status), code.map(str::to_owned)),
            _ => (None, None),
        };
        Self {
            class: classify(failure),
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The fault in an answer with an error status, or with an error document inside a 200.
    pub fn of_answer(answer: &Answer) -> Self {
        let Answer {
            status,
            headers,
            body,
        } = answer;
        let document = ErrorDocument::parse(body);
        let code = document.as_ref().map(|document| document.code.as_str());
        let mut message = match &document {
            Some(document) => format!("{}: {}", document.code, document.message),
            None => format!("the store answered {status}"),
        };
        // A redirect or a 400 to a HEAD has no body to say it: the header is all there is.
        // <https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html>
        if let Some(region) = text(headers, "x-amz-bucket-region")
            && (status.is_redirection() || *status == StatusCode::BAD_REQUEST)
        {
            message = format!("{message} (the bucket is in region {region})");
        }
        if let Some(id) = text(headers, "x-amz-request-id") {
            message = format!("{message} (request {id})");
        }
        let failure = Failure::Answer {
            status: status.as_u16(),
            code,
        };
        Self {
            retry_after: retry_after(headers),
            ..Self::new(&failure, message)
        }
    }

    pub fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }
}

/// What in an answer proves that the store did as it was told: an ETag, an upload's id. Nothing
/// counts as done without it: S3 can send the status before it knows the outcome, and the outcome
/// in the body; and something that is no store may answer 200 to anything.
pub(super) fn proven<T>(
    result: Result<Answer, Fault>,
    proof: impl FnOnce(&Answer) -> Option<T>,
) -> Result<T, Fault> {
    let answer = result?;
    proof(&answer).ok_or_else(|| {
        if ErrorDocument::parse(&answer.body).is_some() {
            return Fault::of_answer(&answer);
        }
        Fault::new(
            &Failure::Unconfirmed,
            "the store's answer holds neither the proof of success nor an error",
        )
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Seconds or a date. <https://www.rfc-editor.org/rfc/rfc9110#name-retry-after>
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, header::RETRY_AFTER.as_str())?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    // A date that has passed asks for no wait.
    Some(
        until
            .duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO),
    )
}

/// The store's clock at the time of an answer.
pub(super) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(text(headers, header::DATE.as_str())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, code: Option<&str>) -> FaultClass {
        classify(&Failure::Answer { status, code })
    }

    #[test]
    fn answers_are_classified_by_code_then_status() {
        for (status, code, expected) in [
            (503, None, FaultClass::Throttled),
            (503, Some("SlowDown"), FaultClass::Throttled),
            (200, Some("SlowDown"), FaultClass::Throttled),
            (429, None, FaultClass::Throttled),
            (500, None, FaultClass::Unavailable),
            (502, None, FaultClass::Unavailable),
            (504, None, FaultClass::Unavailable),
            (408, None, FaultClass::Unavailable),
            (200, Some("InternalError"), FaultClass::Unavailable),
            (400, Some("RequestTimeout"), FaultClass::Unavailable),
            (409, Some("OperationAborted"), FaultClass::Unavailable),
            (403, None, FaultClass::Denied),
            (401, None, FaultClass::Denied),
            (403, Some("AccessDenied"), FaultClass::Denied),
            (400, Some("ExpiredToken"), FaultClass::Denied),
            (404, None, FaultClass::NotFound),
            (404, Some("NoSuchUpload"), FaultClass::NotFound),
            (400, Some("InvalidPart"), FaultClass::Rejected),
            (400, Some("EntityTooSmall"), FaultClass::Rejected),
            (301, Some("PermanentRedirect"), FaultClass::Rejected),
            (411, None, FaultClass::Rejected),
            (501, Some("NotImplemented"), FaultClass::Rejected),
        ] {
            assert_eq!(class(status, code), expected, "{status} {code:?}");
        }
    }

    #[test]
    fn a_wish_to_be_left_alone_is_read_in_both_forms() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert("retry-after", "17".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(17)));
        let past = "Sun, 06 Nov 1994 08:49:37 GMT";
        headers.insert("retry-after", past.parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::ZERO));
        headers.insert("retry-after", "soon".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }

    #[test]
    fn the_answers_own_words_reach_the_message() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-bucket-region", "eu-west-1".parse().unwrap());
        headers.insert("x-amz-request-id", "4442587FB7D0A2F9".parse().unwrap());
        let fault = Fault::of_answer(&Answer {
            status: StatusCode::MOVED_PERMANENTLY,
            headers,
            body: bytes::Bytes::new(),
        });
        assert_eq!(
            fault.message,
            "the store answered 301 Moved Permanently (the bucket is in region eu-west-1) \
             (request 4442587FB7D0A2F9)"
        );
        assert_eq!(
            (fault.class, fault.status),
            (FaultClass::Rejected, Some(301))
        );
    }
}

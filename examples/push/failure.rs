//! Everything that ends a push, what of it is worth another try, and what to tell the user.

use blobgate::registry::Digest;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Longest text of a registry that is shown.
const MAX_SHOWN: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("{}: the file changed during the push; push it again when nobody writes to it", .0.display())]
    Changed(PathBuf),
    #[error("{}: this file should have the digest {expected}, but has {found}: it is damaged, or changed during the push", path.display())]
    Differs {
        path: PathBuf,
        expected: Digest,
        found: String,
    },
    #[error("{0}")]
    Connection(String),
    #[error("the server's certificate isn't trusted ({0}); give its authority with --ca-file")]
    Certificate(String),
    #[error("no progress for {}; --stall-timeout sets how long to wait", humantime::format_duration(*.0))]
    Stalled(Duration),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("{0}")]
    Credentials(String),
    #[error("{0}")]
    Protocol(String),
    #[error("gave up after {attempts} attempts: {last}")]
    GaveUp { attempts: u32, last: Box<Failure> },
}

impl Failure {
    pub fn io(path: &Path, error: std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    /// Whether another try may succeed, and when the server said it could.
    pub fn retry(&self) -> Option<Option<Duration>> {
        match self {
            Self::Connection(_) | Self::Stalled(_) => Some(None),
            Self::Refused(refusal) => refusal.is_temporary().then_some(refusal.retry_after),
            Self::File { .. }
            | Self::Changed(_)
            | Self::Differs { .. }
            | Self::Certificate(_)
            | Self::Credentials(_)
            | Self::Protocol(_)
            | Self::GaveUp { .. } => None,
        }
    }

    /// A stable word for machines.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::Changed(_) => "changed",
            Self::Differs { .. } => "differs",
            Self::Connection(_) => "connection",
            Self::Certificate(_) => "certificate",
            Self::Stalled(_) => "stalled",
            Self::Refused(_) => "refused",
            Self::Credentials(_) => "credentials",
            Self::Protocol(_) => "protocol",
            Self::GaveUp { last, .. } => last.kind(),
        }
    }

    /// The answer behind this failure, if it was one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::GaveUp { last, .. } => last.refusal(),
            _ => None,
        }
    }
}

/// An answer other than the one hoped for.
#[derive(Debug)]
pub struct Refusal {
    /// What was asked for, as in "pushing the blob".
    pub what: &'static str,
    pub status: StatusCode,
    pub errors: Vec<OciError>,
    /// The body, where it isn't an OCI error.
    pub text: String,
    pub retry_after: Option<Duration>,
    /// Whose credentials were tried, as in "the login of ann".
    pub login: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct OciError {
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
}

impl std::error::Error for Refusal {}

impl Refusal {
    pub fn new(what: &'static str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Body {
            errors: Vec<OciError>,
        }
        let errors = serde_json::from_slice::<Body>(body)
            .map(|body| body.errors)
            .unwrap_or_default();
        let text = if errors.is_empty() {
            String::from_utf8_lossy(body).into_owned()
        } else {
            String::new()
        };
        Self {
            what,
            status,
            errors,
            text,
            retry_after: retry_after(headers, SystemTime::now()),
            login: None,
        }
    }

    pub fn has_code(&self, code: &str) -> bool {
        self.errors.iter().any(|error| error.code == code)
    }

    pub fn is_temporary(&self) -> bool {
        match self.status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => true,
            // These two say that the server will never do it.
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => false,
            status => status.is_server_error(),
        }
    }

    fn advice(&self) -> Option<String> {
        if let (StatusCode::UNAUTHORIZED, Some(login)) = (self.status, &self.login) {
            return Some(format!("it does not accept {login}"));
        }
        self.fixed_advice().map(str::to_owned)
    }

    fn fixed_advice(&self) -> Option<&'static str> {
        if self.has_code("DIGEST_INVALID") {
            return Some(
                "the file is unchanged and has this digest, so something between here and the \
                 registry alters the data",
            );
        }
        Some(match self.status {
            StatusCode::UNAUTHORIZED => {
                "log in: --user NAME with --password-stdin, --token-file, or docker login"
            }
            StatusCode::FORBIDDEN => "this account may not push to this repository",
            StatusCode::NOT_FOUND => {
                "the registry knows no such repository, or takes no push by digest (--fallback)"
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                "the registry takes no push by digest (--fallback), or is read-only"
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                "the registry, or a proxy before it, limits the size of a request"
            }
            status if status.is_redirection() => {
                "the registry redirects elsewhere: give that address, pushes follow no redirect"
            }
            _ => return None,
        })
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: the registry answered {}", self.what, self.status)?;
        for error in &self.errors {
            write!(f, ": {}", printable(&error.code))?;
            if !error.message.is_empty() {
                write!(f, " ({})", printable(&error.message))?;
            }
        }
        if !self.text.trim().is_empty() {
            write!(f, ": {}", printable(self.text.trim()))?;
        }
        match self.advice() {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

/// What a server wrote, made safe for a terminal and short enough for a line.
pub fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut shown: String = text.chars().take(MAX_SHOWN).map(clean).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// [RFC 9110, "Retry-After"](https://www.rfc-editor.org/rfc/rfc9110.html#name-retry-after): seconds
/// or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_retry_after_in_both_forms() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, seconds) in [
            ("7", Some(7)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())]);
            assert_eq!(
                retry_after(&headers, now),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
    }

    #[test]
    fn knows_which_answers_are_worth_another_try() {
        for (status, temporary) in [
            (400, false),
            (401, false),
            (403, false),
            (404, false),
            (405, false),
            (408, true),
            (413, false),
            (429, true),
            (500, true),
            (501, false),
            (502, true),
            (503, true),
            (504, true),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let refusal = Refusal::new("pushing", status, &HeaderMap::new(), b"");
            assert_eq!(refusal.is_temporary(), temporary, "{status}");
        }
    }

    #[test]
    fn shows_the_registrys_words_without_its_control_characters() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\u001b[2J"}]}"#;
        let refusal = Refusal::new(
            "pushing the blob",
            StatusCode::FORBIDDEN,
            &HeaderMap::new(),
            body,
        );
        assert_eq!(
            refusal.to_string(),
            "pushing the blob: the registry answered 403 Forbidden: DENIED (no [2J); this account \
             may not push to this repository"
        );
    }
}

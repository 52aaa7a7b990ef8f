use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;

/// The header by which a request is known from one server to the next.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ones are nobody's honest id.
const LONGEST: usize = 128;

/// What a request is known by: in the access log, at the upstream, at the store and to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The client's own, where it is one and sane; else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(X_REQUEST_ID).iter();
        match (given.next(), given.next()) {
            (Some(id), None) if is_sane(id.as_bytes()) => {
                Self(String::from_utf8_lossy(id.as_bytes()).into_owned())
            }
            _ => Self(format!("{:032x}", fastrand::u128(..))),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `None` never, as only sane ids are taken; but that is for the type to say.
    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Of characters that need no quotes anywhere: not in a log line, nor in a header's comment.
fn is_sane(id: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    (1..=LONGEST).contains(&id.len()) && id.iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for id in given {
            headers.append(X_REQUEST_ID, HeaderValue::from_static(id));
        }
        RequestId::of(&headers).to_string()
    }

    #[test]
    fn a_sane_id_is_kept() {
        for id in ["1", "7f3c-11", "Root=1-67891233-abcdef"] {
            assert_eq!(of(&[id]), id);
        }
    }

    #[test]
    fn anything_else_gets_a_new_one() {
        let long: &'static str = Box::leak("x".repeat(129).into_boxed_str());
        for given in [
            &[][..],
            &[""],
            &["a b"],
            &["a\"b"],
            &["a)b"],
            &["1", "2"],
            &[long],
        ] {
            let id = of(given);
            assert!(
                id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()),
                "{id}"
            );
            assert_ne!(id, of(given));
        }
    }
}

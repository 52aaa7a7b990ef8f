//! The questions blobgate itself asks the upstream registry: may this client push here, and does
//! the repository have this blob? Asked with the client's own headers, so that blobgate needs no
//! users and no policy.

use crate::config;
use crate::net;
use crate::registry::{Digest, RepositoryName};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use std::time::Duration;

/// An answer longer than this is none a registry gives to these questions, bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Idle connections kept to the upstream.
const POOL_SIZE: usize = 32;
const POOL_IDLE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Upstream {
    client: net::Client,
    /// Scheme, host and port, without a slash at the end.
    base: String,
    timeout: Duration,
}

/// The upstream's answer to the question whether a client may push.
#[derive(Debug, Clone)]
pub enum Permission {
    Granted,
    /// To be handed to the client as it is: status, headers and body.
    Refused(Refusal),
}

/// The upstream's answer to the question for a blob in a repository.
#[derive(Debug, Clone)]
pub enum Presence {
    Present,
    Absent,
    Refused(Refusal),
}

#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The upstream could not be asked, or what it said cannot be relied on. Either way the push is
/// refused.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("the registry could not be asked: {0}")]
    NoAnswer(#[from] net::Error),
    #[error("the registry answered {status} to the {question}, which says neither yes nor no")]
    Unclear {
        question: &'static str,
        status: StatusCode,
    },
    #[error("the question could not be put: {0}")]
    Question(#[from] http::Error),
}

impl Upstream {
    pub fn new(config: &config::Upstream) -> Result<Self, net::SetupError> {
        let client = net::Client::new(&net::Options {
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            pool_idle_timeout: POOL_IDLE,
            pool_size: POOL_SIZE,
            encrypted: config.url.scheme() == "https",
            ca_file: config.ca_file.clone(),
        })?;
        Ok(Self {
            client,
            base: config.url.as_str().trim_end_matches('/').to_owned(),
            timeout: config.probe_timeout,
        })
    }

    /// Asks whether the client whose headers these are may push to the repository, and whether the
    /// registry takes pushes at all.
    ///
    /// The question is the push of an empty manifest: authorisation and read-only maintenance are
    /// looked at first, and an empty manifest can never be stored. distribution:
    /// `registry/handlers/manifests.go`, `PutManifest`.
    pub async fn may_push(
        &self,
        name: &RepositoryName,
        client: &HeaderMap,
    ) -> Result<Permission, UpstreamError> {
        const NO_MANIFEST: &str =
            "sha256:0000000000000000000000000000000000000000000000000000000000000000";
        let path = format!("/v2/{name}/manifests/{NO_MANIFEST}");
        let mut headers = client.clone();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/vnd.oci.image.manifest.v1+json"),
        );
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        let answer = self.ask(Method::PUT, &path, headers).await?;
        match answer.status() {
            status if is_refusal(status) => Ok(Permission::Refused(refusal(answer))),
            StatusCode::BAD_REQUEST if names_code(answer.body(), "MANIFEST_INVALID") => {
                Ok(Permission::Granted)
            }
            status => Err(UpstreamError::Unclear {
                question: "question whether this client may push",
                status,
            }),
        }
    }

    /// Asks whether the blob is in the repository already.
    pub async fn has_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        client: &HeaderMap,
    ) -> Result<Presence, UpstreamError> {
        let path = format!("/v2/{name}/blobs/{digest}");
        let answer = self.ask(Method::HEAD, &path, client.clone()).await?;
        match answer.status() {
            // A redirect to the bucket says that it is there as well.
            StatusCode::OK | StatusCode::TEMPORARY_REDIRECT => Ok(Presence::Present),
            StatusCode::NOT_FOUND => Ok(Presence::Absent),
            status if is_refusal(status) => Ok(Presence::Refused(refusal(answer))),
            status => Err(UpstreamError::Unclear {
                question: "question for the blob",
                status,
            }),
        }
    }

    /// Sends one request without a body, within the time a question has. `path` may have a query.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .body(net::empty())?;
        *request.headers_mut() = headers;
        Ok(self
            .client
            .call_within(self.timeout, request, MAX_ANSWER)
            .await?)
    }
}

/// The refusals that are the upstream's own to give.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::TOO_MANY_REQUESTS
    )
}

fn refusal(answer: Response<Bytes>) -> Refusal {
    let (head, body) = answer.into_parts();
    let mut headers = head.headers;
    for name in HOP_BY_HOP.iter().chain(&[header::CONTENT_LENGTH]) {
        headers.remove(name);
    }
    Refusal {
        status: head.status,
        headers,
        body,
    }
}

fn names_code(body: &[u8], code: &str) -> bool {
    serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|body| Some(body.get("errors")?.as_array()?.clone()))
        .is_some_and(|errors| errors.iter().any(|error| error["code"] == code))
}

/// Headers that concern one connection only, [RFC 9110, section
/// 7.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
];

/// What of a client's headers goes along with a question: everything that may say who asks, nothing
/// that describes the body or the answer wanted of the client's own request.
pub fn question_headers(client: &HeaderMap) -> HeaderMap {
    const DROPPED: [HeaderName; 8] = [
        header::EXPECT,
        header::RANGE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_UNMODIFIED_SINCE,
        header::IF_RANGE,
        header::ACCEPT_ENCODING,
    ];
    let named_by_connection: Vec<HeaderName> = client
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    client
        .iter()
        .filter(|(name, _)| {
            !HOP_BY_HOP.contains(name)
                && !DROPPED.contains(name)
                && !named_by_connection.contains(name)
                && !name.as_str().starts_with("content-")
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_carries_who_asks_and_nothing_of_the_body() {
        let mut client = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Basic x"),
            ("cookie", "a=b"),
            ("x-api-key", "k"),
            ("host", "registry.example"),
            ("content-length", "5"),
            ("content-type", "application/octet-stream"),
            ("expect", "100-continue"),
            ("transfer-encoding", "chunked"),
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("range", "bytes=0-1"),
        ] {
            client.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let question = question_headers(&client);
        let mut names: Vec<&str> = question.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "cookie", "host", "x-api-key"]);
    }

    #[test]
    fn only_the_registrys_own_error_counts_as_a_yes() {
        let body = br#"{"errors":[{"code":"MANIFEST_INVALID","message":"x"}]}"#;
        assert!(names_code(body, "MANIFEST_INVALID"));
        for body in [
            "",
            "MANIFEST_INVALID",
            "{}",
            r#"{"errors":"MANIFEST_INVALID"}"#,
            "[1]",
        ] {
            assert!(!names_code(body.as_bytes(), "MANIFEST_INVALID"), "{body}");
        }
    }
}

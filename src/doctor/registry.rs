//! The registry behind blobgate, asked as blobgate asks it.

use super::report::{Finding, Verdict};
use crate::registry::RepositoryName;
use crate::upstream::{Permission, Upstream, UpstreamError};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use url::Url;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Requests as a client's come through blobgate.
pub struct Client<'a> {
    pub upstream: &'a Upstream,
    /// The host (and port) by which clients are taken to know blobgate.
    pub host: &'a str,
    /// Whether the host was told or guessed.
    pub host_given: bool,
    /// Whether blobgate's listener has TLS.
    pub tls: bool,
    pub authorization: Option<HeaderValue>,
}

impl Client<'_> {
    /// Host and `X-Forwarded-*` as blobgate sends them.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(host) = HeaderValue::from_str(self.host) {
            headers.insert(header::HOST, host.clone());
            headers.insert(X_FORWARDED_HOST, host);
        }
        let scheme = if self.tls { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
        if let Some(authorization) = &self.authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        headers
    }

    /// Whether there is a registry. Gives the headers of its 401, where it asks for credentials.
    pub async fn api(&self) -> Verdict<Option<HeaderMap>> {
        let answer = match self.upstream.ask(Method::GET, "/v2/", self.headers()).await {
            Ok(answer) => answer,
            Err(error) => return unreachable(&error),
        };
        let (status, headers) = (answer.status(), answer.headers());
        let version = headers.get(API_VERSION).map(|version| {
            String::from_utf8_lossy(version.as_bytes())
                .escape_debug()
                .to_string()
        });
        let asks = match status {
            StatusCode::OK => None,
            StatusCode::UNAUTHORIZED => Some(headers.clone()),
            _ => {
                return Verdict::Fail(Finding::new(
                    format!("GET /v2/ is answered {status}, where a registry says 200 or 401"),
                    "write the registry's own address in upstream.url; behind it must be a \
                     registry without http.prefix",
                ));
            }
        };
        let how = if asks.is_some() {
            "asks for credentials"
        } else {
            "is open to everyone"
        };
        match version {
            Some(version) => Verdict::Pass(format!("GET /v2/ {how} ({version})"), asks),
            None => Verdict::Warn(
                Finding::new(
                    format!("GET /v2/ {how}, but without Docker-Distribution-Api-Version"),
                    "see that upstream.url is distribution itself: blobgate relies on its answers \
                     and its layout",
                ),
                asks,
            ),
        }
    }

    /// blobgate's own question before every push.
    pub async fn may_push(&self, name: &RepositoryName) -> Verdict {
        let refusal = match self.upstream.may_push(name, &self.headers()).await {
            Ok(Permission::Granted) => {
                return Verdict::Pass(format!("pushes to {name} are allowed"), ());
            }
            Ok(Permission::Refused(refusal)) => refusal,
            Err(error @ UpstreamError::Unclear { .. }) => {
                return Verdict::Fail(Finding::new(
                    error.to_string(),
                    "every push will get 503: see that upstream.url is distribution itself, \
                     without a proxy before it that rewrites its answers",
                ));
            }
            Err(error) => return unreachable(&error),
        };
        match refusal.status {
            StatusCode::METHOD_NOT_ALLOWED => Verdict::Warn(
                Finding::new(
                    "the registry is read-only (405): every push will be refused",
                    "turn its storage.maintenance.readonly off once maintenance is over",
                ),
                (),
            ),
            StatusCode::TOO_MANY_REQUESTS => Verdict::Fail(Finding::new(
                "the registry asks for fewer requests (429)",
                "raise its limit for blobgate, which asks it twice for each push",
            )),
            status => Verdict::Fail(Finding::new(
                format!("the registry refuses a push to {name} ({status})"),
                "give the credentials of a user who may push there, or another --repository",
            )),
        }
    }

    /// Opens an upload session, looks where its Location leads, and cancels it. Gives its id.
    pub async fn location(&self, name: &RepositoryName) -> Verdict<String> {
        let path = format!("/v2/{name}/blobs/uploads/");
        let mut headers = self.headers();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        let answer = match self.upstream.ask(Method::POST, &path, headers).await {
            Ok(answer) => answer,
            Err(error) => return unreachable(&error),
        };
        let location = answer
            .headers()
            .get(header::LOCATION)
            .and_then(|location| location.to_str().ok());
        let (StatusCode::ACCEPTED, Some(location)) = (answer.status(), location) else {
            return Verdict::Fail(Finding::new(
                format!(
                    "an upload session was answered {} instead of 202 with a Location",
                    answer.status()
                ),
                "see that the registry takes pushes itself: it must be no pull-through cache \
                 (proxy.remoteurl) and not read-only",
            ));
        };
        let left = self.cancel(location).await;
        let id = answer.headers().get(UPLOAD_ID);
        let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
        let asked = format!("http://{}/", self.host);
        let asked = Url::parse(&asked).ok();
        let leads = asked.as_ref().and_then(|asked| asked.join(location).ok());
        // Ports count only where they are written: the scheme may differ behind a TLS proxy.
        let authority = |url: &Url| (url.host_str().map(str::to_owned), url.port());
        match leads {
            Some(leads) if asked.as_ref().map(authority) == Some(authority(&leads)) => {
                let how = match location.starts_with('/') {
                    true => "relative",
                    false => "made of the Host asked for",
                };
                Verdict::Pass(format!("Location URLs are {how}{left}"), id.to_owned())
            }
            leads => self.astray(leads, &left, id),
        }
    }

    fn astray(&self, leads: Option<Url>, left: &str, id: &str) -> Verdict<String> {
        let host = leads.as_ref().map(|url| {
            let port = url.port().map(|port| format!(":{port}"));
            format!(
                "{}{}",
                url.host_str().unwrap_or_default(),
                port.unwrap_or_default()
            )
        });
        let Some(host) = host else {
            return Verdict::Fail(Finding::new(
                format!("an upload session's Location is no URL{left}"),
                "see that upstream.url is distribution itself",
            ));
        };
        let unset = "clear the registry's http.host, set its http.relativeurls, and see that no \
                     proxy between changes Host";
        let remedy = match self.host_given {
            true => format!("{unset}; or clients' pushes go past blobgate"),
            false => format!(
                "if clients know blobgate as {host}, say so by --host {host}; else {unset}, or \
                 clients' pushes go past blobgate"
            ),
        };
        let found = format!(
            "asked as {}, the registry sends clients to {host}{left}",
            self.host
        );
        Verdict::Warn(Finding::new(found, remedy), id.to_owned())
    }

    /// What is left of the session, in words; empty where nothing is.
    async fn cancel(&self, location: &str) -> String {
        let base = Url::parse("http://upstream/").ok();
        let target = base.and_then(|base| base.join(location).ok());
        let Some(target) = target else {
            return String::new();
        };
        let path = match target.query() {
            Some(query) => format!("{}?{query}", target.path()),
            None => target.path().to_owned(),
        };
        let reason = match self
            .upstream
            .ask(Method::DELETE, &path, self.headers())
            .await
        {
            Ok(answer) if answer.status().is_success() => return String::new(),
            Ok(answer) => answer.status().to_string(),
            Err(error) => error.to_string(),
        };
        format!(
            " (the session could not be cancelled: {reason}; the registry's own upload purging \
             removes it)"
        )
    }
}

fn unreachable<T>(error: &UpstreamError) -> Verdict<T> {
    Verdict::Fail(Finding::new(
        error.to_string(),
        "start the registry, and see that upstream.url is its address and scheme",
    ))
}

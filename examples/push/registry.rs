//! Requests to the registry, with what authorises them.

use crate::auth::{Authenticator, Credentials};
use crate::endpoint::Endpoint;
use crate::failure::{Failure, Refusal, printable};
use crate::http_client::{Answer, HttpClient, Payload};
use blobgate::registry::{Digest, RepositoryName};
use http::{Method, StatusCode, header};
use url::Url;

/// Challenges answered for one request: a token may have expired, and then its successor may have
/// been fetched by another push with another challenge.
const MAX_CHALLENGES: u32 = 3;
const MAX_REDIRECTS: u32 = 5;

pub struct Registry {
    http: HttpClient,
    endpoint: Endpoint,
    repository: RepositoryName,
    auth: Authenticator,
}

impl Registry {
    pub fn new(
        http: HttpClient,
        endpoint: Endpoint,
        repository: RepositoryName,
        credentials: Credentials,
    ) -> Self {
        Self {
            auth: Authenticator::new(endpoint.clone(), repository.as_str(), credentials),
            http,
            endpoint,
            repository,
        }
    }

    /// Asks whether anybody is there and takes the credentials, before gigabytes are hashed.
    pub async fn ping(&self) -> Result<(), Failure> {
        let url = self.endpoint.url("");
        let answer = self.send(Method::GET, &url, None, Payload::Empty).await?;
        let refusal = || self.refusal("reaching the registry", &answer);
        if answer.status == StatusCode::UNAUTHORIZED || refusal().is_temporary() {
            return Err(refusal().into());
        }
        // Registries differ in what they answer here; the push itself will tell.
        Ok(())
    }

    pub fn blob_url(&self, digest: &Digest) -> Url {
        let repository = &self.repository;
        self.endpoint.url(&format!("{repository}/blobs/{digest}"))
    }

    pub fn uploads_url(&self) -> Url {
        let repository = &self.repository;
        self.endpoint.url(&format!("{repository}/blobs/uploads/"))
    }

    /// `reference`: a digest or a tag.
    pub fn manifest_url(&self, reference: &str) -> Url {
        let repository = &self.repository;
        self.endpoint
            .url(&format!("{repository}/manifests/{reference}"))
    }

    /// Whether the repository has this blob. Only a failure worth another try is one: what the
    /// registry won't tell here, the push itself finds out.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, Failure> {
        let mut url = self.blob_url(digest);
        for _ in 0..MAX_REDIRECTS {
            let answer = self.send(Method::HEAD, &url, None, Payload::Empty).await?;
            if answer.status == StatusCode::OK {
                return Ok(true);
            }
            let refusal = self.refusal("looking for the blob", &answer);
            if refusal.is_temporary() {
                return Err(refusal.into());
            }
            // A registry may send readers to its object store.
            if !answer.status.is_redirection() {
                return Ok(false);
            }
            match location(&url, &answer) {
                Some(next) if !is_downgrade(&url, &next) => url = next,
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Sends a request and answers the challenges it meets. Another host than the registry's gets
    /// no credentials, and its challenges no answer.
    pub async fn send(
        &self,
        method: Method,
        url: &Url,
        content_type: Option<&str>,
        payload: Payload,
    ) -> Result<Answer, Failure> {
        if !self.endpoint.owns(url) {
            return self
                .http
                .send(method, url, None, content_type, payload)
                .await;
        }
        let mut challenges = 0;
        loop {
            let grant = self.auth.grant(&self.http).await?;
            let answer = self
                .http
                .send(
                    method.clone(),
                    url,
                    grant.header.clone(),
                    content_type,
                    payload.clone(),
                )
                .await?;
            challenges += 1;
            if answer.status != StatusCode::UNAUTHORIZED
                || challenges > MAX_CHALLENGES
                || !self
                    .auth
                    .answer(&self.http, &answer.headers, &grant)
                    .await?
            {
                return Ok(answer);
            }
        }
    }

    /// An answer that is not the one hoped for.
    pub fn refusal(&self, what: &'static str, answer: &Answer) -> Refusal {
        Refusal {
            login: self.auth.login(),
            ..Refusal::new(what, answer.status, &answer.headers, &answer.body)
        }
    }

    /// Where an upload session continues.
    pub fn session_url(&self, answer: &Answer) -> Result<Url, Failure> {
        let base = self.uploads_url();
        let url = location(&base, answer).ok_or_else(|| {
            Failure::Protocol("the registry's upload session has no usable Location".into())
        })?;
        if is_downgrade(&base, &url) {
            return Err(Failure::Protocol(format!(
                "the registry wants the upload in clear, at {}: it seems not to know that it is \
                 reached by https (X-Forwarded-Proto, or its own address in its configuration)",
                printable(&url.origin().ascii_serialization())
            )));
        }
        Ok(url)
    }
}

fn location(base: &Url, answer: &Answer) -> Option<Url> {
    let location = answer.headers.get(header::LOCATION)?.to_str().ok()?;
    let url = base.join(location).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

fn is_downgrade(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() != "https"
}

/// The session's URL with the digest that ends it. What the registry wrote in the query is kept as
/// it is: it may be signed.
pub fn with_digest(mut url: Url, digest: &Digest) -> Url {
    let digest = digest.to_string().replace(':', "%3A");
    let query = match url.query() {
        Some(query) if !query.is_empty() => format!("{query}&digest={digest}"),
        _ => format!("digest={digest}"),
    };
    url.set_query(Some(&query));
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_sessions_query() {
        let hex = "0a".repeat(32);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        for (url, expected) in [
            ("http://a.test/u", "http://a.test/u?"),
            ("http://a.test/u?", "http://a.test/u?"),
            (
                "http://a.test/u?_state=a%2Bb-c%3D%3D",
                "http://a.test/u?_state=a%2Bb-c%3D%3D&",
            ),
        ] {
            let url = with_digest(Url::parse(url).unwrap(), &digest);
            assert_eq!(url.as_str(), format!("{expected}digest=sha256%3A{hex}"));
        }
    }
}

//! The way from rusoto's request to the wire, and the answer as it came. rusoto words the requests;
//! addressing, credentials and sending are done here, since its own client knows path-style
//! addressing only, has no bounds in time, and panics at a non-ASCII response header.

use super::credentials::CredentialSource;
use super::fault::{Failure, Fault};
use crate::{config, net};
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rusoto_core::request::{
    DispatchSignedRequest, DispatchSignedRequestFuture, HttpDispatchError, HttpResponse,
};
use rusoto_core::signature::{SignedRequest, SignedRequestPayload};
use rusoto_core::{ByteStream, Region};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The longest answer read, in bytes. A page of a listing is the longest there is, and we choose
/// its length.
const MAX_ANSWER: usize = 1024 * 1024;

pub(super) const USER_AGENT: &str = concat!("blobgate/", env!("CARGO_PKG_VERSION"));

/// Where the bucket is reached.
#[derive(Debug, Clone)]
pub(super) struct Addressing {
    region: Region,
    /// Host, with its port, that names the bucket; `None` where the path names it.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html>
    virtual_host: Option<String>,
    /// What rusoto puts before every key: `/<bucket>`.
    bucket_path: String,
}

impl Addressing {
    /// `None` where the endpoint is no host at which a bucket could have a name of its own.
    pub fn new(config: &config::Bucket) -> Option<Self> {
        let (scheme, host, path) = match &config.endpoint {
            Some(url) => {
                if !config.path_style && url.domain().is_none() {
                    return None;
                }
                let port = url.port().map(|port| format!(":{port}"));
                let host = format!("{}{}", url.host_str()?, port.unwrap_or_default());
                (url.scheme(), host, url.path().trim_end_matches('/'))
            }
            None => ("https", aws_host(&config.region), ""),
        };
        let mut addressing = Self::at(&config.name, &config.region, scheme, &host, path);
        if config.path_style {
            addressing.virtual_host = None;
        }
        Some(addressing)
    }

    fn at(bucket: &str, region: &str, scheme: &str, host: &str, path: &str) -> Self {
        Self {
            region: Region::Custom {
                name: region.to_owned(),
                endpoint: format!("{scheme}://{host}{path}"),
            },
            virtual_host: Some(format!("{bucket}.{host}")),
            bucket_path: format!("/{bucket}"),
        }
    }

    pub fn region(&self) -> &Region {
        &self.region
    }

    pub fn url(&self) -> Option<url::Url> {
        let Region::Custom { endpoint, .. } = &self.region else {
            return None;
        };
        let (scheme, host) = endpoint.split_once("://")?;
        let host = self.virtual_host.as_deref().unwrap_or(host);
        format!("{scheme}://{host}").parse().ok()
    }

    pub fn is_encrypted(&self) -> bool {
        self.url().is_none_or(|url| url.scheme() == "https")
    }

    fn apply(&self, request: &mut SignedRequest) {
        let Some(host) = &self.virtual_host else {
            return;
        };
        if let Some(key) = request.path.strip_prefix(&self.bucket_path) {
            request.path = key.to_owned();
        }
        request.set_hostname(Some(host.clone()));
    }
}

/// <https://docs.aws.amazon.com/general/latest/gr/s3.html>
fn aws_host(region: &str) -> String {
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    format!("s3.{region}.{domain}")
}

/// What all attempts share.
pub(super) struct Transport {
    pub client: net::Client,
    pub credentials: CredentialSource,
    pub addressing: Addressing,
}

/// A whole answer of the store, as it came.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn e_tag(&self) -> Option<String> {
        let e_tag = self.headers.get(header::ETAG)?;
        let e_tag = String::from_utf8_lossy(e_tag.as_bytes()).into_owned();
        Some(e_tag).filter(|e_tag| !e_tag.is_empty())
    }

    /// What `Content-Length` says: for the answer to a HEAD, the object's size in bytes.
    pub fn content_length(&self) -> Option<u64> {
        let length = self.headers.get(header::CONTENT_LENGTH)?;
        length.to_str().ok()?.parse().ok()
    }
}

/// What happened on the wire in one attempt, kept beside rusoto's outcome, which tells less.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    pub answer: Option<Answer>,
    pub fault: Option<Fault>,
}

/// Sends the one request of one attempt.
#[derive(Clone)]
pub(super) struct Attempt {
    transport: Arc<Transport>,
    user_agent: HeaderValue,
    exchange: Arc<Mutex<Exchange>>,
}

impl Attempt {
    pub fn new(transport: Arc<Transport>, user_agent: HeaderValue) -> Self {
        Self {
            transport,
            user_agent,
            exchange: Arc::default(),
        }
    }

    pub fn take_exchange(&self) -> Exchange {
        std::mem::take(&mut *self.exchange())
    }

    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, mut request: SignedRequest) -> Result<HttpResponse, Fault> {
        let transport = &self.transport;
        let credentials = transport
            .credentials
            .get()
            .await
            .map_err(|reason| Fault::new(&Failure::NoCredentials, reason))?;
        transport.addressing.apply(&mut request);
        request.sign(&credentials);
        let request = to_wire(request, self.user_agent.clone())?;
        let answer = transport
            .client
            .call(request, MAX_ANSWER)
            .await
            .map_err(|error| Fault::new(&Failure::Wire(error.class), error.message))?;

        let (head, body) = answer.into_parts();
        self.exchange().answer = Some(Answer {
            status: head.status,
            headers: head.headers,
            body,
        });
        to_rusoto(head.status)
    }
}

impl DispatchSignedRequest for Attempt {
    fn dispatch(
        &self,
        request: SignedRequest,
        _timeout: Option<std::time::Duration>,
    ) -> DispatchSignedRequestFuture {
        let attempt = self.clone();
        async move {
            attempt.send(request).await.map_err(|fault| {
                let error = HttpDispatchError::new(fault.message.clone());
                attempt.exchange().fault = Some(fault);
                error
            })
        }
        .boxed()
    }
}

fn to_wire(
    request: SignedRequest,
    user_agent: HeaderValue,
) -> Result<http::Request<net::Body>, Fault> {
    let unusable = |error: http::Error| {
        // Neither the URI nor a header's value goes into the message: they may hold a secret.
        Fault::new(
            &Failure::Unusable,
            format!("the request cannot be sent: {error}"),
        )
    };
    let mut uri = format!(
        "{}://{}{}",
        request.scheme(),
        request.hostname(),
        request.canonical_uri()
    );
    if !request.canonical_query_string().is_empty() {
        uri.push('?');
        uri.push_str(request.canonical_query_string());
    }
    let mut headers = HeaderMap::new();
    for (name, values) in request.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| unusable(e.into()))?;
        for value in values {
            let mut value = HeaderValue::from_bytes(value).map_err(|e| unusable(e.into()))?;
            value.set_sensitive(name == header::AUTHORIZATION || name == "x-amz-security-token");
            headers.append(name.clone(), value);
        }
    }
    headers.insert(header::USER_AGENT, user_agent);
    let mut wire = http::Request::builder()
        .method(request.method())
        .uri(uri)
        .body(match request.payload {
            None => net::empty(),
            Some(SignedRequestPayload::Buffer(bytes)) => net::full(bytes),
            Some(SignedRequestPayload::Stream(stream)) => net::streamed(stream),
        })
        .map_err(unusable)?;
    *wire.headers_mut() = headers;
    Ok(wire)
}

/// Passes on the status alone. We read headers and body ourselves: rusoto unwraps what it parses
/// from headers, and its XML parser spins for ever at the end of a document that is cut short.
fn to_rusoto(status: StatusCode) -> Result<HttpResponse, Fault> {
    let status = http02::StatusCode::from_u16(status.as_u16())
        .map_err(|error| Fault::new(&Failure::Unusable, error.to_string()))?;
    Ok(HttpResponse {
        status,
        headers: Default::default(),
        body: ByteStream::from(Vec::new()),
    })
}

#[cfg(test)]
mod tests;

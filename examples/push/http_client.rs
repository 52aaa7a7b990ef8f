//! Sends one request and takes its answer in. Knows nothing of registries.
//!
//! hyper itself, not a client on top of it: only here can a body be held back until the server
//! answers `100 Continue`, so that a blob the registry already has, or refuses, costs no transfer.
//! Proxy variables of the environment are not looked at, and redirects are not followed.

use crate::body::{FileBody, Flow};
use crate::failure::Failure;
use crate::progress::Task;
use crate::source::Source;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, Limited};
use hyper_tls::HttpsConnector;
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use url::Url;

const USER_AGENT: &str = concat!("blobgate-push/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// For a request that carries no file. A registry may check a large index against its store.
const SMALL_REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a server may take to send `100 Continue`: longer than a proxy takes to ask its
/// upstream, short enough for servers that never send it.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(3);
/// Below this, waiting for `100 Continue` costs more than sending the body for nothing. Not below
/// 256 KiB: so much of a refused body Go's server may want to read before it answers, without having
/// asked for it.
const EXPECT_FROM: u64 = 512 << 10;
/// No answer that is read here is larger.
const MAX_ANSWER: usize = 4 << 20;

pub struct HttpClient {
    client: legacy::Client<HttpsConnector<HttpConnector>, RequestBody>,
    stall_timeout: Duration,
    /// Cleared once the server has been seen not to send `100 Continue`.
    expect: AtomicBool,
}

#[derive(Clone)]
pub enum Payload {
    Empty,
    Bytes(Bytes),
    File(Arc<Source>, Task),
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Bytes of a file that were on their way when the answer came.
    pub sent: u64,
}

impl HttpClient {
    /// `authorities`: certificates in PEM that are trusted beside the system's.
    pub fn new(authorities: Option<&[u8]>, stall_timeout: Duration) -> Result<Self, String> {
        let mut tls = native_tls::TlsConnector::builder();
        tls.min_protocol_version(Some(native_tls::Protocol::Tlsv12));
        if let Some(pem) = authorities {
            let certificates = native_tls::Certificate::stack_from_pem(pem)
                .map_err(|error| format!("no certificates in PEM form: {error}"))?;
            if certificates.is_empty() {
                return Err("no certificates in PEM form".into());
            }
            for certificate in certificates {
                tls.add_root_certificate(certificate);
            }
        }
        let tls = tls.build().map_err(|error| error.to_string())?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        // A peer that vanished while we wait for its answer.
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Below what servers commonly allow, so that none closes under a request.
            .pool_idle_timeout(Duration::from_secs(20))
            .http1_writev(true)
            .build(HttpsConnector::from((tcp, tls.into())));
        Ok(Self {
            client,
            stall_timeout,
            expect: AtomicBool::new(true),
        })
    }

    pub async fn send(
        &self,
        method: Method,
        url: &Url,
        authorization: Option<HeaderValue>,
        content_type: Option<&str>,
        payload: Payload,
    ) -> Result<Answer, Failure> {
        let mut builder = Request::builder()
            .method(&method)
            .uri(url.as_str())
            .header(header::USER_AGENT, USER_AGENT);
        if let Some(authorization) = authorization {
            builder = builder.header(header::AUTHORIZATION, authorization);
        }
        if let Some(content_type) = content_type {
            builder = builder.header(header::CONTENT_TYPE, content_type);
        }
        let request = builder
            .body(())
            .map_err(|error| Failure::Protocol(format!("not a request: {error}")))?;
        match payload {
            Payload::Empty => self.send_bytes(request, Bytes::new()).await,
            Payload::Bytes(bytes) => self.send_bytes(request, bytes).await,
            Payload::File(source, task) => self.send_file(request, source, task).await,
        }
    }

    async fn send_bytes(&self, request: Request<()>, bytes: Bytes) -> Result<Answer, Failure> {
        let mut request = request.map(|()| RequestBody::Bytes(Full::new(bytes.clone())));
        // Some servers want a length even where there is no body.
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let len = HeaderValue::from(bytes.len());
            request.headers_mut().insert(header::CONTENT_LENGTH, len);
        }
        tokio::time::timeout(SMALL_REQUEST_TIMEOUT, self.exchange(request))
            .await
            .unwrap_or(Err(Failure::Stalled(SMALL_REQUEST_TIMEOUT)))
    }

    async fn send_file(
        &self,
        mut request: Request<()>,
        source: Arc<Source>,
        task: Task,
    ) -> Result<Answer, Failure> {
        let len = HeaderValue::from(source.len());
        request.headers_mut().insert(header::CONTENT_LENGTH, len);
        if source.len() >= EXPECT_FROM && self.expect.load(Ordering::Relaxed) {
            let mut expecting = request.clone();
            let value = HeaderValue::from_static("100-continue");
            expecting.headers_mut().insert(header::EXPECT, value);
            let flow = Flow::new(true);
            let answer = self
                .send_flow(expecting, source.clone(), task.clone(), flow)
                .await?;
            if answer.status != StatusCode::EXPECTATION_FAILED {
                return Ok(answer);
            }
            self.expect.store(false, Ordering::Relaxed);
        }
        self.send_flow(request, source, task, Flow::new(false))
            .await
    }

    async fn send_flow(
        &self,
        request: Request<()>,
        source: Arc<Source>,
        task: Task,
        flow: Arc<Flow>,
    ) -> Result<Answer, Failure> {
        let body = FileBody::new(source, flow.clone(), task);
        let mut request = request.map(|()| RequestBody::File(body));
        let informed = flow.clone();
        hyper::ext::on_informational(&mut request, move |answer| {
            if answer.status() == StatusCode::CONTINUE {
                informed.open();
            }
        });
        // Whatever ends this function ends the body too.
        let _cancel = CancelOnDrop(flow.clone());
        let result = tokio::select! {
            result = self.exchange(request) => result,
            stalled = self.watch(&flow) => Err(stalled),
        };
        match result {
            Ok(answer) => Ok(Answer {
                sent: flow.sent(),
                ..answer
            }),
            Err(failure) => Err(flow.take_failure().unwrap_or(failure)),
        }
    }

    async fn exchange(&self, request: Request<RequestBody>) -> Result<Answer, Failure> {
        let response = self.client.request(request).await.map_err(explain)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body
            .map_err(|error| {
                Failure::Connection(format!("reading the answer: {}", chain(&*error)))
            })?
            .to_bytes();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            sent: 0,
        })
    }

    /// Lets a held body go when the server doesn't ask for it in time, and returns when nothing
    /// has moved for too long.
    async fn watch(&self, flow: &Flow) -> Failure {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let late = |since: Duration| since >= CONTINUE_TIMEOUT;
            if flow.is_held() && flow.asked_since().is_some_and(late) {
                self.expect.store(false, Ordering::Relaxed);
                flow.open();
            }
            if flow.still_since() >= self.stall_timeout {
                return Failure::Stalled(self.stall_timeout);
            }
        }
    }
}

struct CancelOnDrop(Arc<Flow>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

fn explain(error: legacy::Error) -> Failure {
    let text = chain(&error);
    // OpenSSL's, Schannel's and Security Framework's words, as far as they have one in common. A
    // handshake cut short is worth another try, a certificate that isn't trusted is not.
    if error.is_connect() && text.contains("certificate") {
        Failure::Certificate(text)
    } else {
        Failure::Connection(text)
    }
}

/// An error with its causes, each once: hyper's outer errors say too little, and some repeat the
/// inner ones.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

enum RequestBody {
    Bytes(Full<Bytes>),
    File(FileBody),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Bytes(body) => Pin::new(body)
                .poll_frame(context)
                .map_err(|never| match never {}),
            Self::File(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(body) => body.is_end_stream(),
            Self::File(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Bytes(body) => body.size_hint(),
            Self::File(body) => body.size_hint(),
        }
    }
}

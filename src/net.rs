//! The HTTP client blobgate itself sends with: to the bucket, and to the upstream registry for its
//! own questions. HTTP/1.1 over TCP or TLS, with pooled connections. It follows no redirect, reads
//! no proxy variable, changes neither path nor headers, and runs on whatever tokio runtime calls it.

mod resolver;

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::Frame;
use hyper_timeout::TimeoutConnector;
use hyper_tls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use resolver::Resolver;
pub(crate) use resolver::resolve;
use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A request's body. Not `Sync`, so that any boxed stream can be one.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// Time without traffic after which the kernel probes a connection that is in use.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Options {
    /// Name lookup, TCP and TLS handshake together.
    pub connect_timeout: Duration,
    /// No byte moved on the socket, in either direction, for this long fails the call. It also
    /// closes pooled connections that lie idle for that long.
    pub idle_timeout: Duration,
    /// How long an unused connection is kept. Keep it below the server's own limit.
    pub pool_idle_timeout: Duration,
    /// Unused connections kept for each host.
    pub pool_size: usize,
    /// Whether any URL to be asked is https. Without it no certificate authority is trusted, and the
    /// system's, some MiB of them, need not be read.
    pub encrypted: bool,
    /// PEM bundle of certificate authorities trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
}

/// Why a client could not be made of its options.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("cannot read the certificate authorities in {path}: {source}", path = .path.display())]
    ReadCa { path: PathBuf, source: io::Error },
    #[error("{path} holds no usable PEM certificate: {reason}", path = .path.display())]
    ParseCa { path: PathBuf, reason: String },
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] native_tls::Error),
}

/// What kind of failure kept a call from its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// No connection: name lookup, refused, unreachable.
    Connect,
    /// The TLS handshake failed, for example over the server's certificate.
    Tls,
    /// One of the bounds in time was passed.
    Timeout,
    /// The connection broke before the whole answer came.
    Closed,
    /// The answer's body is longer than the caller takes.
    TooLarge,
    /// Anything else, such as an answer that is not HTTP.
    Other,
}

/// A call that brought no whole answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub class: ErrorClass,
    pub message: String,
}

impl Error {
    fn of_request(error: legacy::Error) -> Self {
        let fallback = if error.is_connect() {
            ErrorClass::Connect
        } else {
            ErrorClass::Other
        };
        // The outermost message only says "client error": its causes tell what happened.
        match error.source() {
            Some(cause) => Self::of_cause(cause, fallback),
            None => Self {
                class: fallback,
                message: error.to_string(),
            },
        }
    }

    fn of_cause(error: &(dyn StdError + 'static), fallback: ErrorClass) -> Self {
        let mut class = fallback;
        let mut messages: Vec<String> = Vec::new();
        let mut next = Some(error);
        while let Some(cause) = next {
            // Causes are listed outermost first, and the inner ones know better.
            class = class_of(cause, fallback).unwrap_or(class);
            let message = cause.to_string();
            if messages.last().is_none_or(|last| !last.contains(&message)) {
                messages.push(message);
            }
            next = cause.source();
        }
        Self {
            class,
            message: messages.join(": "),
        }
    }

    fn out_of_time(limit: Duration) -> Self {
        Self {
            class: ErrorClass::Timeout,
            message: format!("no whole answer within {limit:?}"),
        }
    }
}

fn class_of(cause: &(dyn StdError + 'static), fallback: ErrorClass) -> Option<ErrorClass> {
    if cause.is::<LengthLimitError>() {
        return Some(ErrorClass::TooLarge);
    }
    if cause.is::<native_tls::Error>() {
        return Some(ErrorClass::Tls);
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return match error.kind() {
            io::ErrorKind::TimedOut => Some(ErrorClass::Timeout),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::UnexpectedEof
                if fallback != ErrorClass::Connect =>
            {
                Some(ErrorClass::Closed)
            }
            _ => None,
        };
    }
    let error = cause.downcast_ref::<hyper::Error>()?;
    if error.is_timeout() {
        Some(ErrorClass::Timeout)
    } else if error.is_incomplete_message()
        || error.is_closed()
        || error.is_canceled()
        || error.is_body_write_aborted()
    {
        Some(ErrorClass::Closed)
    } else {
        None
    }
}

/// The sockets' timer lies below TLS, so that bytes of a handshake count as progress; the outer
/// one bounds the whole way to a usable connection, TLS included.
type Connector = TimeoutConnector<HttpsConnector<TimeoutConnector<HttpConnector<Resolver>>>>;

/// Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: legacy::Client<Connector, Body>,
}

impl Client {
    pub fn new(options: &Options) -> Result<Self, SetupError> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::new());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_connect_timeout(Some(options.connect_timeout));

        let mut sockets = TimeoutConnector::new(tcp);
        sockets.set_read_timeout(Some(options.idle_timeout));
        sockets.set_write_timeout(Some(options.idle_timeout));
        // While a large body goes out nothing comes in: only silence both ways is a stall.
        sockets.set_reset_reader_on_write(true);

        let tls = HttpsConnector::from((sockets, tls_connector(options)?.into()));
        let mut connector = TimeoutConnector::new(tls);
        connector.set_connect_timeout(Some(options.connect_timeout));

        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.pool_idle_timeout)
            .pool_max_idle_per_host(options.pool_size)
            // Hands a body's chunks to the socket as they are, instead of copying them together.
            .http1_writev(true)
            .build(connector);
        Ok(Self { inner })
    }

    /// Sends the request and reads the whole answer, whose body may have up to `max_body` bytes.
    ///
    /// Without a bound on the whole: see [`Client::call_within`].
    pub async fn call(
        &self,
        request: Request<Body>,
        max_body: usize,
    ) -> Result<Response<Bytes>, Error> {
        let answer = self
            .inner
            .request(request)
            .await
            .map_err(Error::of_request)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, max_body)
            .collect()
            .await
            .map_err(|error| Error::of_cause(&*error, ErrorClass::Other))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    /// As [`Client::call`], failing with [`ErrorClass::Timeout`] when it takes longer than `limit`.
    pub async fn call_within(
        &self,
        limit: Duration,
        request: Request<Body>,
        max_body: usize,
    ) -> Result<Response<Bytes>, Error> {
        tokio::time::timeout(limit, self.call(request, max_body))
            .await
            .unwrap_or_else(|_| Err(Error::out_of_time(limit)))
    }
}

/// A request without a body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body in one piece.
pub fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body in pieces, sent as they are. The caller sets `Content-Length`, else it goes out chunked.
pub fn streamed<S>(chunks: S) -> Body
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    StreamBody::new(chunks.map_ok(Frame::data)).boxed_unsync()
}

fn tls_connector(options: &Options) -> Result<native_tls::TlsConnector, SetupError> {
    let mut builder = native_tls::TlsConnector::builder();
    builder.min_protocol_version(Some(native_tls::Protocol::Tlsv12));
    builder.disable_built_in_roots(!options.encrypted);
    if let Some(path) = &options.ca_file {
        let pem = std::fs::read(path).map_err(|source| SetupError::ReadCa {
            path: path.clone(),
            source,
        })?;
        let unusable = |reason: String| SetupError::ParseCa {
            path: path.clone(),
            reason,
        };
        let certificates = native_tls::Certificate::stack_from_pem(&pem)
            .map_err(|error| unusable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unusable("no certificate in it".to_owned()));
        }
        // As for the forwarded requests, where pingora takes these and no others. These here carry
        // the clients' credentials.
        builder.disable_built_in_roots(true);
        for certificate in certificates {
            builder.add_root_certificate(certificate);
        }
    }
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests;

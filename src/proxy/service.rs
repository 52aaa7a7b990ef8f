use super::access::{AccessLog, Became};
use super::door::header_read;
use super::forward::Forwarding;
use super::push::Pushes;
use super::reply::Reply;
use super::respond::{BodyLeft, linger, respond};
use crate::metrics::Metrics;
use crate::registry::{ErrorCode, Route, route};
use crate::request_id::{RequestId, X_REQUEST_ID};
use async_trait::async_trait;
use http::{StatusCode, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use serde_json::Value;
use std::any::Any;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Bounds on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub keepalive: Duration,
    /// No byte to or from the client of a forwarded request for this long ends it.
    pub idle: Duration,
}

/// The door: sends each request where it belongs.
pub struct Gate {
    pub pushes: Pushes,
    pub forwarding: Arc<Forwarding>,
    pub metrics: Arc<Metrics>,
    pub access: AccessLog,
    pub timing: Timing,
    /// Counts the requests under way, each for as long as its context lives.
    pub requests: TaskTracker,
    /// Cancelled once the process is to end.
    pub draining: CancellationToken,
}

/// A request under way.
pub struct Request {
    _counted: TaskTrackerToken,
    /// `None` until its header was looked at.
    id: Option<RequestId>,
    began: Instant,
    /// It goes, or went, to the registry.
    forwarded: bool,
    /// The registry has answered it.
    relayed: bool,
    /// Addresses of the upstream that could not be connected to.
    addresses_tried: usize,
    more_addresses: bool,
}

/// Marks a connection that has had a request.
struct Used;

#[async_trait]
impl ProxyHttp for Gate {
    type CTX = Request;

    fn new_ctx(&self) -> Request {
        header_read();
        Request {
            _counted: self.requests.token(),
            id: None,
            began: Instant::now(),
            forwarded: false,
            relayed: false,
            addresses_tried: 0,
            more_addresses: false,
        }
    }

    fn persist_connection_context(
        &self,
        _: &Session,
        _: &Request,
    ) -> Option<Box<dyn Any + Send + Sync>> {
        Some(Box::new(Used))
    }

    async fn early_request_filter(
        &self,
        session: &mut Session,
        under_way: &mut Request,
    ) -> Result<()> {
        let request = session.req_header_mut();
        let id = RequestId::of(&request.headers);
        // From here it goes wherever the request's headers go.
        if let Some(id) = id.header() {
            request.insert_header(X_REQUEST_ID, id)?;
        }
        under_way.id = Some(id);
        // pingora keeps a connection without limit after its first request unless told each time;
        // one that the client wants closed has none to set.
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(self.timing.keepalive.as_secs().max(1)));
        }
        // No registry upgrades a connection. pingora would read the body of a request that asks for
        // it without framing, and curl asks for h2c whenever it may.
        session.req_header_mut().remove_header(&header::UPGRADE);
        session.set_read_timeout(Some(self.timing.idle));
        session.set_write_timeout(Some(self.timing.idle));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, under_way: &mut Request) -> Result<bool> {
        let id = under_way
            .id
            .get_or_insert_with(|| RequestId::of(&session.req_header().headers));
        let request = session.req_header();
        let route = route(&request.method, request.uri.path());
        let answered = if let Some(reply) = unknown_coding(request) {
            self.pushes.refuse(session, reply, id).await
        } else {
            match route {
                Ok(Route::Forward) => {
                    under_way.forwarded = true;
                    return Ok(false);
                }
                Ok(Route::BlobPush(push)) => self.pushes.handle(session, &push, id).await,
                Err(error) => {
                    let reply = Reply::bad_route(&error);
                    self.pushes.refuse(session, reply, id).await
                }
            }
        };
        if let Err(error) = answered {
            // The client left before its answer; there is nobody to tell.
            log::debug!("an answer could not be written: {error}");
            session.set_keepalive(None);
        }
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, request: &mut Request) -> Result<Box<HttpPeer>> {
        let (peer, more) = self.forwarding.peer(request.addresses_tried).await?;
        request.more_addresses = more;
        Ok(Box::new(peer))
    }

    /// Goes on with the next address of the upstream's name, as long as there is one.
    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        request: &mut Request,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if request.more_addresses {
            request.addresses_tried += 1;
            error.set_retry(true);
        }
        error
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _reused: bool,
        _: &HttpPeer,
        _: RawFd,
        digest: Option<&Digest>,
        _: &mut Request,
    ) -> Result<()> {
        self.forwarding.check_peer(digest)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _: &mut Request,
    ) -> Result<()> {
        self.forwarding.mark(session, request)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        request: &mut Request,
    ) -> Result<()> {
        request.relayed = true;
        let method = &session.req_header().method;
        self.metrics.forwarded(method, response.status);
        Ok(())
    }

    /// pingora's last word on a request before it closes or keeps the connection. A registry that
    /// answers before the end of a body lets the client read that answer; so must we.
    async fn logging(&self, session: &mut Session, error: Option<&Error>, request: &mut Request) {
        if request.forwarded {
            self.metrics.forwarding_ended(
                &session.req_header().method,
                request.began.elapsed(),
                session.body_bytes_read() as u64,
                session.body_bytes_sent() as u64,
            );
        }
        if request.forwarded
            && let Some(id) = &request.id
        {
            let became = match request.relayed && error.is_none() {
                true => Became::Forwarded,
                false => Became::ForwardFailed,
            };
            let took = request.began.elapsed();
            self.access.write(session, id, took, &became);
        }
        if request.relayed && error.is_none() && !session.as_mut().is_body_done() {
            linger(session, &self.draining).await;
        }
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        request: &mut Request,
    ) -> Result<()> {
        if let Some(id) = request.id.as_ref().and_then(RequestId::header) {
            response.insert_header(X_REQUEST_ID, id)?;
        }
        if self.draining.is_cancelled() {
            // As for a push.
            session.set_keepalive(None);
        }
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        _: &mut Request,
    ) -> FailToProxy {
        let Some(status) = failure_status(error, session.as_mut().is_body_done()) else {
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        };
        // A relayed `100 Continue` is no answer yet.
        let answered = session.response_written().is_some_and(|head| {
            !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
        });
        if !answered {
            self.metrics.forwarded(&session.req_header().method, status);
            let left = if status == StatusCode::REQUEST_TIMEOUT {
                BodyLeft::Slow
            } else if *error.esource() == ErrorSource::Downstream {
                BodyLeft::Broken
            } else if session.as_mut().is_body_done() {
                BodyLeft::Nothing
            } else {
                BodyLeft::Rest
            };
            let reply = failure_reply(status, error);
            if let Err(error) = respond(session, reply, left, &self.draining).await {
                log::debug!("an error answer could not be written: {error}");
            }
        }
        FailToProxy {
            error_code: status.as_u16(),
            can_reuse_downstream: false,
        }
    }
}

/// pingora would take any last coding but `chunked` for a body without framing of its own, and
/// would pass on a coding it did not undo.
fn unknown_coding(request: &RequestHeader) -> Option<Reply> {
    let codings = request.headers.get_all(header::TRANSFER_ENCODING);
    let known = codings
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
    (!known || codings.iter().count() > 1)
        .then(|| Reply::bad_request("the only Transfer-Encoding taken here is chunked"))
}

/// `None` where the client is gone. `body_done`: the request has come to its end.
fn failure_status(error: &Error, body_done: bool) -> Option<StatusCode> {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(code)) => StatusCode::from_u16(*code).ok(),
        // The registry waits for the body as we do, which over HTTP/2 pingora reads without a bound.
        (ErrorSource::Upstream, ErrorType::ReadTimedout) if !body_done => {
            Some(StatusCode::REQUEST_TIMEOUT)
        }
        (
            ErrorSource::Upstream,
            ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout,
        ) => Some(StatusCode::GATEWAY_TIMEOUT),
        (ErrorSource::Upstream, _) => Some(StatusCode::BAD_GATEWAY),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(StatusCode::REQUEST_TIMEOUT),
        (
            ErrorSource::Downstream,
            ErrorType::WriteError
            | ErrorType::WriteTimedout
            | ErrorType::ReadError
            | ErrorType::ConnectionClosed,
        ) => None,
        (ErrorSource::Downstream, _) => Some(StatusCode::BAD_REQUEST),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn failure_reply(status: StatusCode, error: &Error) -> Reply {
    let (code, message) = match status {
        StatusCode::GATEWAY_TIMEOUT => (
            ErrorCode::Unavailable,
            format!(
                "the registry gave no answer in time ({})",
                error.etype().as_str()
            ),
        ),
        StatusCode::REQUEST_TIMEOUT => (
            ErrorCode::BlobUploadInvalid,
            "the rest of the request did not come in time".to_owned(),
        ),
        StatusCode::BAD_GATEWAY if *error.etype() == ErrorType::InvalidCert => (
            ErrorCode::Unavailable,
            "the registry's certificate could not be verified".to_owned(),
        ),
        StatusCode::BAD_GATEWAY => (
            ErrorCode::Unavailable,
            format!(
                "the registry could not be reached or broke off ({})",
                error.etype().as_str()
            ),
        ),
        StatusCode::INTERNAL_SERVER_ERROR => (
            ErrorCode::Unknown,
            "blobgate failed to forward the request".to_owned(),
        ),
        _ => (
            ErrorCode::Unsupported,
            format!(
                "the request cannot be understood ({})",
                error.etype().as_str()
            ),
        ),
    };
    Reply::error(status, code, message, Value::Null)
}

use super::body::SessionBody;
use super::reply::Reply;
use crate::upload::BodySource;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use std::time::Duration;
use tokio::time::Instant;

/// How far the request's body has been read when the answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLeft {
    /// To its end.
    Nothing,
    /// The client waits for `100 Continue` and was not told to send it.
    Withheld,
    /// Some of it, or nothing, and the client may be sending the rest.
    Rest,
    /// The connection cannot be read any more.
    Broken,
}

/// How long the rest of a body that is not wanted is read, in all and without a byte.
///
/// Without reading it the connection would be reset, and a client that sends its whole body before
/// it looks for an answer would never see the status.
const DRAIN: Duration = Duration::from_secs(600);
const DRAIN_IDLE: Duration = Duration::from_secs(10);

/// The same for a client that waits for `100 Continue`: it sends nothing, or it just began to.
const WITHHELD_IDLE: Duration = Duration::from_secs(2);

/// Sends an answer so that the client sees it, whatever of its body is still on the way: the answer
/// goes first, so that a client that watches can stop early, and the rest of the body is read after
/// it.
///
/// Not for an early success over HTTP/2, at which curl 7.88 hangs. Nor may an HTTP/2 stream be given
/// up right after its answer: the RST_STREAM(NO_ERROR) that ends it then makes the same curl fail
/// without a status.
pub async fn respond(session: &mut Session, reply: Reply, left: BodyLeft) -> pingora::Result<()> {
    if left != BodyLeft::Nothing {
        // The next request could not be told from the rest of this one.
        session.set_keepalive(None);
    }
    send(session, reply).await?;
    match left {
        BodyLeft::Nothing | BodyLeft::Broken => {}
        BodyLeft::Withheld => drain(session, WITHHELD_IDLE).await,
        BodyLeft::Rest => drain(session, DRAIN_IDLE).await,
    }
    Ok(())
}

/// Reads what is left of a body whose answer, the registry's own, was relayed before its end.
pub async fn linger(session: &mut Session) {
    drain(session, DRAIN_IDLE).await;
}

async fn send(session: &mut Session, reply: Reply) -> pingora::Result<()> {
    let mut head = ResponseHeader::build(reply.status, Some(reply.headers.len() + 3))?;
    for (name, value) in &reply.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    head.insert_header(http::header::CONTENT_LENGTH, reply.body.len())?;
    session
        .write_response_header(Box::new(head), reply.body.is_empty())
        .await?;
    session.write_response_body(Some(reply.body), true).await?;
    // Buffered until now, and the drain that may follow is long.
    session.as_mut().finish_body().await
}

async fn drain(session: &mut Session, idle: Duration) {
    let deadline = Instant::now() + DRAIN;
    let mut body = SessionBody::new(session);
    loop {
        let until = deadline.min(Instant::now() + idle);
        match tokio::time::timeout_at(until, body.next_chunk()).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None) | Err(_)) | Err(_) => return,
        }
    }
}

use super::body::SessionBody;
use super::reply::Reply;
use crate::request_id::X_REQUEST_ID;
use crate::upload::BodySource;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How far the request's body has been read when the answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLeft {
    /// To its end.
    Nothing,
    /// The client waits for `100 Continue` and was not told to send it.
    Withheld,
    /// Some of it, or nothing, and the client may be sending the rest.
    Rest,
    /// The same, of a client that sends too slowly to be waited for.
    Slow,
    /// The connection cannot be read any more.
    Broken,
}

/// How long the rest of a body that is not wanted is read, in all and without a byte.
///
/// Without reading it the connection would be reset, and a client that sends its whole body before
/// it looks for an answer would never see the status.
const DRAIN: Drain = Drain {
    whole: Duration::from_secs(600),
    idle: Duration::from_secs(10),
};

/// The same for a client that was too slow: a moment to see the answer in.
const DRAIN_SLOW: Drain = Drain {
    whole: Duration::from_secs(20),
    idle: Duration::from_secs(10),
};

/// The same for a client that waits for `100 Continue`: it sends nothing, or it just began to.
const DRAIN_WITHHELD: Drain = Drain {
    whole: DRAIN.whole,
    idle: Duration::from_secs(2),
};

/// What is left of any of these once the process is to end, as nobody loses anything by it.
const DRAIN_AT_THE_END: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
struct Drain {
    whole: Duration,
    /// Without a byte.
    idle: Duration,
}

/// Sends an answer so that the client sees it, whatever of its body is still on the way: the answer
/// goes first, so that a client that watches can stop early, and the rest of the body is read after
/// it.
///
/// `ending` is cancelled once the process is to end.
///
/// Not for an early success over HTTP/2, at which curl 7.88 hangs. Nor may an HTTP/2 stream be given
/// up right after its answer: the RST_STREAM(NO_ERROR) that ends it then makes the same curl fail
/// without a status.
pub async fn respond(
    session: &mut Session,
    reply: Reply,
    left: BodyLeft,
    ending: &CancellationToken,
) -> pingora::Result<()> {
    answer(session, reply, left).await?;
    read_rest(session, left, ending).await;
    Ok(())
}

/// The first half of [`respond`]: the answer. [`read_rest`] must follow.
pub async fn answer(session: &mut Session, reply: Reply, left: BodyLeft) -> pingora::Result<()> {
    if left != BodyLeft::Nothing {
        // The next request could not be told from the rest of this one.
        session.set_keepalive(None);
    }
    send(session, reply).await
}

/// The second half of [`respond`]: what is still to come of the body.
pub async fn read_rest(session: &mut Session, left: BodyLeft, ending: &CancellationToken) {
    match left {
        BodyLeft::Nothing | BodyLeft::Broken => {}
        BodyLeft::Withheld => drain(session, DRAIN_WITHHELD, ending).await,
        BodyLeft::Rest => drain(session, DRAIN, ending).await,
        BodyLeft::Slow => drain(session, DRAIN_SLOW, ending).await,
    }
}

/// Reads what is left of a body whose answer, the registry's own, was relayed before its end.
pub async fn linger(session: &mut Session, ending: &CancellationToken) {
    drain(session, DRAIN, ending).await;
}

async fn send(session: &mut Session, reply: Reply) -> pingora::Result<()> {
    let mut head = ResponseHeader::build(reply.status, Some(reply.headers.len() + 4))?;
    for (name, value) in &reply.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    head.insert_header(http::header::CONTENT_LENGTH, reply.body.len())?;
    if let Some(id) = session.req_header().headers.get(X_REQUEST_ID) {
        head.insert_header(X_REQUEST_ID, id.clone())?;
    }
    session
        .write_response_header(Box::new(head), reply.body.is_empty())
        .await?;
    session.write_response_body(Some(reply.body), true).await?;
    // Buffered until now, and the drain that may follow is long.
    session.as_mut().finish_body().await
}

async fn drain(session: &mut Session, drain: Drain, ending: &CancellationToken) {
    let deadline = Instant::now() + drain.whole;
    let mut body = SessionBody::new(session);
    let all = async {
        loop {
            let until = deadline.min(Instant::now() + drain.idle);
            match tokio::time::timeout_at(until, body.next_chunk()).await {
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None) | Err(_)) | Err(_) => return,
            }
        }
    };
    let last_moment = async {
        ending.cancelled().await;
        tokio::time::sleep(DRAIN_AT_THE_END).await;
    };
    tokio::select! {
        () = all => {}
        () = last_moment => {}
    }
}

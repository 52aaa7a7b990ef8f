use crate::upload::{BodyError, BodySource, PacedBody, Phase, PushRecord};
use bytes::Bytes;
use pingora::ErrorType;
use pingora::proxy::Session;

/// A request's body as it comes from the connection.
pub struct SessionBody<'a> {
    session: &'a mut Session,
    /// pingora answers a read after a failed one as if the body had come to its end; a broken body
    /// must never look like a whole one.
    failed: Option<BodyError>,
}

impl<'a> SessionBody<'a> {
    pub fn new(session: &'a mut Session) -> Self {
        Self {
            session,
            failed: None,
        }
    }
}

impl BodySource for SessionBody<'_> {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        loop {
            match self.session.as_mut().read_request_body().await {
                // An empty chunk in mid-body says nothing.
                Ok(Some(chunk)) if chunk.is_empty() => {}
                Ok(chunk) => return Ok(chunk),
                Err(error) => {
                    let error = body_error(&error);
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
    }
}

/// The body of a push, noted in its record.
pub struct PushBody<'a> {
    inner: PacedBody<SessionBody<'a>>,
    record: &'a PushRecord,
    /// Without a length the body's end comes after its last byte, and is waited for.
    announced: bool,
}

impl<'a> PushBody<'a> {
    pub fn new(inner: PacedBody<SessionBody<'a>>, record: &'a PushRecord, announced: bool) -> Self {
        Self {
            inner,
            record,
            announced,
        }
    }
}

impl BodySource for PushBody<'_> {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        let waiting = self.record.enter(Phase::Client);
        let chunk = self.inner.next_chunk().await?;
        drop(waiting);
        match &chunk {
            Some(chunk) => self.record.received(chunk.len() as u64),
            None if self.announced => {}
            None => self.record.last_byte_came(),
        }
        Ok(chunk)
    }
}

fn body_error(error: &pingora::Error) -> BodyError {
    match error.etype() {
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::H2Error => {
            BodyError::ClientGone
        }
        other => BodyError::Framing(other.as_str().to_owned()),
    }
}

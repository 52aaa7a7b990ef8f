use crate::upload::BodyError;
use http::{Version, header};
use pingora::proxy::Session;

/// Where a request stands with `Expect: 100-continue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continue {
    /// Not asked for, or answered.
    Settled,
    Awaited,
}

impl Continue {
    /// HTTP/2 has no use for it here: its flow control already holds the body back.
    pub fn of(session: &Session) -> Self {
        let request = session.req_header();
        let expected = request
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if expected && request.version == Version::HTTP_11 && !session.is_http2() {
            Self::Awaited
        } else {
            Self::Settled
        }
    }

    /// Tells a waiting client to send its body.
    pub async fn send(&mut self, session: &mut Session) -> Result<(), BodyError> {
        if *self == Self::Settled {
            return Ok(());
        }
        *self = Self::Settled;
        // pingora takes any header it writes before the body's end for an early answer, after which
        // the connection could not be kept. This one is none.
        session.set_close_on_response_before_downstream_finish(false);
        let written = session.write_continue_response().await;
        session.set_close_on_response_before_downstream_finish(true);
        written.map_err(|_| BodyError::ClientGone)
    }
}

//! The access log: one line for each request, once its answer has gone out.

use crate::config::LogFormat;
use crate::metrics::PushOutcome;
use crate::registry::Digest;
use crate::request_id::RequestId;
use crate::upload::{Phase, PushRecord};
use pingora::proxy::Session;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// The log target of these lines, for a filter to name.
pub const ACCESS_LOG_TARGET: &str = "access";

/// Writes the lines.
#[derive(Debug, Clone, Copy)]
pub struct AccessLog {
    pub format: LogFormat,
}

/// What became of a request.
pub enum Became<'a> {
    Push(PushOutcome, Option<(&'a Digest, &'a PushRecord)>),
    Forwarded,
    /// The registry gave no answer, or the client did not wait for it.
    ForwardFailed,
}

/// One line. Neither header nor query is in it: either may hold a secret.
#[derive(Debug, Serialize)]
struct Line<'a> {
    id: &'a str,
    /// `None` only where the connection has no address.
    client: Option<String>,
    method: &'a str,
    path: &'a str,
    /// `None` where no answer was sent.
    status: Option<u16>,
    outcome: &'static str,
    /// Body bytes.
    received: usize,
    sent: usize,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<u64>,
    /// Seconds of each phase the push came to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    phases: BTreeMap<&'static str, f64>,
}

impl AccessLog {
    /// `took` since the end of the request's header.
    pub fn write(&self, session: &Session, id: &RequestId, took: Duration, became: &Became) {
        // Nobody may want it, and the line costs more than the question.
        if !log::log_enabled!(target: ACCESS_LOG_TARGET, log::Level::Info) {
            return;
        }
        let request = session.req_header();
        let (outcome, push) = match became {
            Became::Push(outcome, push) => (outcome.as_str(), *push),
            Became::Forwarded => ("forwarded", None),
            Became::ForwardFailed => ("forward_failed", None),
        };
        let record = push.map(|(_, record)| record);
        let line = Line {
            id: id.as_str(),
            client: session
                .client_addr()
                .and_then(|address| address.as_inet())
                .map(|address| address.to_string()),
            method: request.method.as_str(),
            path: request.uri.path(),
            status: session.response_written().map(|head| head.status.as_u16()),
            outcome,
            received: session.body_bytes_read(),
            sent: session.body_bytes_sent(),
            seconds: rounded(took),
            digest: push.map(|(digest, _)| digest.to_string()),
            upload_id: record.and_then(PushRecord::upload_id),
            retries: record.map(PushRecord::retries),
            phases: record.map(phases).unwrap_or_default(),
        };
        match self.format {
            LogFormat::Text => log::info!(target: ACCESS_LOG_TARGET, "{line}"),
            LogFormat::Json => match serde_json::to_string(&line) {
                Ok(line) => log::info!(target: ACCESS_LOG_TARGET, "{line}"),
                Err(error) => log::error!("an access log line cannot be written: {error}"),
            },
        }
    }
}

fn phases(record: &PushRecord) -> BTreeMap<&'static str, f64> {
    let spent = |phase: Phase| Some((phase.as_str(), rounded(record.spent(phase)?)));
    Phase::ALL.into_iter().filter_map(spent).collect()
}

/// Seconds, to the microsecond.
fn rounded(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

/// `name=value`, a value in quotes where it would not end at a space.
impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "id={}", self.id)?;
        write!(f, " client={}", self.client.as_deref().unwrap_or("-"))?;
        write!(f, " method={}", Value(self.method))?;
        write!(f, " path={}", Value(self.path))?;
        match self.status {
            Some(status) => write!(f, " status={status}")?,
            None => write!(f, " status=-")?,
        }
        write!(f, " outcome={}", self.outcome)?;
        write!(f, " received={} sent={}", self.received, self.sent)?;
        write!(f, " seconds={}", self.seconds)?;
        if let Some(digest) = &self.digest {
            write!(f, " digest={digest}")?;
        }
        if let Some(upload_id) = self.upload_id {
            write!(f, " upload_id={}", Value(upload_id))?;
        }
        if let Some(retries) = self.retries {
            write!(f, " retries={retries}")?;
        }
        self.phases
            .iter()
            .try_for_each(|(phase, seconds)| write!(f, " {phase}_seconds={seconds}"))
    }
}

/// Another's text, which must neither end its line nor look like a field.
struct Value<'a>(&'a str);

impl Display for Value<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_graphic() && c != '"';
        match !self.0.is_empty() && self.0.chars().all(plain) {
            true => f.write_str(self.0),
            false => write!(f, "\"{}\"", self.0.escape_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_stays_within_its_field() {
        for (text, shown) in [
            ("/v2/a", "/v2/a"),
            ("", "\"\""),
            ("/a b=c", "\"/a b=c\""),
            ("/\"x", "\"/\\\"x\""),
            ("/a\nid=1", "\"/a\\nid=1\""),
            ("/\u{202e}", "\"/\\u{202e}\""),
        ] {
            assert_eq!(Value(text).to_string(), shown);
        }
    }

    #[test]
    fn a_line_has_what_there_is() {
        let line = Line {
            id: "1",
            client: None,
            method: "PUT",
            path: "/v2/a",
            status: Some(201),
            outcome: "stored",
            received: 5,
            sent: 0,
            seconds: rounded(Duration::from_micros(1_500_001)),
            digest: None,
            upload_id: Some("x y"),
            retries: Some(2),
            phases: BTreeMap::from([("client", 0.5)]),
        };
        assert_eq!(
            line.to_string(),
            "id=1 client=- method=PUT path=/v2/a status=201 outcome=stored received=5 sent=0 \
             seconds=1.500001 upload_id=\"x y\" retries=2 client_seconds=0.5"
        );
    }
}

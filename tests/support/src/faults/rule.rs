use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::sync::watch;

use super::PATIENCE;

/// What happens to a call instead of, or before, the server's plain answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Reads the request, then answers with an S3 error; the server never hears of it.
    Status {
        /// The HTTP status.
        status: u16,
        /// S3's error code, such as `SlowDown`.
        code: String,
    },
    /// As `Status`, but answers without reading the request's body.
    EarlyStatus {
        /// The HTTP status.
        status: u16,
        /// S3's error code.
        code: String,
    },
    /// The server does as it is told, then the client hears an S3 error.
    StatusAfter {
        /// The HTTP status.
        status: u16,
        /// S3's error code.
        code: String,
    },
    /// 200 with an `<Error>` in the body, as S3 does on CompleteMultipartUpload.
    OkWithErrorBody {
        /// S3's error code.
        code: String,
        /// Whether the server did as it was told before.
        effect: bool,
    },
    /// The server does as it is told, then the client hears 200 with an empty body.
    OkEmptyBody,
    /// The server does as it is told, then the connection is reset without an answer.
    CutAnswer,
    /// The server's head goes through, then this many bytes of the body, then the connection ends.
    CutBody(u64),
    /// Resets the connection after this many bytes of the request's body; the server never hears
    /// of it.
    ResetAfter(u64),
    /// Reads the request, then never answers.
    Hang {
        /// Whether the server did as it was told before.
        effect: bool,
    },
    /// Never reads the request's body, and never answers.
    HangBody,
    /// Waits, then goes on as if nothing had happened.
    Delay(Duration),
    /// Goes on as usual, with a header value in the answer that is not ASCII.
    NonAsciiHeader,
    /// The server does as it is told, then bytes that are no HTTP come back.
    Garbage,
    /// Waits at the gate, then goes on as if nothing had happened.
    HoldBefore(Gate),
    /// The server does as it is told, then the answer waits at the gate.
    HoldAfter(Gate),
    /// Reads the request, then answers this; the server never hears of it.
    Answer {
        /// The HTTP status.
        status: u16,
        /// Header names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: Bytes,
    },
}

/// Which calls meet which fault.
#[derive(Debug)]
pub struct Rule {
    operation: Option<String>,
    method: Option<Method>,
    target: Option<String>,
    calls: RangeInclusive<u64>,
    fault: Fault,
    matched: u64,
}

impl Rule {
    /// This fault for every call; the other methods narrow that down.
    pub fn new(fault: Fault) -> Self {
        Self {
            operation: None,
            method: None,
            target: None,
            calls: 1..=u64::MAX,
            fault,
            matched: 0,
        }
    }

    /// This fault for every call of one operation.
    pub fn on(operation: &str, fault: Fault) -> Self {
        Self {
            operation: Some(operation.to_owned()),
            ..Self::new(fault)
        }
    }

    /// Only requests with this method.
    pub fn method(self, method: Method) -> Self {
        Self {
            method: Some(method),
            ..self
        }
    }

    /// Only requests whose path and query, as sent, contain this.
    pub fn target(self, part: &str) -> Self {
        Self {
            target: Some(part.to_owned()),
            ..self
        }
    }

    /// Only the n-th matching call since the rule was added, from 1.
    pub fn nth(self, n: u64) -> Self {
        self.calls(n..=n)
    }

    /// Only these matching calls since the rule was added, from 1.
    pub fn calls(self, calls: RangeInclusive<u64>) -> Self {
        Self { calls, ..self }
    }

    fn matches(&self, operation: &str, method: &Method, target: &str) -> bool {
        self.operation.as_deref().is_none_or(|o| o == operation)
            && self.method.as_ref().is_none_or(|m| m == method)
            && self.target.as_deref().is_none_or(|t| target.contains(t))
    }
}

/// Holds calls until the test lets them go. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(watch::Sender<GateState>);

#[derive(Debug, Default, Clone, Copy)]
struct GateState {
    open: bool,
    came: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self(watch::Sender::new(GateState::default()))
    }

    /// Opens the gate for those that wait and for all that come.
    pub fn release(&self) {
        self.0.send_modify(|state| state.open = true);
    }

    /// Waits until n calls in all have come to the gate.
    pub async fn reached(&self, n: u64) {
        let mut state = self.0.subscribe();
        let came = state.wait_for(|state| state.came >= n);
        let waited = tokio::time::timeout(PATIENCE, came).await;
        assert!(waited.is_ok(), "waited in vain for {n} calls at the gate");
    }

    pub(super) async fn pass(&self) {
        self.0.send_modify(|state| state.came += 1);
        let mut state = self.0.subscribe();
        // The sender lives as long as this gate, so the only end is the gate's opening.
        let _ = state.wait_for(|state| state.open).await;
    }
}

#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Mutex<Vec<Rule>>,
    /// How often `release` was called: what hangs, hangs until the next time.
    releases: watch::Sender<u64>,
}

impl Rules {
    pub(super) fn add(&self, rule: Rule) {
        self.rules.lock().expect("rules poisoned").push(rule);
    }

    pub(super) fn clear(&self) {
        self.rules.lock().expect("rules poisoned").clear();
    }

    pub(super) fn release(&self) {
        self.releases.send_modify(|releases| *releases += 1);
    }

    /// Changes with every release from now on.
    pub(super) fn releases(&self) -> watch::Receiver<u64> {
        self.releases.subscribe()
    }

    /// Counts the call and picks its fault.
    pub(super) fn pick(&self, operation: &str, method: &Method, target: &str) -> Option<Fault> {
        let mut picked = None;
        for rule in self.rules.lock().expect("rules poisoned").iter_mut() {
            if !rule.matches(operation, method, target) {
                continue;
            }
            rule.matched += 1;
            if picked.is_none() && rule.calls.contains(&rule.matched) {
                picked = Some(rule.fault.clone());
            }
        }
        picked
    }
}

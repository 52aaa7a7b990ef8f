//! Whether blobgate can do its work: asked of upstream and bucket in the background, so that
//! whoever wants to know has the answer at once, and cannot load them by asking often.

use crate::store::BlobStore;
use crate::upstream::Upstream;
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What was last seen of upstream and bucket.
#[derive(Debug)]
pub struct Health {
    upstream: Mutex<State>,
    bucket: Mutex<State>,
    draining: CancellationToken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nobody looks.
    Unwatched,
    /// Nobody has looked yet.
    Unknown,
    Well,
    /// And why.
    Ill(String),
}

/// What is asked, and how often.
pub struct Checks {
    pub upstream: Upstream,
    pub store: Arc<dyn BlobStore>,
    /// Between one round's end and the next.
    pub interval: Duration,
    /// Of one question.
    pub timeout: Duration,
}

impl Health {
    /// `watched`: whether there will be checks.
    pub fn new(watched: bool, draining: CancellationToken) -> Self {
        let state = match watched {
            true => State::Unknown,
            false => State::Unwatched,
        };
        Self {
            upstream: Mutex::new(state.clone()),
            bucket: Mutex::new(state),
            draining,
        }
    }

    /// Whether requests should come here, and as JSON why not.
    pub fn readiness(&self) -> (bool, Value) {
        let mut reasons = Vec::new();
        if self.draining.is_cancelled() {
            reasons.push(json!({"what": "process", "why": "draining"}));
        }
        for (what, state) in [("upstream", &self.upstream), ("bucket", &self.bucket)] {
            let why = match &*state.lock() {
                State::Unwatched | State::Well => continue,
                State::Unknown => "not checked yet".to_owned(),
                State::Ill(why) => why.clone(),
            };
            reasons.push(json!({"what": what, "why": why}));
        }
        let ready = reasons.is_empty();
        (ready, json!({"ready": ready, "reasons": reasons}))
    }

    /// Looks again and again, until the process drains.
    pub async fn watch(&self, checks: Checks) {
        let looking = async {
            loop {
                let (upstream, bucket) = tokio::join!(checks.upstream(), checks.bucket());
                note(&self.upstream, upstream, "the upstream", "every request");
                note(&self.bucket, bucket, "the bucket", "pushes");
                tokio::time::sleep(checks.interval).await;
            }
        };
        tokio::select! {
            () = looking => {}
            () = self.draining.cancelled() => {}
        }
    }
}

/// Says it in the log when it changes.
fn note(state: &Mutex<State>, seen: Result<(), String>, what: &str, failing: &str) {
    let seen = seen.map_or_else(State::Ill, |()| State::Well);
    let before = std::mem::replace(&mut *state.lock(), seen.clone());
    match (before, seen) {
        (State::Well, State::Well) | (State::Ill(_), State::Ill(_)) => {}
        (_, State::Ill(why)) => {
            log::error!("{what} cannot be used, so {failing} will fail: {why}");
        }
        _ => log::info!("{what} answers"),
    }
}

impl Checks {
    /// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#determining-support>
    async fn upstream(&self) -> Result<(), String> {
        let answer = self
            .upstream
            .ask(Method::GET, "/v2/", HeaderMap::new())
            .await
            .map_err(|error| error.to_string())?;
        match answer.status() {
            // Who is asked for a password has found a registry.
            StatusCode::OK | StatusCode::UNAUTHORIZED => Ok(()),
            status => Err(format!(
                "GET /v2/ is answered {status}, where a registry says 200 or 401"
            )),
        }
    }

    async fn bucket(&self) -> Result<(), String> {
        match tokio::time::timeout(self.timeout, self.store.check()).await {
            Ok(checked) => checked.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {:?}", self.timeout)),
        }
    }
}

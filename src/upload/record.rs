use crate::metrics::Metrics;
use crate::store::{FaultClass, StoreObserver, StoreOperation, UploadHandle};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// Where the time of a push goes. What is left of the whole is blobgate's own: hashing, mostly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Asking upstream and bucket what is to be done with it.
    Authorise,
    /// Waiting for a slot and a first buffer.
    Admission,
    /// Waiting for the client's next bytes.
    Client,
    /// Not reading on, as the store has to take a part first.
    Store,
    /// Making verified bytes visible.
    Commit,
    /// From the body's last byte to the answer. Overlaps the others.
    Answer,
}

impl Phase {
    pub const COUNT: usize = 6;
    pub const ALL: [Phase; Self::COUNT] = [
        Self::Authorise,
        Self::Admission,
        Self::Client,
        Self::Store,
        Self::Commit,
        Self::Answer,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authorise => "authorise",
            Self::Admission => "admission",
            Self::Client => "client",
            Self::Store => "store",
            Self::Commit => "commit",
            Self::Answer => "answer",
        }
    }
}

/// What is known of a push under way: noted where it happens, by whoever takes part, without a lock.
#[derive(Debug)]
pub struct PushRecord {
    metrics: Arc<Metrics>,
    began: Instant,
    /// Nanoseconds spent in each phase; 0 where it was never entered.
    spent: [AtomicU64; Phase::COUNT],
    /// Nanoseconds from the beginning to the body's last byte so far.
    last_byte: AtomicU64,
    retries: AtomicU64,
    upload_id: OnceLock<String>,
}

impl PushRecord {
    /// Of a push that begins now.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            began: Instant::now(),
            spent: Default::default(),
            last_byte: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            upload_id: OnceLock::new(),
        }
    }

    /// Counts the time until the guard is dropped, however that comes about.
    pub fn enter(&self, phase: Phase) -> InPhase<'_> {
        InPhase {
            record: self,
            phase,
            since: Instant::now(),
        }
    }

    /// Bytes of the body came.
    pub fn received(&self, bytes: u64) {
        self.metrics.received_bytes.inc_by(bytes);
        self.last_byte_came();
    }

    /// The body's end came, which need not be with its last byte.
    pub fn last_byte_came(&self) {
        self.last_byte
            .store(nanoseconds(self.began.elapsed()), Ordering::Relaxed);
    }

    /// To be called once the answer is known; how long that took.
    pub fn answered(&self) -> Duration {
        let took = self.began.elapsed();
        let last_byte = self.last_byte.load(Ordering::Relaxed);
        if last_byte > 0 {
            let since = nanoseconds(took).saturating_sub(last_byte).max(1);
            self.spent[Phase::Answer as usize].store(since, Ordering::Relaxed);
        }
        took
    }

    /// How long a phase has taken so far; `None` where it has not been entered and left.
    pub fn spent(&self, phase: Phase) -> Option<Duration> {
        let spent = self.spent[phase as usize].load(Ordering::Relaxed);
        (spent > 0).then(|| Duration::from_nanos(spent))
    }

    /// The push has a multipart upload.
    pub fn opened(&self, upload: &UploadHandle) {
        // A push opens one at most.
        let _ = self.upload_id.set(upload.upload_id.clone());
    }

    /// The store's id of the push's multipart upload, where it has one.
    pub fn upload_id(&self) -> Option<&str> {
        self.upload_id.get().map(String::as_str)
    }

    /// Store calls of this push that were sent again, so far.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    fn add(&self, phase: Phase, spent: Duration) {
        // An entered phase counts as such, however short it was.
        let spent = spent.max(Duration::from_nanos(1));
        self.spent[phase as usize].fetch_add(nanoseconds(spent), Ordering::Relaxed);
        match phase {
            Phase::Client => self.metrics.client_wait.inc_by(spent.as_secs_f64()),
            Phase::Store | Phase::Commit => self.metrics.store_wait.inc_by(spent.as_secs_f64()),
            Phase::Authorise | Phase::Admission | Phase::Answer => {}
        }
    }
}

/// Hears of the push's own store calls, and passes on what it hears.
impl StoreObserver for PushRecord {
    fn attempt(&self, operation: StoreOperation, outcome: Result<(), FaultClass>, took: Duration) {
        self.metrics.attempt(operation, outcome, took);
    }

    fn retry(&self, operation: StoreOperation, class: FaultClass) {
        self.retries.fetch_add(1, Ordering::Relaxed);
        self.metrics.retry(operation, class);
    }

    fn call(
        &self,
        operation: StoreOperation,
        outcome: Result<(), FaultClass>,
        attempts: u32,
        took: Duration,
    ) {
        self.metrics.call(operation, outcome, attempts, took);
    }
}

/// Time that is being counted.
#[must_use]
pub struct InPhase<'a> {
    record: &'a PushRecord,
    phase: Phase,
    since: Instant,
}

impl Drop for InPhase<'_> {
    fn drop(&mut self) {
        self.record.add(self.phase, self.since.elapsed());
    }
}

/// 584 years fit.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Registry;

    #[tokio::test(start_paused = true)]
    async fn time_is_counted_where_it_went_and_once() {
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let record = PushRecord::new(Arc::clone(&metrics));
        let seconds = Duration::from_secs;
        for (phase, spent) in [
            (Phase::Authorise, 1),
            (Phase::Client, 2),
            (Phase::Store, 4),
            (Phase::Client, 8),
        ] {
            let _in_phase = record.enter(phase);
            tokio::time::advance(seconds(spent)).await;
            record.received(5);
        }
        {
            // Dropped half way, as a push that is stopped is.
            let waiting = async {
                let _in_phase = record.enter(Phase::Commit);
                std::future::pending::<()>().await;
            };
            let given_up = tokio::time::timeout(seconds(16), waiting).await;
            assert!(given_up.is_err());
        }
        assert_eq!(record.answered().as_secs(), 31);
        let spent = Phase::ALL.map(|phase| record.spent(phase).map(|spent| spent.as_secs()));
        assert_eq!(
            spent,
            [Some(1), None, Some(10), Some(4), Some(16), Some(16)]
        );
        assert_eq!(metrics.client_wait.get().round(), 10.0);
        assert_eq!(metrics.store_wait.get().round(), 20.0);
        assert_eq!(metrics.received_bytes.get(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_without_a_body_has_no_last_byte() {
        let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
        let record = PushRecord::new(metrics);
        record.answered();
        assert_eq!(record.spent(Phase::Answer), None);
    }
}

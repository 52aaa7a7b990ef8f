//! Which store calls are sent again, when, and how often.
//!
//! Every call blobgate makes may be sent again: HeadObject, HeadBucket,
//! ListMultipartUploads and ListParts change nothing; PutObject, UploadPart and AbortMultipartUpload come to the same when repeated; a
//! repeated CreateMultipartUpload leaves at most an empty upload for the sweeper; and what became of
//! a CompleteMultipartUpload is settled by asking for the object. So whether a call is repeated
//! hangs on the fault alone, and [`pace`] is the whole table.

use super::{FaultClass, StoreOperation};
use std::time::Duration;
use tokio::time::Instant;

/// How soon a call that met a fault is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Not at all: the same call would get the same answer.
    Never,
    /// Soon: the trouble is likely over, or a matter of one connection.
    Soon,
    /// After a longer while, since the store asked for less.
    Later,
}

/// The retry table.
pub fn pace(operation: StoreOperation, class: FaultClass) -> Pace {
    match operation {
        StoreOperation::HeadObject
        | StoreOperation::HeadBucket
        | StoreOperation::ListMultipartUploads
        | StoreOperation::ListParts
        | StoreOperation::PutObject
        | StoreOperation::CreateMultipartUpload
        | StoreOperation::UploadPart
        | StoreOperation::CompleteMultipartUpload
        | StoreOperation::AbortMultipartUpload => match class {
            FaultClass::Throttled => Pace::Later,
            FaultClass::Unavailable | FaultClass::Connection | FaultClass::Timeout => Pace::Soon,
            FaultClass::Denied | FaultClass::NotFound | FaultClass::Rejected => Pace::Never,
        },
    }
}

/// Bounds of the exponential back-off, per pace.
struct Backoff {
    /// Never wait less.
    floor: Duration,
    /// Upper bound of the random part of the first wait; it doubles with every further one.
    first: Duration,
    /// Upper bound of the random part of any wait.
    cap: Duration,
}

const SOON: Backoff = Backoff {
    floor: Duration::ZERO,
    first: Duration::from_millis(200),
    cap: Duration::from_secs(5),
};

/// S3 answers `SlowDown` while it splits a busy key range, which takes it many seconds.
const LATER: Backoff = Backoff {
    floor: Duration::from_millis(500),
    first: Duration::from_secs(1),
    cap: Duration::from_secs(20),
};

impl Backoff {
    /// "Full jitter": all of the wait above the floor is random, so that callers that failed
    /// together don't come back together. `failures` counts from 1.
    /// <https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/>
    fn wait(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let bound = self.first.saturating_mul(1 << doublings).min(self.cap);
        self.floor + bound.mul_f64(fastrand::f64())
    }
}

/// The bounds of one store call.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// The whole of one attempt.
    pub attempt_timeout: Duration,
    /// Attempts, the first included. A call that is only to come later, and an abort, may have more.
    pub max_attempts: u32,
    /// The whole call, with its attempts and waits.
    pub budget: Duration,
}

/// One store call's way through its attempts.
#[derive(Debug)]
pub struct Schedule {
    policy: RetryPolicy,
    operation: StoreOperation,
    started: Instant,
    attempts: u32,
}

impl Schedule {
    pub fn start(policy: RetryPolicy, operation: StoreOperation) -> Self {
        Self {
            policy,
            operation,
            started: Instant::now(),
            attempts: 0,
        }
    }

    /// Counts one more attempt and tells how long it may take.
    pub fn begin_attempt(&mut self) -> Duration {
        self.attempts += 1;
        self.policy.attempt_timeout.min(self.remaining())
    }

    /// How long to wait before the next attempt; `None` where there is none: by the table, or since
    /// attempts or time are used up.
    ///
    /// Attempts are only counted where failing again tells something. A store that asks for less
    /// will take the call later, and nobody waits for an abort, while what it leaves undone is paid
    /// for: these have all the time there is. `retry_after` is the store's own wish, which is only granted
    /// whole: coming back sooner would be turned away again.
    pub fn wait_after(&self, class: FaultClass, retry_after: Option<Duration>) -> Option<Duration> {
        let pace = pace(self.operation, class);
        let backoff = match pace {
            Pace::Never => return None,
            Pace::Soon => SOON,
            Pace::Later => LATER,
        };
        let patient = pace == Pace::Later || self.operation == StoreOperation::AbortMultipartUpload;
        if self.attempts >= self.policy.max_attempts && !patient {
            return None;
        }
        let wait = backoff
            .wait(self.attempts)
            .max(retry_after.unwrap_or_default());
        (wait < self.remaining()).then_some(wait)
    }

    pub fn operation(&self) -> StoreOperation {
        self.operation
    }

    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn remaining(&self) -> Duration {
        self.policy.budget.saturating_sub(self.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempt_timeout: Duration::from_secs(20),
        max_attempts: 4,
        budget: Duration::from_secs(60),
    };

    fn schedule(policy: RetryPolicy) -> Schedule {
        Schedule::start(policy, StoreOperation::UploadPart)
    }

    #[test]
    fn only_faults_that_may_pass_are_tried_again() {
        for operation in StoreOperation::ALL {
            for class in FaultClass::ALL {
                let retried = pace(operation, class) != Pace::Never;
                let passing = matches!(
                    class,
                    FaultClass::Throttled
                        | FaultClass::Unavailable
                        | FaultClass::Connection
                        | FaultClass::Timeout
                );
                assert_eq!(retried, passing, "{operation} {class:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_capped() {
        let mut schedule = schedule(POLICY);
        for _ in 0..3 {
            schedule.begin_attempt();
            assert!(schedule.wait_after(FaultClass::Connection, None).is_some());
        }
        schedule.begin_attempt();
        assert_eq!(schedule.wait_after(FaultClass::Connection, None), None);
        assert_eq!(schedule.attempts(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_asks_for_less_and_an_abort_are_bounded_by_time_alone() {
        for (operation, class) in [
            (StoreOperation::UploadPart, FaultClass::Throttled),
            (
                StoreOperation::AbortMultipartUpload,
                FaultClass::Unavailable,
            ),
        ] {
            let mut schedule = Schedule::start(POLICY, operation);
            schedule.begin_attempt();
            while let Some(wait) = schedule.wait_after(class, None) {
                tokio::time::advance(wait).await;
                schedule.begin_attempt();
            }
            assert!(schedule.attempts() > POLICY.max_attempts);
            assert!(schedule.remaining() <= LATER.floor + LATER.cap);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_is_capped() {
        let mut schedule = schedule(POLICY);
        assert_eq!(schedule.begin_attempt(), Duration::from_secs(20));
        tokio::time::advance(Duration::from_secs(50)).await;
        assert_eq!(
            schedule.begin_attempt(),
            Duration::from_secs(10),
            "the last attempt is cut to what is left of the budget"
        );
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(schedule.wait_after(FaultClass::Timeout, None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_stores_wish_is_granted_whole_or_not_at_all() {
        let mut schedule = schedule(POLICY);
        schedule.begin_attempt();
        let wish = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            schedule.wait_after(FaultClass::Throttled, wish(30)),
            wish(30)
        );
        assert_eq!(schedule.wait_after(FaultClass::Throttled, wish(61)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn throttled_calls_wait_longer() {
        let mut schedule = schedule(POLICY);
        schedule.begin_attempt();
        for _ in 0..1000 {
            let soon = schedule.wait_after(FaultClass::Unavailable, None).unwrap();
            assert!(soon <= SOON.first);
            let later = schedule.wait_after(FaultClass::Throttled, None).unwrap();
            assert!(later >= LATER.floor && later <= LATER.floor + LATER.first);
        }
    }

    #[test]
    fn waits_double_up_to_a_cap() {
        for failures in 1..100 {
            for _ in 0..100 {
                assert!(SOON.wait(failures) <= SOON.cap);
            }
        }
        let longest = (0..1000).map(|_| SOON.wait(5)).max().unwrap();
        assert!(longest > SOON.first * 4, "{longest:?}");
    }
}

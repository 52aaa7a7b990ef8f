//! Another try, later.

use crate::failure::Failure;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// A server may ask for more patience than the back-off has, but not for a day.
const LONGEST_ASKED_FOR: Duration = Duration::from_secs(300);

/// Runs `attempt` until it succeeds, fails for good, or has been repeated `retries` times.
/// `announce` hears of every failure that is followed by another try.
pub async fn retrying<T>(
    retries: u32,
    mut announce: impl FnMut(&Failure, Duration),
    mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut done = 0;
    loop {
        let failure = match attempt().await {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        };
        let Some(asked_for) = failure.retry() else {
            return Err(failure);
        };
        if done >= retries {
            return Err(match done {
                0 => failure,
                _ => Failure::GaveUp {
                    attempts: done + 1,
                    last: Box::new(failure),
                },
            });
        }
        let wait = wait(done, asked_for, fastrand::f64());
        announce(&failure, wait);
        tokio::time::sleep(wait).await;
        done += 1;
    }
}

/// How long to wait before the retry after `done` retries. `jitter` is in 0..1 and keeps many
/// clients that failed together from coming back together.
fn wait(done: u32, asked_for: Option<Duration>, jitter: f64) -> Duration {
    let backoff = FIRST
        .saturating_mul(2_u32.saturating_pow(done))
        .min(LONGEST);
    match asked_for {
        // Never earlier than asked for; the jitter comes on top.
        Some(asked_for) => asked_for.min(LONGEST_ASKED_FOR) + FIRST.mul_f64(jitter),
        None => backoff.mul_f64(0.5 + jitter / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_and_never_less_than_asked_for() {
        assert_eq!(wait(0, None, 0.0), Duration::from_millis(250));
        assert_eq!(wait(0, None, 1.0), Duration::from_millis(500));
        assert_eq!(wait(3, None, 1.0), Duration::from_secs(4));
        assert_eq!(wait(90, None, 1.0), LONGEST);
        let asked_for = Some(Duration::from_secs(2));
        assert_eq!(wait(5, asked_for, 0.0), Duration::from_secs(2));
        assert_eq!(
            wait(0, Some(Duration::from_secs(86_400)), 0.0),
            LONGEST_ASKED_FOR
        );
    }

    #[tokio::test]
    async fn counts_its_attempts() {
        let mut tries = 0;
        let result: Result<(), _> = retrying(
            1,
            |_, _| (),
            async || {
                tries += 1;
                Err(Failure::Connection("reset".into()))
            },
        )
        .await;
        assert_eq!(tries, 2);
        assert_eq!(
            result.unwrap_err().to_string(),
            "gave up after 2 attempts: reset"
        );

        let mut tries = 0;
        let result: Result<(), _> = retrying(
            2,
            |_, _| (),
            async || {
                tries += 1;
                Err(Failure::Changed("file".into()))
            },
        )
        .await;
        assert_eq!(tries, 1);
        assert!(matches!(result, Err(Failure::Changed(_))));
    }
}

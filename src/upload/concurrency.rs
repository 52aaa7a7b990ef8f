use std::time::Duration;
use tokio::time::Instant;

/// A step is worth keeping where parts go at least this much faster with it than without. Doubling
/// brings twice as much where each connection has a rate of its own, and nothing where the store, the
/// network or this machine is at its end; the rest is chance.
const WORTH: f64 = 1.25;

/// How many parts of one upload may be in flight.
///
/// One connection to S3 gives some 50 to 100 MB/s, whatever the network between could carry, so that
/// one upload is as fast as it has parts in flight. How many pay is not known beforehand: they are
/// doubled for as long as that makes the upload faster. All parts are of one size, so rounds of them
/// can be compared. A round begins when a part is ready and has to wait, for only then is the store
/// what the upload waits for, and is as many parts as may be in flight.
#[derive(Debug)]
pub(super) struct Concurrency {
    limit: usize,
    max: usize,
    /// Parts per second before the last step.
    before: Option<f64>,
    round: Option<Round>,
    settled: bool,
}

#[derive(Debug)]
struct Round {
    began: Instant,
    done: usize,
}

impl Concurrency {
    /// From `first` to `max` parts in flight, both at least 1.
    pub fn new(first: usize, max: usize) -> Self {
        Self {
            limit: first,
            max: max.max(first),
            before: None,
            round: None,
            settled: first >= max,
        }
    }

    /// Parts that may be in flight; `throttled`: the store asks for less just now.
    pub fn limit(&self, throttled: bool) -> usize {
        if throttled {
            (self.limit / 2).max(1)
        } else {
            self.limit
        }
    }

    /// A part is ready and may not go out yet: the store is what the upload waits for.
    pub fn saturated(&mut self) {
        if !self.settled && self.round.is_none() {
            self.round = Some(Round {
                began: Instant::now(),
                done: 0,
            });
        }
    }

    /// The store asks for less: no more is tried with this upload.
    pub fn throttled(&mut self) {
        self.settled = true;
        self.round = None;
    }

    /// The store has one more part.
    pub fn part_done(&mut self) {
        let Some(round) = &mut self.round else {
            return;
        };
        round.done += 1;
        if round.done < self.limit {
            return;
        }
        let took = round.began.elapsed().max(Duration::from_micros(1));
        let rate = round.done as f64 / took.as_secs_f64();
        self.round = None;
        if self.before.is_some_and(|before| rate < before * WORTH) {
            self.limit /= 2;
            self.settled = true;
        } else if self.limit == self.max {
            self.settled = true;
        } else {
            self.before = Some(rate);
            self.limit = (self.limit * 2).min(self.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends parts as fast as a store takes them; `rate` is its parts per second at a concurrency.
    async fn send(concurrency: &mut Concurrency, parts: usize, rate: impl Fn(usize) -> f64) {
        for _ in 0..parts {
            concurrency.saturated();
            let each = Duration::from_secs_f64(1.0 / rate(concurrency.limit(false)));
            tokio::time::advance(each).await;
            concurrency.part_done();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn grows_as_long_as_connections_are_the_limit() {
        let mut concurrency = Concurrency::new(4, 16);
        send(&mut concurrency, 4, |parts| parts as f64).await;
        assert_eq!(concurrency.limit(false), 8);
        send(&mut concurrency, 8, |parts| parts as f64).await;
        assert_eq!(concurrency.limit(false), 16);
        send(&mut concurrency, 100, |parts| parts as f64).await;
        assert_eq!(concurrency.limit(false), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_brings_nothing_is_taken_back_for_good() {
        let mut concurrency = Concurrency::new(4, 16);
        send(&mut concurrency, 100, |_| 10.0).await;
        assert_eq!(concurrency.limit(false), 4);
        let mut concurrency = Concurrency::new(4, 64);
        send(&mut concurrency, 1000, |parts| parts.min(16) as f64).await;
        assert_eq!(concurrency.limit(false), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_no_reason_to_grow() {
        let mut concurrency = Concurrency::new(4, 16);
        for _ in 0..100 {
            concurrency.part_done();
        }
        assert_eq!(concurrency.limit(false), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_asks_for_less_gets_less() {
        let mut concurrency = Concurrency::new(4, 16);
        assert_eq!(concurrency.limit(true), 2);
        concurrency.throttled();
        send(&mut concurrency, 100, |parts| parts as f64).await;
        assert_eq!(concurrency.limit(false), 4);
        assert_eq!(Concurrency::new(1, 1).limit(true), 1);
    }

    #[test]
    fn the_first_may_be_all() {
        let mut concurrency = Concurrency::new(4, 2);
        concurrency.saturated();
        concurrency.part_done();
        assert_eq!(concurrency.limit(false), 4);
    }
}

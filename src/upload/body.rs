use bytes::Bytes;
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// A request body, read chunk by chunk. An error is final: no chunk may be asked for after it.
pub trait BodySource: Send {
    /// The next chunk, never empty, or `None` at the body's proper end.
    fn next_chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, BodyError>> + Send;
}

/// Why a body did not come to its proper end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the client closed the connection before the end of the body")]
    ClientGone,
    #[error("the body's framing is broken: {0}")]
    Framing(String),
    #[error("no byte of the body came for {0:?}")]
    Idle(Duration),
    #[error("the body came slower than {rate} bytes per second for {window:?}")]
    TooSlow { rate: u64, window: Duration },
}

/// How slowly a client may send.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Longest wait for the next chunk.
    pub idle_timeout: Duration,
    /// Bytes per second over `min_rate_window`; 0 sets no least rate.
    pub min_rate: u64,
    pub min_rate_window: Duration,
}

/// A body whose reads are bounded by a [`Pace`]. Only time spent waiting for the client counts, so
/// that a slow store is never held against it.
pub struct PacedBody<B> {
    inner: B,
    pace: Pace,
    waited: Duration,
    received: u64,
}

impl<B: BodySource> PacedBody<B> {
    pub fn new(inner: B, pace: Pace) -> Self {
        Self {
            inner,
            pace,
            waited: Duration::ZERO,
            received: 0,
        }
    }

    fn check_rate(&mut self) -> Result<(), BodyError> {
        let Pace {
            min_rate,
            min_rate_window: window,
            ..
        } = self.pace;
        if min_rate == 0 || self.waited < window {
            return Ok(());
        }
        if (self.received as f64) < min_rate as f64 * self.waited.as_secs_f64() {
            return Err(BodyError::TooSlow {
                rate: min_rate,
                window,
            });
        }
        self.waited = Duration::ZERO;
        self.received = 0;
        Ok(())
    }
}

impl<B: BodySource> BodySource for PacedBody<B> {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        let began = Instant::now();
        let chunk = tokio::time::timeout(self.pace.idle_timeout, self.inner.next_chunk())
            .await
            .map_err(|_| BodyError::Idle(self.pace.idle_timeout))??;
        self.waited += began.elapsed();
        self.received += chunk.as_ref().map_or(0, Bytes::len) as u64;
        if chunk.is_some() {
            self.check_rate()?;
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends one byte each `pause`, `left` times.
    struct Dribble {
        pause: Duration,
        left: usize,
    }

    impl BodySource for Dribble {
        async fn next_chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
            tokio::time::sleep(self.pause).await;
            if self.left == 0 {
                return Ok(None);
            }
            self.left -= 1;
            Ok(Some(Bytes::from_static(b"x")))
        }
    }

    async fn read_all(pause: Duration, left: usize, pace: Pace) -> Result<usize, BodyError> {
        let mut body = PacedBody::new(Dribble { pause, left }, pace);
        let mut bytes = 0;
        while let Some(chunk) = body.next_chunk().await? {
            bytes += chunk.len();
        }
        Ok(bytes)
    }

    const PACE: Pace = Pace {
        idle_timeout: Duration::from_secs(10),
        min_rate: 2,
        min_rate_window: Duration::from_secs(30),
    };

    #[tokio::test(start_paused = true)]
    async fn an_idle_client_is_cut_off() {
        let answer = read_all(Duration::from_secs(11), 5, PACE).await;
        assert_eq!(answer, Err(BodyError::Idle(PACE.idle_timeout)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dribbling_client_is_cut_off() {
        let answer = read_all(Duration::from_secs(1), 1000, PACE).await;
        let window = PACE.min_rate_window;
        assert_eq!(answer, Err(BodyError::TooSlow { rate: 2, window }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_but_steady_client_is_not() {
        let answer = read_all(Duration::from_millis(400), 1000, PACE).await;
        assert_eq!(answer, Ok(1000));
        let off = Pace {
            min_rate: 0,
            ..PACE
        };
        assert_eq!(read_all(Duration::from_secs(9), 100, off).await, Ok(100));
    }
}

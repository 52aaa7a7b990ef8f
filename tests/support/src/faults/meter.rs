use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::answer::Broken;

/// A slower network.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    /// Added to every request before it goes on.
    pub latency: Duration,
    /// Bandwidth of each connection, in each direction.
    pub bytes_per_second: Option<u64>,
}

/// One direction of a connection with limited bandwidth.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    bytes_per_second: Option<u64>,
    free_at: Arc<Mutex<Instant>>,
}

impl Pace {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            bytes_per_second: shape.bytes_per_second,
            free_at: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Books the bytes; the returned wait ends when they have gone over the wire.
    fn book(&self, bytes: u64) -> Option<Pin<Box<Sleep>>> {
        let rate = self.bytes_per_second.filter(|rate| *rate > 0)?;
        let mut free_at = self.free_at.lock().expect("pace poisoned");
        let start = (*free_at).max(Instant::now());
        *free_at = start + Duration::from_secs_f64(bytes as f64 / rate as f64);
        Some(Box::pin(tokio::time::sleep_until(*free_at)))
    }
}

/// A body that is counted and slowed down on its way, and may be made to fail.
pub(super) struct Metered<B> {
    inner: B,
    counted: Arc<AtomicU64>,
    pace: Pace,
    /// Bytes after which the body fails.
    limit: Option<u64>,
    waiting: Option<(Frame<Bytes>, Pin<Box<Sleep>>)>,
    /// Told when the body ends or is dropped.
    _end: Option<End>,
}

/// Runs when dropped.
pub(super) struct End(pub(super) Box<dyn Fn() + Send>);

impl Drop for End {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl<B> Metered<B> {
    pub(super) fn new(inner: B, counted: Arc<AtomicU64>, pace: Pace) -> Self {
        Self {
            inner,
            counted,
            pace,
            limit: None,
            waiting: None,
            _end: None,
        }
    }

    pub(super) fn limit(self, limit: Option<u64>) -> Self {
        Self { limit, ..self }
    }

    pub(super) fn on_end(self, end: End) -> Self {
        Self {
            _end: Some(end),
            ..self
        }
    }
}

impl<B> Body for Metered<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Broken>,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        loop {
            if let Some((_, wait)) = &mut this.waiting {
                ready!(wait.as_mut().poll(cx));
                let frame = this.waiting.take().map(|(frame, _)| Ok(frame));
                return Poll::Ready(frame);
            }
            if this.limit == Some(0) {
                return Poll::Ready(Some(Err(Broken::new("cut off on purpose"))));
            }
            let mut frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => frame,
            };
            let Some(data) = frame.data_mut() else {
                return Poll::Ready(Some(Ok(frame)));
            };
            if let Some(limit) = &mut this.limit {
                data.truncate(usize::try_from(*limit).unwrap_or(usize::MAX));
                *limit -= data.len() as u64;
            }
            let len = data.len() as u64;
            this.counted.fetch_add(len, Ordering::SeqCst);
            match this.pace.book(len) {
                None => return Poll::Ready(Some(Ok(frame))),
                Some(wait) => this.waiting = Some((frame, wait)),
            }
        }
    }

    // Passed on, so that a length stays a length and does not become chunks.
    fn size_hint(&self) -> SizeHint {
        match self.waiting {
            None => self.inner.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.limit != Some(0) && self.inner.is_end_stream()
    }
}

//! A request body read from a file, which can be held back until the server asks for it.

use crate::failure::Failure;
use crate::progress::Task;
use crate::source::Source;
use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const HELD: u8 = 0;
const FLOWING: u8 = 1;
const CANCELLED: u8 = 2;

/// Shared between a body, which hyper owns, and whoever sent it.
pub struct Flow {
    gate: AtomicU8,
    waker: AtomicWaker,
    sent: AtomicU64,
    began: Instant,
    /// Milliseconds after `began`, plus one; zero before hyper asked for the first byte, which is
    /// when the request's head has been written.
    asked: AtomicU64,
    moved: AtomicU64,
    failure: Mutex<Option<Failure>>,
}

impl Flow {
    /// `hold`: no byte leaves before `open`.
    pub fn new(hold: bool) -> Arc<Self> {
        Arc::new(Self {
            gate: AtomicU8::new(if hold { HELD } else { FLOWING }),
            waker: AtomicWaker::new(),
            sent: AtomicU64::new(0),
            began: Instant::now(),
            asked: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            failure: Mutex::new(None),
        })
    }

    pub fn open(&self) {
        let _ = self
            .gate
            .compare_exchange(HELD, FLOWING, Ordering::AcqRel, Ordering::Acquire);
        self.waker.wake();
    }

    /// Ends the body with an error, which makes hyper close the connection: the server has been
    /// promised more bytes than it will get.
    pub fn cancel(&self) {
        self.gate.store(CANCELLED, Ordering::Release);
        self.waker.wake();
    }

    pub fn is_held(&self) -> bool {
        self.gate.load(Ordering::Acquire) == HELD
    }

    /// How long the head of the request has been out.
    pub fn asked_since(&self) -> Option<Duration> {
        let asked = self.asked.load(Ordering::Acquire).checked_sub(1)?;
        Some(
            self.began
                .elapsed()
                .saturating_sub(Duration::from_millis(asked)),
        )
    }

    /// How long ago the last byte left, or the request began.
    pub fn still_since(&self) -> Duration {
        let moved = Duration::from_millis(self.moved.load(Ordering::Acquire));
        self.began.elapsed().saturating_sub(moved)
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Why the file couldn't be read, if that ended the body.
    pub fn take_failure(&self) -> Option<Failure> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn fail(&self, failure: Failure) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

pub struct FileBody {
    source: Arc<Source>,
    flow: Arc<Flow>,
    task: Task,
    chunks: Option<mpsc::Receiver<Result<Bytes, Failure>>>,
    remaining: u64,
}

impl FileBody {
    pub fn new(source: Arc<Source>, flow: Arc<Flow>, task: Task) -> Self {
        task.restart();
        Self {
            remaining: source.len(),
            source,
            flow,
            task,
            chunks: None,
        }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.remaining == 0 {
            return Poll::Ready(None);
        }
        let flow = &this.flow;
        if flow.asked.load(Ordering::Acquire) == 0 {
            flow.asked.store(flow.now() + 1, Ordering::Release);
        }
        // Before the look at the gate, or a change between the two would wake nobody.
        flow.waker.register(context.waker());
        match flow.gate.load(Ordering::Acquire) {
            HELD => return Poll::Pending,
            CANCELLED => return Poll::Ready(Some(Err(io::Error::other("no longer wanted")))),
            _ => (),
        }
        let chunks = this.chunks.get_or_insert_with(|| this.source.stream());
        match chunks.poll_recv(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(chunk))) => {
                let len = chunk.len() as u64;
                this.remaining = this.remaining.saturating_sub(len);
                flow.sent.fetch_add(len, Ordering::AcqRel);
                flow.moved.store(flow.now(), Ordering::Release);
                this.task.advance(len);
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Poll::Ready(end) => {
                if let Some(Err(failure)) = end {
                    flow.fail(failure);
                }
                Poll::Ready(Some(Err(io::Error::other(
                    "cannot read the file to its end",
                ))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

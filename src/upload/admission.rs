use super::UploadError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The unit in which memory is reserved, bytes: small enough to waste little on a small blob, large
/// enough that the semaphore's counters never overflow.
const BLOCK: u64 = 64 << 10;

/// Who may stream, and with how much memory, for the whole process.
///
/// First come, first served: a slot, then the first buffer, both from fair semaphores. An upload
/// holds its first buffer to its end, so it can always go on with one, and takes further ones only
/// where nobody waits for a first: that is why admission cannot deadlock, and why an upload that
/// came early cannot starve one that came late.
#[derive(Debug)]
pub struct Admission {
    slots: Arc<Semaphore>,
    max_streaming: usize,
    budget: Arc<Semaphore>,
    budget_blocks: u64,
    waiting: AtomicUsize,
    timeout: Duration,
}

/// An upload's right to stream. Dropping it frees slot and memory at once.
#[derive(Debug)]
pub struct Admitted {
    pub slot: Slot,
    pub first_buffer: Reservation,
}

#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// Memory for one part, part of the process's budget.
#[derive(Debug)]
pub struct Reservation {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// `memory_budget` in bytes; it must hold at least one part of the largest blob taken.
    pub fn new(max_streaming: usize, memory_budget: u64, timeout: Duration) -> Self {
        let budget_blocks = memory_budget / BLOCK;
        Self {
            slots: Arc::new(Semaphore::new(max_streaming)),
            max_streaming,
            budget: Arc::new(Semaphore::new(budget_blocks as usize)),
            budget_blocks,
            waiting: AtomicUsize::new(0),
            timeout,
        }
    }

    /// Waits for a slot and for `first_buffer` bytes, at most the configured time for both.
    pub async fn admit(&self, first_buffer: u64) -> Result<Admitted, UploadError> {
        let deadline = Instant::now() + self.timeout;
        let _waiting = Waiting::enter(&self.waiting);
        let acquire = async {
            let slot = Arc::clone(&self.slots).acquire_owned().await;
            let buffer = Arc::clone(&self.budget)
                .acquire_many_owned(self.blocks(first_buffer))
                .await;
            slot.and_then(|slot| buffer.map(|buffer| (slot, buffer)))
        };
        match tokio::time::timeout_at(deadline, acquire).await {
            Ok(Ok((slot, buffer))) => Ok(Admitted {
                slot: Slot { _permit: slot },
                first_buffer: Reservation { _permit: buffer },
            }),
            // Nobody closes the semaphores but `close`.
            Ok(Err(_)) => Err(UploadError::ShuttingDown),
            Err(_) => Err(UploadError::AdmissionTimeout(self.timeout)),
        }
    }

    /// Memory for another part, where it is free now and nobody waits for it.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let permit = Arc::clone(&self.budget)
            .try_acquire_many_owned(self.blocks(bytes))
            .ok()?;
        Some(Reservation { _permit: permit })
    }

    /// Turns away all who wait and all who come.
    pub fn close(&self) {
        self.slots.close();
    }

    pub fn slots_in_use(&self) -> usize {
        self.max_streaming - self.slots.available_permits()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Bytes.
    pub fn memory_in_use(&self) -> u64 {
        self.memory_budget() - self.budget.available_permits() as u64 * BLOCK
    }

    /// Bytes, rounded down to whole blocks.
    pub fn memory_budget(&self) -> u64 {
        self.budget_blocks * BLOCK
    }

    /// Never more than the whole budget, which could not be waited for.
    fn blocks(&self, bytes: u64) -> u32 {
        let blocks = bytes.div_ceil(BLOCK).max(1).min(self.budget_blocks);
        u32::try_from(blocks).unwrap_or(u32::MAX)
    }
}

/// Counts a waiter for as long as it lives, however it ends.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::pin::pin;

    const MIB: u64 = 1 << 20;
    const WAIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn slots_bound_the_uploads_and_the_wait_is_bounded() {
        let admission = Admission::new(1, 64 * MIB, WAIT);
        let first = admission.admit(MIB).await.unwrap();
        assert_eq!(admission.slots_in_use(), 1);
        let began = Instant::now();
        let second = admission.admit(MIB).await;
        assert!(matches!(second, Err(UploadError::AdmissionTimeout(WAIT))));
        assert_eq!(began.elapsed(), WAIT);
        assert_eq!(admission.waiting(), 0);

        drop(first);
        admission.admit(MIB).await.unwrap();
        assert_eq!(
            (admission.slots_in_use(), admission.memory_in_use()),
            (0, 0)
        );
    }

    #[tokio::test]
    async fn memory_bounds_the_uploads_and_waiters_come_before_extra_buffers() {
        let admission = Admission::new(8, 4 * MIB, WAIT);
        let first = admission.admit(2 * MIB).await.unwrap();
        let extra = admission.try_reserve(MIB).unwrap();
        let mut second = pin!(admission.admit(2 * MIB));
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!(admission.waiting(), 1);
        // One MiB is free, but somebody waits for it.
        assert!(admission.try_reserve(MIB).is_none());
        drop(extra);
        let second = second.await.unwrap();
        assert_eq!(admission.memory_in_use(), 4 * MIB);
        drop((first, second));
        assert_eq!(admission.memory_in_use(), 0);
    }

    #[tokio::test]
    async fn comes_first_is_served_first() {
        let admission = Admission::new(1, 4 * MIB, WAIT);
        let holder = admission.admit(MIB).await.unwrap();
        let mut early = pin!(admission.admit(MIB));
        let mut late = pin!(admission.admit(MIB));
        assert!(early.as_mut().now_or_never().is_none());
        assert!(late.as_mut().now_or_never().is_none());
        drop(holder);
        assert!(late.as_mut().now_or_never().is_none());
        let early = early.await.unwrap();
        drop(early);
        late.await.unwrap();
    }

    #[tokio::test]
    async fn closing_turns_waiters_away() {
        let admission = Admission::new(1, 4 * MIB, WAIT);
        let _holder = admission.admit(MIB).await.unwrap();
        let mut waiter = pin!(admission.admit(MIB));
        assert!(waiter.as_mut().now_or_never().is_none());
        admission.close();
        assert!(matches!(waiter.await, Err(UploadError::ShuttingDown)));
    }
}

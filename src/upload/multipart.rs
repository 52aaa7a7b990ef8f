use super::abort::{Aborter, Opening};
use super::admission::{Admission, Reservation};
use super::concurrency::Concurrency;
use super::{MAX_PARTS, Phase, PushRecord, UploadError};
use crate::registry::Digest;
use crate::store::{BlobStore, Completion, Part, PartReceipt, StoreError, StoreOperation};
use futures::FutureExt;
use std::sync::Arc;
use tokio::task::{JoinError, JoinSet};

/// A blob's parts on their way into one multipart upload.
///
/// Nothing is opened in the store before the first part is sent, or [`Multipart::open`] is called.
/// From then on completing, which consumes it, is the only way not to abort: dropped at any other
/// moment, on whatever way out, the upload is aborted. That is why nothing here, and no caller,
/// needs to think of what to clean up.
pub(super) struct Multipart {
    context: Context,
    opening: Option<Opening>,
    in_flight: JoinSet<PartOutcome>,
    concurrency: Concurrency,
    receipts: Vec<PartReceipt>,
    sent: u16,
    /// Memory of the part that is being filled.
    filling: Option<Buffer>,
    /// The first buffer, while no part needs it.
    spare: Option<Buffer>,
}

/// What an upload works with.
pub(super) struct Context {
    pub store: Arc<dyn BlobStore>,
    pub admission: Arc<Admission>,
    pub aborter: Aborter,
    pub record: Arc<PushRecord>,
    pub digest: Digest,
    /// Bytes.
    pub part_size: u64,
    /// Parts in flight at once: to begin with, and where more make it faster.
    pub concurrency: (usize, usize),
}

type PartOutcome = Result<(PartReceipt, Buffer), StoreError>;

struct Buffer {
    /// Held for its drop.
    _memory: Reservation,
    /// The one buffer that an upload keeps to its end, so that it can always go on.
    first: bool,
}

impl Multipart {
    /// `first` is the memory of the first part.
    pub fn new(context: Context, first: Reservation) -> Self {
        let (first_parts, most_parts) = context.concurrency;
        Self {
            context,
            concurrency: Concurrency::new(first_parts, most_parts),
            opening: None,
            in_flight: JoinSet::new(),
            receipts: Vec::new(),
            sent: 0,
            filling: Some(Buffer {
                _memory: first,
                first: true,
            }),
            spare: None,
        }
    }

    /// Opens the upload in the store, without waiting for the answer.
    pub fn open(&mut self) {
        drop(self.opening());
    }

    fn opening(&mut self) -> Opening {
        let context = &self.context;
        let opening = self.opening.get_or_insert_with(|| {
            // On a task of its own: a push that ends before the answer is here must still learn the
            // upload id, to abort it.
            let (store, digest) = (Arc::clone(&context.store), context.digest.clone());
            let record = Arc::clone(&context.record);
            let create = async move {
                let upload = store.create_upload(&digest).await?;
                record.opened(&upload);
                Ok(Arc::new(upload))
            };
            tokio::spawn(create)
                .map(|joined| joined.unwrap_or_else(|lost| Err(lost_create(&lost))))
                .boxed()
                .shared()
        });
        opening.clone()
    }

    pub fn is_open(&self) -> bool {
        self.opening.is_some()
    }

    /// Sends a full part on its way, and returns when there is memory to fill the next one.
    pub async fn send(&mut self, part: Part) -> Result<(), UploadError> {
        self.start(part).await?;
        self.filling = Some(self.next_buffer().await?);
        Ok(())
    }

    /// Sends the last part, which may be shorter, and waits until the store has every part.
    pub async fn send_last(&mut self, part: Part) -> Result<(), UploadError> {
        self.start(part).await?;
        while !self.in_flight.is_empty() {
            self.reap().await?;
        }
        Ok(())
    }

    /// Makes the upload's `size` bytes visible. They must have been verified.
    pub async fn complete(mut self, size: u64) -> Result<(), UploadError> {
        let upload = self.opening().await?;
        self.receipts.sort_unstable_by_key(|receipt| receipt.number);
        let completion = self
            .context
            .store
            .complete_upload(&upload, &self.receipts, size)
            .await?;
        match completion {
            // There is nothing left to abort.
            Completion::Confirmed => self.opening = None,
            // The blob is there. Whether the upload is open still, the abort will find out.
            Completion::Found => {}
        }
        Ok(())
    }

    /// Ends the upload without a result. The abort goes its own way, but the parts' memory is free
    /// when this returns, and so before the client hears that the push failed.
    pub async fn give_up(mut self) {
        self.in_flight.shutdown().await;
    }

    async fn start(&mut self, part: Part) -> Result<(), UploadError> {
        while self.in_flight.len() >= self.parallel() {
            self.concurrency.saturated();
            self.reap().await?;
        }
        if u64::from(self.sent) == MAX_PARTS {
            return Err(UploadError::Internal(format!(
                "part sizing let a blob need more than {MAX_PARTS} parts"
            )));
        }
        self.sent += 1;
        let number = self.sent;
        let buffer = self
            .filling
            .take()
            .ok_or_else(|| UploadError::Internal("a part was filled without memory".into()))?;
        let (store, opening) = (Arc::clone(&self.context.store), self.opening());
        self.in_flight.spawn(async move {
            let upload = opening.await?;
            let receipt = store.put_part(&upload, number, part).await?;
            Ok((receipt, buffer))
        });
        Ok(())
    }

    /// Memory for the next part: the upload's own buffer where it is free, else a further one where
    /// the budget has room, else the first that comes back.
    async fn next_buffer(&mut self) -> Result<Buffer, UploadError> {
        loop {
            while let Some(done) = self.in_flight.try_join_next() {
                self.note(done)?;
            }
            if let Some(first) = self.spare.take() {
                return Ok(first);
            }
            if self.in_flight.len() <= self.parallel()
                && let Some(memory) = self.context.admission.try_reserve(self.context.part_size)
            {
                return Ok(Buffer {
                    _memory: memory,
                    first: false,
                });
            }
            self.reap().await?;
        }
    }

    /// Parts in flight at once; fewer for a while after the store asked for less.
    fn parallel(&mut self) -> usize {
        let throttled = self.context.store.recently_throttled();
        if throttled {
            self.concurrency.throttled();
        }
        self.concurrency.limit(throttled)
    }

    async fn reap(&mut self) -> Result<(), UploadError> {
        let waiting = self.context.record.enter(Phase::Store);
        let done = self.in_flight.join_next().await;
        drop(waiting);
        match done {
            Some(done) => self.note(done),
            None => Err(UploadError::Internal(
                "waited for a part where none was in flight".into(),
            )),
        }
    }

    fn note(&mut self, done: Result<PartOutcome, JoinError>) -> Result<(), UploadError> {
        let (receipt, buffer) = done??;
        self.receipts.push(receipt);
        self.concurrency.part_done();
        if buffer.first {
            self.spare = Some(buffer);
        }
        // Any other buffer goes back to the budget here, and so to those who wait for a first one.
        Ok(())
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if let Some(opening) = self.opening.take() {
            let parts = std::mem::take(&mut self.in_flight);
            self.context.aborter.abort(opening, parts);
        }
    }
}

fn lost_create(lost: &JoinError) -> StoreError {
    StoreError::internal(
        StoreOperation::CreateMultipartUpload,
        format!("the call's task was lost: {lost}"),
    )
}

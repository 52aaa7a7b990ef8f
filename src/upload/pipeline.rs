use super::admission::{Admission, Admitted};
use super::gather::Gatherer;
use super::hasher::BodyHasher;
use super::multipart::{Context, Multipart};
use super::{Aborter, BodySource, PartPlan, Phase, PushRecord, UploadError};
use crate::registry::{BlobPush, Digest};
use crate::store::{BlobStore, Part};
use bytes::Bytes;
use std::sync::Arc;

/// Bytes hashed at a time while a blob is stored: large, as handing over a batch has its price.
const STORING_BATCH: u64 = 1 << 20;

/// The same while a blob is only verified. These pushes draw on no memory budget, so each must hold
/// little.
const VERIFYING_BATCH: u64 = 128 << 10;

/// Takes blobs from clients into the store.
#[derive(Clone)]
pub struct Uploader {
    store: Arc<dyn BlobStore>,
    admission: Arc<Admission>,
    aborter: Aborter,
    limits: Limits,
}

/// Sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub part_size: u64,
    pub max_blob_size: u64,
    /// Parts of one upload in flight: to begin with, and at most.
    pub part_concurrency: (usize, usize),
}

/// What the bucket holds under a digest when its blob comes to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Nothing,
    /// Something that is not the blob, to be replaced by it.
    OtherData,
}

impl Uploader {
    pub fn new(
        store: Arc<dyn BlobStore>,
        admission: Arc<Admission>,
        aborter: Aborter,
        limits: Limits,
    ) -> Self {
        Self {
            store,
            admission,
            aborter,
            limits,
        }
    }

    /// The same for one push, through its own view of the store.
    pub fn through(&self, store: Arc<dyn BlobStore>) -> Self {
        Self {
            store,
            ..self.clone()
        }
    }

    /// How a body of this length would be cut; an error where it is longer than is taken here.
    pub fn plan(&self, length: Option<u64>) -> Result<PartPlan, UploadError> {
        let Limits {
            part_size,
            max_blob_size,
            ..
        } = self.limits;
        match length {
            Some(length) if length > max_blob_size => Err(UploadError::TooLong {
                limit: max_blob_size,
                length: Some(length),
            }),
            _ => Ok(PartPlan::new(part_size, max_blob_size, length)),
        }
    }

    /// Waits for a slot and the first buffer.
    pub async fn admit(&self, plan: &PartPlan) -> Result<Admitted, UploadError> {
        self.admission.admit(plan.first_part()).await
    }

    /// Receives, verifies and stores a blob and links it into its repository; its size in bytes.
    pub async fn store(
        &self,
        push: &BlobPush,
        plan: PartPlan,
        admitted: Admitted,
        held: Held,
        body: impl BodySource,
        record: &Arc<PushRecord>,
    ) -> Result<u64, UploadError> {
        let Admitted {
            slot: _held_to_the_end,
            first_buffer,
        } = admitted;
        let context = Context {
            store: Arc::clone(&self.store),
            admission: Arc::clone(&self.admission),
            aborter: self.aborter.clone(),
            record: Arc::clone(record),
            digest: push.digest.clone(),
            part_size: plan.part_size,
            concurrency: self.limits.part_concurrency,
        };
        let mut upload = Multipart::new(context, first_buffer);
        let intake = Intake::new(&push.digest, plan, STORING_BATCH, body);
        let (size, rest) = match receive(&mut upload, intake).await {
            Ok(received) => received,
            Err(error) => {
                upload.give_up().await;
                return Err(error);
            }
        };
        let _committing = record.enter(Phase::Commit);
        match (rest, held) {
            // Side by side: a link whose data failed to follow opens nothing, and was earned.
            (Some(blob), Held::Nothing) => {
                tokio::try_join!(
                    self.store.put_blob(&push.digest, blob),
                    self.store.link(&push.name, &push.digest),
                )?;
                return Ok(size);
            }
            (Some(blob), Held::OtherData) => self.store.put_blob(&push.digest, blob).await?,
            (None, _) => upload.complete(size).await?,
        }
        // Never before: it would open whatever else lies there.
        self.store.link(&push.name, &push.digest).await?;
        Ok(size)
    }

    /// Receives a blob whose data the bucket already has, for the proof that the client has those
    /// bytes too; its size in bytes.
    pub async fn prove(
        &self,
        push: &BlobPush,
        plan: PartPlan,
        body: impl BodySource,
        record: &PushRecord,
    ) -> Result<u64, UploadError> {
        let mut intake = Intake::new(&push.digest, plan, VERIFYING_BATCH, body);
        while intake.next_chunk().await?.is_some() {}
        let size = intake.verify().await?;
        let _committing = record.enter(Phase::Commit);
        // The body may have taken long to come, and a garbage collection may have run meanwhile.
        // And only now is it known of what length the data must be.
        let found = self.store.blob_size(&push.digest).await?;
        if found != Some(size) {
            return Err(UploadError::DataUnfit { found, size });
        }
        Ok(size)
    }

    /// As [`Uploader::prove`], and links the blob into its repository.
    pub async fn prove_and_link(
        &self,
        push: &BlobPush,
        plan: PartPlan,
        body: impl BodySource,
        record: &PushRecord,
    ) -> Result<u64, UploadError> {
        let size = self.prove(push, plan, body, record).await?;
        let _committing = record.enter(Phase::Commit);
        // Not beside the question for the data: a link to other data would show unverified bytes.
        self.store.link(&push.name, &push.digest).await?;
        Ok(size)
    }

    /// Reads a body to its end for nothing but the end; its length in bytes.
    pub async fn discard(
        &self,
        plan: PartPlan,
        mut body: impl BodySource,
    ) -> Result<u64, UploadError> {
        let mut received = 0;
        while let Some(chunk) = body.next_chunk().await? {
            received += chunk.len() as u64;
            within_limit(&plan, received)?;
        }
        Ok(received)
    }
}

/// Takes a body to its end, and all of it that fills more than one part into the upload; its
/// verified size, and the whole blob where that is no more than one part.
async fn receive(
    upload: &mut Multipart,
    mut intake: Intake<impl BodySource>,
) -> Result<(u64, Option<Part>), UploadError> {
    let plan = intake.plan;
    if plan.surely_multipart() {
        upload.open();
    }
    let mut part = Gatherer::default();
    while let Some(mut chunk) = intake.next_chunk().await? {
        while !chunk.is_empty() {
            // Full, and only now is it sure that it is not the last part.
            if part.len() == plan.part_size {
                upload.send(part.take()).await?;
            }
            let room = usize::try_from(plan.part_size - part.len()).unwrap_or(usize::MAX);
            part.push(chunk.split_to(room.min(chunk.len())));
        }
    }
    let last = part.take();
    if !upload.is_open() {
        return Ok((intake.verify().await?, Some(last)));
    }
    // The last part may travel unverified: nothing shows before the upload is completed.
    let (size, ()) = tokio::try_join!(intake.verify(), upload.send_last(last))?;
    Ok((size, None))
}

/// A body being received: every byte counted and hashed, and judged at its end.
struct Intake<B> {
    body: B,
    plan: PartPlan,
    expected: Digest,
    hasher: BodyHasher,
    received: u64,
}

impl<B: BodySource> Intake<B> {
    fn new(expected: &Digest, plan: PartPlan, batch_size: u64, body: B) -> Self {
        Self {
            body,
            plan,
            expected: expected.clone(),
            hasher: BodyHasher::new(expected.algorithm(), batch_size),
            received: 0,
        }
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, UploadError> {
        let Some(chunk) = self.body.next_chunk().await? else {
            return Ok(None);
        };
        self.received += chunk.len() as u64;
        within_limit(&self.plan, self.received)?;
        self.hasher.update(chunk.clone()).await?;
        Ok(Some(chunk))
    }

    /// To be called at the body's end: length, then digest. The body's size in bytes.
    async fn verify(self) -> Result<u64, UploadError> {
        let received = self.received;
        if let Some(announced) = self.plan.length
            && announced != received
        {
            return Err(UploadError::LengthMismatch {
                announced,
                received,
            });
        }
        let computed = self.hasher.finish().await?;
        if computed != self.expected {
            return Err(UploadError::DigestMismatch {
                expected: self.expected,
                computed,
            });
        }
        Ok(received)
    }
}

fn within_limit(plan: &PartPlan, received: u64) -> Result<(), UploadError> {
    if let Some(announced) = plan.length
        && received > announced
    {
        return Err(UploadError::LengthMismatch {
            announced,
            received,
        });
    }
    if received > plan.limit {
        return Err(UploadError::TooLong {
            limit: plan.limit,
            length: plan.length,
        });
    }
    Ok(())
}

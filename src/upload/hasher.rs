use super::UploadError;
use super::gather::Gatherer;
use crate::registry::{Algorithm, Digest, DigestHasher};
use crate::store::Part;
use bytes::Bytes;
use tokio::task::JoinHandle;

/// Up to this many bytes are hashed where they are: moving them to another thread costs more.
const INLINE: u64 = 64 << 10;

/// Hashes a body off the task that reads it, in batches, so that receiving and hashing overlap.
///
/// At most one batch is being hashed while the next is gathered: the memory held here is bounded by
/// two batches, and a body that comes faster than it can be hashed is read no faster.
pub struct BodyHasher {
    state: State,
    batch: Gatherer,
    batch_size: u64,
}

enum State {
    Here(Box<DigestHasher>),
    Away(JoinHandle<Box<DigestHasher>>),
    /// Only while the state changes hands, and after a batch was lost.
    Lost,
}

impl BodyHasher {
    /// `batch_size` in bytes.
    pub fn new(algorithm: Algorithm, batch_size: u64) -> Self {
        Self {
            state: State::Here(Box::new(DigestHasher::new(algorithm))),
            batch: Gatherer::default(),
            batch_size,
        }
    }

    pub async fn update(&mut self, chunk: Bytes) -> Result<(), UploadError> {
        self.batch.push(chunk);
        if self.batch.len() < self.batch_size {
            return Ok(());
        }
        let mut hasher = self.take().await?;
        let batch = self.batch.take();
        self.state = State::Away(tokio::task::spawn_blocking(move || {
            hash(&mut hasher, &batch);
            hasher
        }));
        Ok(())
    }

    /// The digest of everything given.
    pub async fn finish(mut self) -> Result<Digest, UploadError> {
        let mut hasher = self.take().await?;
        let batch = self.batch.take();
        if batch.len() <= INLINE {
            hash(&mut hasher, &batch);
            return Ok(hasher.finish());
        }
        let digest = tokio::task::spawn_blocking(move || {
            hash(&mut hasher, &batch);
            hasher.finish()
        });
        Ok(digest.await?)
    }

    async fn take(&mut self) -> Result<Box<DigestHasher>, UploadError> {
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Here(hasher) => Ok(hasher),
            State::Away(batch) => Ok(batch.await?),
            State::Lost => Err(UploadError::Internal("the running digest was lost".into())),
        }
    }
}

fn hash(hasher: &mut DigestHasher, batch: &Part) {
    for chunk in batch.chunks() {
        hasher.update(chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_digest(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..40),
            batch_size in 1u64..2000,
        ) {
            let mut whole = DigestHasher::new(Algorithm::Sha256);
            whole.update(&chunks.concat());
            let digest = runtime().block_on(async {
                let mut hasher = BodyHasher::new(Algorithm::Sha256, batch_size);
                for chunk in chunks {
                    hasher.update(chunk.into()).await.unwrap();
                }
                hasher.finish().await.unwrap()
            });
            prop_assert_eq!(digest, whole.finish());
        }
    }
}

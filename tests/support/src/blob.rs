//! Blobs of any size that need not be stored: the same seed gives the same bytes.

use bytes::Bytes;
use futures::stream::{self, Stream};
use sha2::{Digest, Sha256, Sha512};

/// Every block has a generator of its own, so that the content does not depend on the chunks in
/// which it is read.
const BLOCK: u64 = 64 * 1024;

/// A blob of pseudo-random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Which bytes.
    pub seed: u64,
    /// How many.
    pub size: u64,
}

impl Blob {
    /// A blob that differs from those with other seeds from the first bytes on.
    pub fn new(seed: u64, size: u64) -> Self {
        Self { seed, size }
    }

    /// All its bytes.
    pub fn bytes(&self) -> Bytes {
        let mut content = Vec::with_capacity(self.size as usize);
        self.chunks(1 << 20)
            .for_each(|chunk| content.extend_from_slice(&chunk));
        content.into()
    }

    /// Its bytes in chunks of `len`, the last one possibly shorter.
    pub fn chunks(&self, len: usize) -> impl Iterator<Item = Bytes> + Send + Sync + use<> {
        let blob = *self;
        let step = len.max(1);
        (0..blob.size).step_by(step).map(move |start| {
            let end = (start + step as u64).min(blob.size);
            blob.range(start, end)
        })
    }

    /// Its bytes as a request body, in chunks of `len`.
    pub fn stream(
        &self,
        len: usize,
    ) -> impl Stream<Item = std::io::Result<Bytes>> + Send + Sync + use<> {
        stream::iter(self.chunks(len).map(Ok))
    }

    /// `sha256:…`
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        self.chunks(1 << 20).for_each(|chunk| hasher.update(&chunk));
        format!("sha256:{:x}", hasher.finalize())
    }

    /// `sha512:…`
    pub fn sha512(&self) -> String {
        let mut hasher = Sha512::new();
        self.chunks(1 << 20).for_each(|chunk| hasher.update(&chunk));
        format!("sha512:{:x}", hasher.finalize())
    }

    fn range(&self, start: u64, end: u64) -> Bytes {
        let mut content = Vec::with_capacity((end - start) as usize + BLOCK as usize);
        let first = start / BLOCK;
        for block in first..end.div_ceil(BLOCK) {
            let mut words = fastrand::Rng::with_seed(self.seed ^ (block << 20));
            let at = content.len();
            content.resize(at + BLOCK as usize, 0);
            words.fill(&mut content[at..]);
        }
        let from = (start - first * BLOCK) as usize;
        Bytes::from(content).slice(from..from + (end - start) as usize)
    }
}

/// `sha256:…` of some bytes.
pub fn sha256(content: impl AsRef<[u8]>) -> String {
    format!("sha256:{:x}", Sha256::digest(content))
}

/// `sha512:…` of some bytes.
pub fn sha512(content: impl AsRef<[u8]>) -> String {
    format!("sha512:{:x}", Sha512::digest(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_does_not_depend_on_the_chunks() {
        let blob = Blob::new(7, 3 * BLOCK + 17);
        let whole = blob.bytes();
        assert_eq!(whole.len() as u64, blob.size);
        for len in [1000, BLOCK as usize, 100_000] {
            let chunks: Vec<_> = blob.chunks(len).collect();
            assert_eq!(chunks.concat(), whole);
        }
        assert_eq!(blob.sha256(), sha256(&whole));
        assert_ne!(Blob::new(8, 64).bytes(), Blob::new(7, 64).bytes());
    }
}

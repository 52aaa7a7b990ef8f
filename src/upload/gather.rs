use crate::store::Part;
use bytes::{Bytes, BytesMut};

/// Chunks shorter than this are copied together. A client may send a byte at a time, and each
/// chunk kept as it came would cost many times its length.
const SMALL: usize = 4 << 10;

/// How much is copied together before it becomes a chunk, bytes.
const GATHERED: usize = 64 << 10;

/// Bytes that come together, for a part or to be hashed. Chunks are kept as they came, without a
/// copy, but for small ones.
#[derive(Debug, Default)]
pub struct Gatherer {
    part: Part,
    small: BytesMut,
}

impl Gatherer {
    /// Length so far, bytes.
    pub fn len(&self) -> u64 {
        self.part.len() + self.small.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn push(&mut self, chunk: Bytes) {
        if chunk.len() < SMALL {
            self.small.extend_from_slice(&chunk);
            if self.small.len() >= GATHERED {
                self.settle();
            }
        } else {
            self.settle();
            self.part.push(chunk);
        }
    }

    /// All so far; the gatherer is empty again.
    pub fn take(&mut self) -> Part {
        self.settle();
        std::mem::take(&mut self.part)
    }

    fn settle(&mut self) {
        if !self.small.is_empty() {
            // A copy of the exact length, as the buffer's spare room would be held with it.
            self.part.push(Bytes::copy_from_slice(&self.small));
            self.small.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_every_byte_in_order(
            lengths in prop::collection::vec(prop_oneof![1usize..10, 4000usize..4200, 60_000usize..70_000], 0..30)
        ) {
            let mut gatherer = Gatherer::default();
            let mut expected = Vec::new();
            for (index, length) in lengths.into_iter().enumerate() {
                let chunk = vec![index as u8; length];
                expected.extend_from_slice(&chunk);
                gatherer.push(chunk.into());
                prop_assert_eq!(gatherer.len(), expected.len() as u64);
            }
            let part = gatherer.take();
            prop_assert_eq!(part.len(), expected.len() as u64);
            prop_assert_eq!(part.chunks().concat(), expected);
            prop_assert_eq!(gatherer.len(), 0);
        }
    }

    #[test]
    fn small_chunks_become_few() {
        let mut gatherer = Gatherer::default();
        for _ in 0..1_000_000 {
            gatherer.push(Bytes::from_static(b"x"));
        }
        assert!(gatherer.take().chunks().len() < 20);
    }
}

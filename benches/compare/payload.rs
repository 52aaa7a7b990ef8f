//! What is pushed: blobs that cost nothing to make, each with a digest of its own.

use std::collections::HashMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use blobgate::registry::{Algorithm, Digest, DigestHasher};
use blobgate::store::Part;
use bytes::Bytes;

/// The bytes that every blob repeats. Small enough to stay in a core's cache, so that sending them
/// costs the client as little as can be.
const BLOCK: usize = 1 << 20;

/// The bytes at the end that make a blob unlike all others: nothing may be found in the bucket
/// already. At the end, as then the digest of all that comes before is needed only once.
const TAIL: u64 = 32;

/// Makes blobs.
pub struct Source {
    block: Bytes,
    /// Digests of the repeated bytes before the tail, by the blob's size.
    heads: Mutex<HashMap<u64, DigestHasher>>,
    made: AtomicU64,
}

/// One blob. Clones share its bytes.
#[derive(Clone)]
pub struct Blob {
    pub size: u64,
    pub digest: Digest,
    block: Bytes,
    tail: Bytes,
}

impl Source {
    pub fn new() -> Self {
        let mut block = vec![0; BLOCK];
        fastrand::fill(&mut block);
        Self {
            block: block.into(),
            heads: Mutex::default(),
            made: AtomicU64::new(0),
        }
    }

    /// A blob of at least 32 bytes that no one has seen yet. The first of a size takes as long as
    /// its digest does.
    pub fn blob(&self, size: u64) -> Blob {
        let mut tail = [0; TAIL as usize];
        fastrand::fill(&mut tail);
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        tail[..8].copy_from_slice(&number.to_be_bytes());
        let mut heads = self.heads.lock().expect("hashing panicked");
        let head = heads
            .entry(size)
            .or_insert_with(|| self.hash(size.saturating_sub(TAIL)));
        let mut hasher = head.clone();
        hasher.update(&tail);
        Blob {
            size,
            digest: hasher.finish(),
            block: self.block.clone(),
            tail: Bytes::copy_from_slice(&tail),
        }
    }

    /// The digest so far of that many repeated bytes.
    pub fn hash(&self, len: u64) -> DigestHasher {
        let mut hasher = DigestHasher::new(Algorithm::Sha256);
        repeated(&self.block, 0..len).for_each(|chunk| hasher.update(&chunk));
        hasher
    }
}

impl Blob {
    /// Its bytes in this range, in pieces of up to 1 MiB, without a copy.
    pub fn chunks(&self, range: Range<u64>) -> impl Iterator<Item = Bytes> + '_ {
        let body = self.size - TAIL;
        let within = range.start.min(body)..range.end.min(body);
        let tail = range.start.max(body) - body..range.end.max(body) - body;
        let tail = self.tail.slice(tail.start as usize..tail.end as usize);
        repeated(&self.block, within).chain((!tail.is_empty()).then_some(tail))
    }

    /// All its bytes.
    pub fn all(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.chunks(0..self.size)
    }

    /// Its bytes in this range as a part.
    pub fn part(&self, range: Range<u64>) -> Part {
        let mut part = Part::default();
        self.chunks(range).for_each(|chunk| part.push(chunk));
        part
    }

    pub fn write_to(&self, target: &mut impl Write) -> io::Result<()> {
        self.all().try_for_each(|chunk| target.write_all(&chunk))
    }
}

/// The bytes in this range of a block that is repeated for ever.
fn repeated(block: &Bytes, range: Range<u64>) -> impl Iterator<Item = Bytes> + use<> {
    let (block, len) = (block.clone(), block.len() as u64);
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let from = at % len;
        let to = len.min(from + range.end - at);
        at += to - from;
        Some(block.slice(from as usize..to as usize))
    })
}

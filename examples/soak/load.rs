//! What the clients push: which blob, into which repository, and how.

use blobgate_testkit::blob::Blob;
use fastrand::Rng;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Blobs that are pushed at about the same time come from a window of so many, so that some are
/// pushed twice, at once, and into several repositories.
const WINDOW: u64 = 24;
/// Pushes after which the window moves on by one.
const PUSHES_PER_BLOB: u64 = 2;

const REPOSITORIES: [&str; 4] = ["alpha", "team/beta", "team/gamma/delta", "omega"];

/// Seeds of blobs whose digest is claimed by a body that is another, so that they must never show.
const NEVER_SENT: u64 = 1 << 40;

/// Bounds of the sizes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Largest of the ordinary blobs, bytes.
    pub largest: u64,
    /// Size of the few huge ones, bytes.
    pub huge: u64,
    /// How many blobs to one huge one.
    pub huge_every: u64,
    /// Bytes after which only small blobs are made, for the disk's sake.
    pub volume: u64,
}

impl Sizes {
    pub const ALL: Sizes = Sizes {
        largest: 64 * MIB,
        huge: 512 * MIB,
        huge_every: 150,
        volume: 24 << 30,
    };
    /// For unoptimised programs: several parts, and no more.
    #[allow(dead_code, reason = "the test's, not the program's")]
    pub const SMALL: Sizes = Sizes {
        largest: 12 * MIB,
        huge: 16 * MIB,
        huge_every: 60,
        volume: 1 << 30,
    };

    fn of(self, number: u64, seed: u64) -> u64 {
        let mut rng = Rng::with_seed(seed ^ number.wrapping_mul(0x9e37_79b9));
        if number % self.huge_every == self.huge_every / 2 {
            return self.huge;
        }
        match rng.u8(0..20) {
            0 => 0,
            // Where single objects become multipart uploads.
            1 => 5 * MIB + rng.u64(0..3) - 1,
            _ => {
                let doublings = (self.largest / KIB).ilog2();
                let largest = KIB << rng.u32(0..=doublings);
                rng.u64(0..=largest)
            }
        }
    }
}

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    Announced,
    Chunked,
    /// Waits for `100 Continue`.
    Expecting,
    /// Sends bit by bit.
    Slow,
    /// Sends another blob's bytes.
    WrongDigest,
    /// Ends before its announced length.
    Truncated,
    /// Resets the connection in the middle.
    Reset,
}

impl Manner {
    /// Whether the blob may be acknowledged.
    pub fn is_right(self) -> bool {
        match self {
            Self::Announced | Self::Chunked | Self::Expecting | Self::Slow => true,
            Self::WrongDigest | Self::Truncated | Self::Reset => false,
        }
    }
}

/// One push.
#[derive(Debug, Clone, Copy)]
pub struct Push {
    pub repository: &'static str,
    pub manner: Manner,
    /// What is sent, wholly or partly.
    pub blob: Blob,
    /// Whose digest is claimed; `blob`'s own but for a wrong one.
    pub claimed: Blob,
    /// Chooses where a body is cut, and the like.
    pub chance: u64,
}

/// The `number`th push of a run. `made` is the volume so far, bytes.
pub fn push(number: u64, seed: u64, sizes: Sizes, made: u64) -> Push {
    let mut rng = Rng::with_seed(seed.wrapping_mul(0x0100_0000_01b3) ^ number);
    let blob_number = number / PUSHES_PER_BLOB + rng.u64(0..WINDOW);
    let mut size = sizes.of(blob_number, seed);
    if made > sizes.volume {
        size %= 64 * KIB;
    }
    let blob = Blob::new(blob_number, size);
    let manner = match rng.u8(0..100) {
        0..48 => Manner::Announced,
        48..68 => Manner::Chunked,
        68..78 => Manner::Expecting,
        78..82 => Manner::Slow,
        82..90 => Manner::WrongDigest,
        90..95 => Manner::Truncated,
        _ => Manner::Reset,
    };
    let claimed = match manner {
        Manner::WrongDigest => Blob::new(NEVER_SENT + number, 1 + size % MIB),
        _ => blob,
    };
    Push {
        repository: REPOSITORIES[rng.usize(0..REPOSITORIES.len())],
        manner,
        blob,
        claimed,
        chance: rng.u64(..),
    }
}

//! A blob on its way from a client into the store: admitted, received, hashed, cut into parts,
//! verified, committed. Knows neither the HTTP server nor S3.

mod abort;
mod admission;
mod body;
mod concurrency;
mod error;
mod gather;
mod hasher;
mod multipart;
mod pipeline;
mod record;
mod sizing;

pub use abort::Aborter;
pub use admission::{Admission, Admitted};
pub use body::{BodyError, BodySource, Pace, PacedBody};
pub use error::UploadError;
pub use gather::Gatherer;
pub use pipeline::{Held, Limits, Uploader};
pub use record::{InPhase, Phase, PushRecord};
pub use sizing::{MAX_PART_SIZE, MAX_PARTS, MIN_PART_SIZE, PartPlan};

#[cfg(test)]
mod tests;

//! A blob into the store by multipart, as blobgate does it but with its digest taken on trust: what
//! `direct` is, and the second half of spool-then-upload.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use blobgate::config::Config;
use blobgate::registry::Digest;
use blobgate::store::s3::S3Store;
use blobgate::store::{BlobStore, Part};
use blobgate::upload::PartPlan;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::Result;

/// The store that blobgate's configuration names, reached with blobgate's own S3 client and cut into
/// parts as blobgate cuts.
pub struct Uploader {
    pub store: Arc<S3Store>,
    part_size: u64,
    max_blob_size: u64,
    concurrency: usize,
}

impl Uploader {
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self {
            store: Arc::new(S3Store::new(&config.bucket, Arc::new(()))?),
            part_size: config.upload.part_size,
            max_blob_size: config.upload.max_blob_size,
            concurrency: config.upload.part_concurrency,
        })
    }

    /// `read` gives the bytes of a range.
    pub async fn upload(
        &self,
        digest: &Digest,
        size: u64,
        read: impl Fn(Range<u64>) -> io::Result<Part>,
    ) -> Result<()> {
        let plan = PartPlan::new(self.part_size, self.max_blob_size, Some(size));
        if !plan.surely_multipart() {
            return Ok(self.store.put_blob(digest, read(0..size)?).await?);
        }
        let upload = Arc::new(self.store.create_upload(digest).await?);
        let starts = (0..size).step_by(usize::try_from(plan.part_size)?);
        let parts = stream::iter(starts.zip(1..)).map(|(start, number)| {
            let part = read(start..size.min(start + plan.part_size));
            let (store, upload) = (Arc::clone(&self.store), Arc::clone(&upload));
            async move {
                let part = part?;
                let sent = tokio::spawn(async move { store.put_part(&upload, number, part).await });
                Ok::<_, crate::Error>(sent.await??)
            }
        });
        let mut receipts: Vec<_> = parts
            .buffer_unordered(self.concurrency)
            .try_collect()
            .await?;
        receipts.sort_unstable_by_key(|receipt| receipt.number);
        self.store.complete_upload(&upload, &receipts, size).await?;
        Ok(())
    }
}

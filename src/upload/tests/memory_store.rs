use crate::registry::{Digest, RepositoryName};
use crate::request_id::RequestId;
use crate::store::{
    BlobStore, Completion, FaultClass, Part, PartReceipt, StoreError, StoreObserver,
    StoreOperation, UploadHandle,
};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<String, Vec<u8>>,
    pub links: Vec<String>,
    pub uploads: BTreeMap<String, BTreeMap<u16, Vec<u8>>>,
    pub opened: usize,
    pub largest_part_count: usize,
    pub calls: Vec<StoreOperation>,
}

/// What the store does at the n-th call (from 1) of an operation.
#[derive(Clone, Copy)]
pub enum Fault {
    Fail(StoreOperation, usize),
    Hang(StoreOperation, usize),
    /// A completion is answered by finding another pusher's object; the upload stays open.
    Found,
}

/// A store in memory that can be told to fail.
#[derive(Default)]
pub struct MemoryStore {
    pub state: Mutex<State>,
    pub fault: Option<Fault>,
    pub hanging: Notify,
}

impl MemoryStore {
    async fn called(&self, operation: StoreOperation) -> Result<(), StoreError> {
        let nth = {
            let mut state = self.state.lock().unwrap();
            state.calls.push(operation);
            state
                .calls
                .iter()
                .filter(|&&call| call == operation)
                .count()
        };
        match self.fault {
            Some(Fault::Fail(op, n)) if op == operation && n == nth => Err(StoreError {
                operation,
                class: FaultClass::Unavailable,
                status: Some(500),
                code: None,
                message: "scripted".into(),
                attempts: 1,
                elapsed: Duration::ZERO,
            }),
            Some(Fault::Hang(op, n)) if op == operation && n == nth => {
                self.hanging.notify_one();
                std::future::pending().await
            }
            _ => Ok(()),
        }
    }
}

fn bytes_of(part: &Part) -> Vec<u8> {
    part.chunks().concat()
}

#[async_trait]
impl BlobStore for MemoryStore {
    fn on_behalf_of(
        self: Arc<Self>,
        _: &RequestId,
        _: Arc<dyn StoreObserver>,
    ) -> Arc<dyn BlobStore> {
        self
    }

    async fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.called(StoreOperation::HeadObject).await?;
        let state = self.state.lock().unwrap();
        Ok(state
            .objects
            .get(digest.hex())
            .map(|data| data.len() as u64))
    }

    async fn put_blob(&self, digest: &Digest, data: Part) -> Result<(), StoreError> {
        self.called(StoreOperation::PutObject).await?;
        let mut state = self.state.lock().unwrap();
        state.objects.insert(digest.hex().into(), bytes_of(&data));
        Ok(())
    }

    async fn create_upload(&self, digest: &Digest) -> Result<UploadHandle, StoreError> {
        self.called(StoreOperation::CreateMultipartUpload).await?;
        let mut state = self.state.lock().unwrap();
        state.opened += 1;
        let upload_id = state.opened.to_string();
        state.uploads.insert(upload_id.clone(), BTreeMap::new());
        Ok(UploadHandle {
            key: digest.hex().into(),
            upload_id,
        })
    }

    async fn put_part(
        &self,
        upload: &UploadHandle,
        number: u16,
        data: Part,
    ) -> Result<PartReceipt, StoreError> {
        self.called(StoreOperation::UploadPart).await?;
        tokio::task::yield_now().await;
        let mut state = self.state.lock().unwrap();
        let parts = state
            .uploads
            .get_mut(&upload.upload_id)
            .expect("an open upload");
        parts.insert(number, bytes_of(&data));
        Ok(PartReceipt {
            number,
            e_tag: number.to_string(),
        })
    }

    async fn complete_upload(
        &self,
        upload: &UploadHandle,
        parts: &[PartReceipt],
        size: u64,
    ) -> Result<Completion, StoreError> {
        self.called(StoreOperation::CompleteMultipartUpload).await?;
        let mut state = self.state.lock().unwrap();
        if let Some(Fault::Found) = self.fault {
            return Ok(Completion::Found);
        }
        let stored = state
            .uploads
            .remove(&upload.upload_id)
            .expect("an open upload");
        let numbers: Vec<u16> = parts.iter().map(|part| part.number).collect();
        assert_eq!(numbers, stored.keys().copied().collect::<Vec<_>>());
        let longest = stored.values().next().map_or(0, Vec::len);
        let (_, all_but_last) = stored
            .values()
            .collect::<Vec<_>>()
            .split_last()
            .map_or((Vec::new(), Vec::new()), |(last, rest)| {
                (last.to_vec(), rest.to_vec())
            });
        assert!(all_but_last.iter().all(|part| part.len() == longest));
        let data: Vec<u8> = stored.into_values().flatten().collect();
        assert_eq!(data.len() as u64, size);
        state.largest_part_count = state.largest_part_count.max(numbers.len());
        state.objects.insert(upload.key.clone(), data);
        Ok(Completion::Confirmed)
    }

    async fn abort_upload(&self, upload: &UploadHandle) -> Result<(), StoreError> {
        self.called(StoreOperation::AbortMultipartUpload).await?;
        self.state.lock().unwrap().uploads.remove(&upload.upload_id);
        Ok(())
    }

    async fn link(&self, name: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        self.called(StoreOperation::PutObject).await?;
        let link = format!("{name}@{digest}");
        self.state.lock().unwrap().links.push(link);
        Ok(())
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

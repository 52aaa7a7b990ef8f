//! The object that the doctor tries the bucket with, and what it leaves behind.

use super::report::{Finding, Verdict};
use crate::registry::{Algorithm, Digest, DigestHasher, RepositoryName};
use crate::store::s3::{Removal, S3Store};
use crate::store::{
    BlobStore, FaultClass, Layout, Part, StoreError, UploadHandle, UploadLister, UploadMarker,
    UploadPage,
};
use bytes::Bytes;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What may stay for good: the same bytes at the same key each time, so that it stays once.
const LASTING: &str = "blobgate doctor: a test object, harmless, and free to be deleted\n";

/// Whether what was written can be taken away again. blobgate itself never needs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deleting {
    Allowed,
    /// For this reason.
    Refused(String),
    /// The bucket keeps every version: nothing is ever taken away.
    Versioned,
}

/// A blob of the doctor's own. Its content is right for its digest by construction, so that nothing
/// false can be seen at its key at any time, and nobody else has it, so that it may be deleted.
#[derive(Debug, Clone)]
pub struct Specimen {
    pub content: Bytes,
    pub digest: Digest,
    pub deleting: Deleting,
}

impl Specimen {
    /// Looks whether objects can be deleted, by deleting the one that lasts: where it is needed it
    /// will be written again.
    pub async fn prepare(store: &S3Store, layout: &Layout, limit: Duration) -> Self {
        let lasting = Self::of(LASTING.to_owned(), Deleting::Versioned);
        let key = layout.data_key(&lasting.digest);
        match store.delete_object(&key, limit).await {
            Ok(Removal::Gone) => Self::of(
                // Of its own for each run: several at once must not delete each other's.
                format!(
                    "blobgate doctor: a test object of one run, {:032x}, harmless, and free to be \
                     deleted\n",
                    fastrand::u128(..)
                ),
                Deleting::Allowed,
            ),
            Ok(Removal::Hidden) => lasting,
            Err(fault) => Self {
                deleting: Deleting::Refused(match fault.class {
                    FaultClass::Denied => "s3:DeleteObject is not allowed".to_owned(),
                    _ => fault.message,
                }),
                ..lasting
            },
        }
    }

    fn of(content: String, deleting: Deleting) -> Self {
        let mut hasher = DigestHasher::new(Algorithm::Sha256);
        hasher.update(content.as_bytes());
        Self {
            content: content.into(),
            digest: hasher.finish(),
            deleting,
        }
    }

    pub fn part(&self) -> Part {
        Part::from(self.content.clone())
    }

    pub fn size(&self) -> u64 {
        self.content.len() as u64
    }

    /// The open uploads at this blob's key, found as the sweep finds them: by the blob prefix.
    pub async fn open_uploads(
        &self,
        store: &S3Store,
        layout: &Layout,
    ) -> Result<Vec<UploadHandle>, StoreError> {
        let key = layout.data_key(&self.digest);
        let mut page = store.list_uploads(None).await?;
        let ours = |page: UploadPage| -> Vec<UploadHandle> {
            let handles = page.uploads.into_iter().map(|upload| upload.handle);
            handles.filter(|handle| handle.key == key).collect()
        };
        if page.next.is_some() && !page.uploads.iter().any(|upload| upload.handle.key == key) {
            // Many uploads are open: go on from just before our own key.
            let mut before = key.clone();
            before.pop();
            let marker = UploadMarker {
                key: before,
                upload_id: None,
            };
            page = store.list_uploads(Some(&marker)).await?;
        }
        Ok(ours(page))
    }
}

/// What has been begun or written and not yet been taken away; known also when the examination is
/// broken off.
#[derive(Debug, Default)]
pub struct Traces(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    uploads: Vec<UploadHandle>,
    objects: Vec<String>,
    /// A creation was sent whose answer may have been lost.
    begun: bool,
    /// The upload session that was opened at the registry and cancelled.
    session: Option<(RepositoryName, String)>,
}

impl Traces {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin(&self) {
        self.open().begun = true;
    }

    pub fn upload(&self, upload: &UploadHandle) {
        self.open().uploads.push(upload.clone());
    }

    pub fn upload_gone(&self, upload: &UploadHandle) {
        self.open().uploads.retain(|open| open != upload);
    }

    /// A session that was cancelled, of which the registry may leave something.
    pub fn session(&self, name: &RepositoryName, id: String) {
        self.open().session = Some((name.clone(), id));
    }

    /// Writes an object. It counts as written from the beginning, as the answer may be lost, and no
    /// more once the store has refused.
    pub async fn write<T>(
        &self,
        key: &str,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let known = self.open().objects.iter().any(|known| known == key);
        if !known {
            self.open().objects.push(key.to_owned());
        }
        let result = write.await;
        let refused = matches!(
            result.as_ref().map_err(|error| error.class),
            Err(FaultClass::Denied | FaultClass::NotFound | FaultClass::Rejected)
        );
        if refused && !known {
            self.open().objects.retain(|known| known != key);
        }
        result
    }

    /// Takes everything away that may be. Never fails the examination by itself: what could not be
    /// taken away is said.
    pub async fn remove(
        &self,
        store: &S3Store,
        layout: &Layout,
        specimen: &Specimen,
        limit: Duration,
    ) -> Verdict {
        let (mut uploads, mut objects, begun, session) = {
            let open = self.open();
            let Open {
                uploads,
                objects,
                begun,
                session,
            } = &*open;
            (uploads.clone(), objects.clone(), *begun, session.clone())
        };
        if let Some(remains) = session.and_then(|(name, id)| layout.session_remains_key(&name, &id))
            && store.has_object(&remains, limit).await
        {
            objects.push(remains);
        }
        // The lasting object's key is everyone's: an upload there may be another run's.
        if begun && specimen.deleting == Deleting::Allowed {
            let found = specimen.open_uploads(store, layout).await;
            for upload in found.unwrap_or_default() {
                if !uploads.contains(&upload) {
                    uploads.push(upload);
                }
            }
        }
        let mut stuck = Vec::new();
        for upload in &uploads {
            if let Err(error) = store.abort_upload(upload).await {
                stuck.push(format!(
                    "the open upload {} at {} ({})",
                    upload.upload_id, upload.key, error.message
                ));
            }
        }
        let mut stays = Vec::new();
        for key in objects {
            if specimen.deleting != Deleting::Allowed {
                stays.push(key);
            } else if let Err(fault) = store.delete_object(&key, limit).await {
                stuck.push(format!("{key} ({})", fault.message));
            }
        }
        verdict(&stuck, &stays, &specimen.deleting)
    }
}

fn verdict(stuck: &[String], stays: &[String], deleting: &Deleting) -> Verdict {
    if !stuck.is_empty() {
        return Verdict::Warn(
            Finding::new(
                format!("could not be removed: {}", stuck.join(", ")),
                "abort the upload or delete the object by hand; both are harmless, and unseen by \
                 clients",
            ),
            (),
        );
    }
    if stays.is_empty() {
        return Verdict::Pass("everything written was removed".to_owned(), ());
    }
    let why = match deleting {
        Deleting::Allowed => "",
        Deleting::Refused(reason) => reason,
        Deleting::Versioned => "the bucket keeps every version",
    };
    let found = format!(
        "stays, as {why} (blobgate needs no deletion; it is harmless, and may be deleted by hand): \
         {}",
        stays.join(", ")
    );
    Verdict::Pass(found, ())
}

//! Every call blobgate makes of the bucket, made once, on an object of the doctor's own.

use super::report::{Check, Finding, Outcome, Report, Verdict};
use super::specimen::{Specimen, Traces};
use super::store::{allow, remedy};
use crate::config;
use crate::registry::{Algorithm, Digest, DigestHasher, RepositoryName};
use crate::store::s3::S3Store;
use crate::store::{
    BlobStore, FaultClass, LastPart, Layout, Part, PartReceipt, StoreError, UploadHandle,
    UploadLister,
};

/// The bucket under examination.
pub struct Trial<'a> {
    pub store: &'a S3Store,
    pub config: &'a config::Bucket,
    pub sweep: &'a config::Sweep,
    pub layout: &'a Layout,
    pub specimen: &'a Specimen,
    pub traces: &'a Traces,
}

/// An upload that was begun and may still be completed.
struct Begun {
    upload: UploadHandle,
    part: Option<PartReceipt>,
}

impl Trial<'_> {
    /// Under the blob prefix, in the order of a push. An upload whose abort is refused is completed
    /// instead, so that nothing stays open.
    pub async fn blobs(&self, report: &mut Report) {
        let missing = self.missing();
        report.make(Check::BlobsMissing, missing).await;
        if let Some(first) = self.begin(report).await {
            report
                .make(Check::BlobsList, self.list(&first.upload))
                .await;
            if first.part.is_some() {
                report
                    .make(Check::BlobsListParts, self.list_parts(&first.upload))
                    .await;
            }
            let aborted = report
                .make(Check::BlobsAbort, self.abort(&first.upload))
                .await;
            let second = match aborted {
                Some(()) => self.begin_again(report).await,
                None => Some(first),
            };
            if let Some(begun) = second {
                self.complete(report, begun).await;
            }
        }
        let put = report.make(Check::BlobsPut, self.put_blob()).await;
        if put.is_some() {
            report.make(Check::BlobsHead, self.head()).await;
        }
    }

    /// S3 answers 403 instead of 404 to whoever may not list; blobgate takes that for a no, and
    /// refuses every push of a new blob.
    async fn missing(&self) -> Verdict {
        let mut hasher = DigestHasher::new(Algorithm::Sha256);
        hasher.update(&fastrand::u128(..).to_le_bytes());
        match self.store.blob_size(&hasher.finish()).await {
            Ok(None) => Verdict::Pass("an object that is not there is answered 404".to_owned(), ()),
            Ok(Some(_)) => Verdict::Fail(Finding::new(
                "the store claims to have an object that cannot be there",
                "see bucket.endpoint: is it an S3 store?",
            )),
            Err(error) => {
                let resource = format!(
                    "arn:aws:s3:::{} (without it S3 answers 403 for objects that are not there)",
                    self.config.name
                );
                self.fail(&error, "s3:ListBucket and s3:GetObject", &resource)
            }
        }
    }

    async fn begin(&self, report: &mut Report) -> Option<Begun> {
        self.traces.begin();
        let created = self.store.create_upload(&self.specimen.digest).await;
        let verdict = match created {
            Ok(upload) => {
                self.traces.upload(&upload);
                let found = format!("CreateMultipartUpload under {}", self.blobs_prefix());
                Verdict::Pass(found, upload)
            }
            Err(error) => self.fail_write(&error),
        };
        let upload = report.tell(Check::BlobsCreate, verdict)?;
        let part = report.make(Check::BlobsPart, self.part(&upload)).await;
        Some(Begun { upload, part })
    }

    /// For the completion. The calls are known to be allowed: a fault now is the completion's.
    async fn begin_again(&self, report: &mut Report) -> Option<Begun> {
        if report.outcome(Check::BlobsPart) == Some(Outcome::Fail) {
            return None;
        }
        let begun = async {
            let upload = self.store.create_upload(&self.specimen.digest).await?;
            self.traces.upload(&upload);
            let part = self.store.put_part(&upload, 1, self.specimen.part());
            let part = Some(part.await?);
            Ok(Begun { upload, part })
        };
        match begun.await {
            Ok(begun) => Some(begun),
            Err(error) => report.tell(Check::BlobsComplete, self.fail_write(&error)),
        }
    }

    async fn part(&self, upload: &UploadHandle) -> Verdict<PartReceipt> {
        match self.store.put_part(upload, 1, self.specimen.part()).await {
            Ok(part) => {
                let found = "UploadPart (a small one: parts of upload.part_size are not tried)";
                Verdict::Pass(found.to_owned(), part)
            }
            Err(error) => self.fail_write(&error),
        }
    }

    async fn list(&self, upload: &UploadHandle) -> Verdict {
        let prefix = self.blobs_prefix();
        match self.specimen.open_uploads(self.store, self.layout).await {
            Ok(open) if open.contains(upload) => {
                let found = format!("ListMultipartUploads finds an open upload by {prefix}");
                Verdict::Pass(found, ())
            }
            Ok(_) if !self.sweep.enabled => Verdict::Pass(
                format!(
                    "the store does not list uploads by {prefix}; not needed, as sweep.enabled is \
                     false"
                ),
                (),
            ),
            Ok(_) => Verdict::Warn(
                Finding::new(
                    format!(
                        "the store does not list uploads by {prefix}, as MinIO does not: the sweep \
                         will find none to abort"
                    ),
                    "let a lifecycle rule or the store's own expiry abort stale uploads, and set \
                     sweep.enabled: false",
                ),
                (),
            ),
            Err(error) if error.class == FaultClass::Denied && !self.sweep.enabled => {
                let found = "ListMultipartUploads is not allowed; not needed, as sweep.enabled is \
                             false";
                Verdict::Pass(found.to_owned(), ())
            }
            Err(error) => {
                let bucket = format!("arn:aws:s3:::{}", self.config.name);
                let mut remedy = remedy(&error, "s3:ListBucketMultipartUploads", &bucket);
                if error.class == FaultClass::Denied {
                    remedy.push_str(
                        ", or leave stale uploads to a lifecycle rule and set \
                                     sweep.enabled: false",
                    );
                }
                Verdict::Fail(Finding::new(error.message, remedy))
            }
        }
    }

    async fn list_parts(&self, upload: &UploadHandle) -> Verdict {
        let not_needed = |found: &str| {
            let found = format!("{found}; not needed, as sweep.enabled is false");
            Verdict::Pass(found, ())
        };
        match self.store.last_part(upload).await {
            Ok(LastPart::At(_)) => {
                Verdict::Pass("ListParts tells when a part was uploaded".to_owned(), ())
            }
            Ok(_) if !self.sweep.enabled => not_needed("ListParts does not tell a part's date"),
            Ok(_) => Verdict::Warn(
                Finding::new(
                    "ListParts does not tell when a part was uploaded: the sweep will take such \
                     uploads for live ones, and abort none",
                    "let a lifecycle rule or the store's own expiry abort stale uploads, and set \
                     sweep.enabled: false",
                ),
                (),
            ),
            Err(error) if error.class == FaultClass::Denied && !self.sweep.enabled => {
                not_needed("ListParts is not allowed")
            }
            Err(error) => self.fail(
                &error,
                "s3:ListMultipartUploadParts",
                &self.blobs_resource(),
            ),
        }
    }

    async fn abort(&self, upload: &UploadHandle) -> Verdict {
        match self.store.abort_upload(upload).await {
            Ok(()) => {
                self.traces.upload_gone(upload);
                Verdict::Pass("AbortMultipartUpload".to_owned(), ())
            }
            Err(error) => self.fail(&error, "s3:AbortMultipartUpload", &self.blobs_resource()),
        }
    }

    async fn complete(&self, report: &mut Report, begun: Begun) {
        let Begun {
            upload,
            part: Some(part),
        } = begun
        else {
            return;
        };
        let completion = async {
            let parts = [part];
            let complete = self
                .store
                .complete_upload(&upload, &parts, self.specimen.size());
            match self.traces.write(&upload.key, complete).await {
                Ok(_) => {
                    self.traces.upload_gone(&upload);
                    Verdict::Pass("CompleteMultipartUpload".to_owned(), ())
                }
                Err(error) => self.fail_write(&error),
            }
        };
        report.make(Check::BlobsComplete, completion).await;
    }

    async fn put_blob(&self) -> Verdict {
        let key = self.layout.data_key(&self.specimen.digest);
        let put = self
            .store
            .put_blob(&self.specimen.digest, self.specimen.part());
        match self.traces.write(&key, put).await {
            Ok(()) => Verdict::Pass(format!("PutObject under {}", self.blobs_prefix()), ()),
            Err(error) => self.fail_write(&error),
        }
    }

    async fn head(&self) -> Verdict {
        match self.store.blob_size(&self.specimen.digest).await {
            Ok(Some(size)) if size == self.specimen.size() => {
                Verdict::Pass("HeadObject, with the right size".to_owned(), ())
            }
            Ok(found) => Verdict::Fail(Finding::new(
                match found {
                    Some(size) => format!(
                        "the object written just now has {size} bytes instead of {}",
                        self.specimen.size()
                    ),
                    None => "the object written just now is not there".to_owned(),
                },
                "blobgate needs a store that shows a write at once: see bucket.endpoint for a cache \
                 or replica in between",
            )),
            Err(error) => self.fail(&error, "s3:GetObject", &self.blobs_resource()),
        }
    }

    /// Under the repositories' prefix, at a key that no registry looks at.
    pub async fn link(&self) -> Verdict {
        let Some(key) = self.layout.trial_link_key() else {
            let found = "the flat layout has no links; nothing is written there".to_owned();
            return Verdict::Pass(found, ());
        };
        let prefix = self.layout.repository_prefix();
        let content = Part::from(self.specimen.content.clone());
        let put = self.store.put_object(&key, content);
        match self.traces.write(&key, put).await {
            Ok(()) => Verdict::Pass(format!("PutObject under {prefix}"), ()),
            Err(error) => {
                let resource = format!("arn:aws:s3:::{}/{prefix}*", self.config.name);
                self.fail(&error, &self.put_action(), &resource)
            }
        }
    }

    /// The canary's link: see the `canary` module.
    pub async fn write_link(
        &self,
        key: &str,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        self.traces.write(key, self.store.link(name, digest)).await
    }

    fn blobs_prefix(&self) -> String {
        self.layout.blob_prefix()
    }

    fn blobs_resource(&self) -> String {
        format!("arn:aws:s3:::{}/{}*", self.config.name, self.blobs_prefix())
    }

    /// What writing needs to be allowed.
    fn put_action(&self) -> String {
        let mut action = "s3:PutObject".to_owned();
        if self.config.acl.is_some() {
            action.push_str(", s3:PutObjectAcl");
        }
        if self.config.kms_key_id.is_some() {
            action.push_str(", kms:GenerateDataKey and kms:Decrypt");
        }
        action
    }

    fn fail_write<T>(&self, error: &StoreError) -> Verdict<T> {
        self.fail(error, &self.put_action(), &self.blobs_resource())
    }

    fn fail<T>(&self, error: &StoreError, action: &str, resource: &str) -> Verdict<T> {
        let found = format!("{}: {}", error.operation, error.message);
        let remedy = match error.class {
            FaultClass::Denied => allow(action, resource),
            _ => remedy(error, action, resource),
        };
        Verdict::Fail(Finding::new(found, remedy))
    }
}

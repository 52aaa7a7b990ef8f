//! Completing an upload, and finding out what became of it when the store doesn't say.
//!
//! An answer can be lost while the completion takes effect, now or some time later, and S3 can
//! answer 200 before it knows. Success is only ever reported on the store's word: an ETag in the
//! answer, or the object at its key with the right size. The object may then be another pusher's:
//! at a content address that is the same object.
//!
//! | Answer | What is done |
//! |---|---|
//! | 200 with an ETag | success |
//! | timeout, broken connection, 5xx, or a 200 that says neither | HEAD: there is success, else completed anew |
//! | `NoSuchUpload` | HEAD: there is success. Else final, unless an earlier attempt may still be at work: then tried on |
//! | throttled | completed anew; HEAD only when no attempt is left |
//! | any other error | final; HEAD first where an earlier attempt may have taken effect |

use super::S3Store;
use super::answers;
use super::call::give_up;
use super::fault::{self, Fault};
use super::judge_head;
use super::transport::Answer;
use crate::store::retry::{RetryPolicy, Schedule};
use crate::store::{Completion, FaultClass, PartReceipt, StoreError, StoreOperation, UploadHandle};
use rusoto_s3::{CompleteMultipartUploadRequest, CompletedMultipartUpload, CompletedPart, S3};
use std::time::Duration;

/// What the question for the object may take even where the completion's own budget is used up:
/// not asking would turn pushes that succeeded into failures.
const SETTLE_GRACE: Duration = Duration::from_secs(10);

impl S3Store {
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
    pub(super) async fn complete(
        &self,
        upload: &UploadHandle,
        parts: &[PartReceipt],
        size: u64,
    ) -> Result<Completion, StoreError> {
        let mut schedule = Schedule::start(self.policy, StoreOperation::CompleteMultipartUpload);
        // True once an attempt may have taken effect, or still may.
        let mut in_doubt = false;
        loop {
            let limit = schedule.begin_attempt();
            let Err(mut fault) = self.complete_once(upload, parts, limit).await else {
                return Ok(Completion::Confirmed);
            };
            let gone = fault.class == FaultClass::NotFound && !fault.has_code("NoSuchBucket");
            let wait = if gone && in_doubt {
                // An earlier attempt has the upload in hand: give it time, as after its own fault.
                schedule.wait_after(FaultClass::Timeout, None)
            } else {
                schedule.wait_after(fault.class, fault.retry_after)
            };
            let unsettled = match fault.class {
                FaultClass::Timeout | FaultClass::Connection | FaultClass::Unavailable => true,
                FaultClass::NotFound => gone,
                FaultClass::Throttled => wait.is_none(),
                FaultClass::Denied | FaultClass::Rejected => in_doubt,
            };
            in_doubt |= matches!(
                fault.class,
                FaultClass::Timeout
                    | FaultClass::Connection
                    | FaultClass::Unavailable
                    | FaultClass::Throttled
            );
            if unsettled {
                if self.is_there(&upload.key, size, &schedule).await {
                    log::info!(
                        "the blob is at {} although its completion was answered: {}",
                        upload.key,
                        fault.message
                    );
                    // The object may be another pusher's, and our upload still open.
                    return Ok(if gone {
                        Completion::Confirmed
                    } else {
                        Completion::Found
                    });
                }
                fault.message.push_str("; the blob is not at its key");
            }
            match wait {
                Some(wait) => self.wait(&schedule, &upload.key, &fault, wait).await,
                None => return Err(give_up(&schedule, fault)),
            }
        }
    }

    async fn complete_once(
        &self,
        upload: &UploadHandle,
        parts: &[PartReceipt],
        limit: Duration,
    ) -> Result<(), Fault> {
        let parts = parts.iter().map(|part| CompletedPart {
            e_tag: Some(part.e_tag.clone()),
            part_number: Some(i64::from(part.number)),
        });
        let request = CompleteMultipartUploadRequest {
            bucket: self.bucket.clone(),
            key: upload.key.clone(),
            upload_id: upload.upload_id.clone(),
            multipart_upload: Some(CompletedMultipartUpload {
                parts: Some(parts.collect()),
            }),
            ..Default::default()
        };
        self.attempt(
            StoreOperation::CompleteMultipartUpload,
            limit,
            |s3| async move { s3.complete_multipart_upload(request).await },
            judge_complete,
        )
        .await
    }

    /// Whether the object is there with this size. Not knowing counts as no.
    async fn is_there(&self, key: &str, size: u64, complete: &Schedule) -> bool {
        let policy = RetryPolicy {
            budget: complete.remaining().max(SETTLE_GRACE),
            ..self.policy
        };
        let schedule = Schedule::start(policy, StoreOperation::HeadObject);
        let found = self
            .run(
                schedule,
                key,
                |s3| {
                    let request = self.head_request(key);
                    async move { s3.head_object(request).await }
                },
                judge_head,
            )
            .await;
        match found {
            Ok(Some(found)) if found == size => true,
            Ok(Some(found)) => {
                log::warn!("the object at {key} has {found} bytes, not the blob's {size}");
                false
            }
            Ok(None) => false,
            Err(error) => {
                log::warn!("cannot tell whether the completion of {key} took effect: {error}");
                false
            }
        }
    }
}

fn judge_complete(result: Result<Answer, Fault>) -> Result<(), Fault> {
    fault::proven(result, |answer| {
        answers::confirms_completion(&answer.body).then_some(())
    })
}

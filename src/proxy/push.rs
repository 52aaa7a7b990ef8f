use super::access::{AccessLog, Became};
use super::body::{PushBody, SessionBody};
use super::doubt::Doubt;
use super::expect::Continue;
use super::forward::Forwarding;
use super::reply::Reply;
use super::respond::{BodyLeft, answer, read_rest};
use crate::metrics::{Metrics, PushOutcome};
use crate::registry::BlobPush;
use crate::request_id::RequestId;
use crate::store::BlobStore;
use crate::upload::{
    BodyError, Held, Pace, PacedBody, PartPlan, Phase, PushRecord, UploadError, Uploader,
};
use crate::upstream::{Permission, Presence, Upstream};
use http::header;
use pingora::proxy::Session;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Handles blob pushes, step by step as `docs/SEMANTICS.md` has them.
pub struct Pushes {
    pub store: Arc<dyn BlobStore>,
    pub uploader: Uploader,
    pub upstream: Upstream,
    pub forwarding: Arc<Forwarding>,
    pub metrics: Arc<Metrics>,
    pub access: AccessLog,
    pub pace: Pace,
    /// How long upstream and bucket may take to say what is there.
    pub question_timeout: Duration,
    /// Cancelled when uploads in flight must end.
    pub stop: CancellationToken,
    /// Cancelled once the process is to end.
    pub draining: CancellationToken,
    /// Counts the pushes from header to answer, or to what is dropped after it.
    pub under_way: TaskTracker,
}

/// What is known of the blob before its first byte.
enum Standing {
    /// In this repository, data and link.
    InRepository,
    /// In the bucket, not in this repository.
    InBucket,
    New(Held),
    Refused(Reply),
}

/// What the handling of one push works with.
struct Work<'a> {
    id: &'a RequestId,
    record: Arc<PushRecord>,
    /// On behalf of the push.
    store: Arc<dyn BlobStore>,
    /// Into that store.
    uploader: Uploader,
}

/// How a push ended, and what of its body is still to come.
struct Ending {
    outcome: PushOutcome,
    /// The blob's, in bytes, where the push succeeded.
    size: Option<u64>,
    /// `None` where nobody is left to hear an answer.
    reply: Option<Reply>,
    left: BodyLeft,
}

impl Pushes {
    /// Takes the push to its answer.
    pub async fn handle(
        &self,
        session: &mut Session,
        push: &BlobPush,
        id: &RequestId,
    ) -> pingora::Result<()> {
        let record = Arc::new(PushRecord::new(Arc::clone(&self.metrics)));
        let _counted = self.under_way.token();
        // Every read of the body has a bound of its own.
        session.set_read_timeout(None);
        let store = Arc::clone(&self.store).on_behalf_of(id, Arc::clone(&record) as _);
        let work = Work {
            id,
            record: Arc::clone(&record),
            uploader: self.uploader.through(Arc::clone(&store)),
            store,
        };
        let ending = self.run(session, push, &work).await;
        // Before the answer: whoever has read it finds it counted, and what is dropped after it
        // is no part of the push.
        let took = record.answered();
        self.metrics.push(ending.outcome, took, ending.size);
        self.metrics.phases(&record);
        if self.draining.is_cancelled() {
            // Said rather than done, so that the client's next request goes elsewhere at once.
            session.set_keepalive(None);
        }
        let answered = match ending.reply {
            Some(reply) => answer(session, reply, ending.left).await.map(|()| true),
            None => {
                session.set_keepalive(None);
                Ok(false)
            }
        };
        // Before the rest of the body, which may take minutes to come.
        let became = Became::Push(ending.outcome, Some((&push.digest, &record)));
        self.access.write(session, id, took, &became);
        if answered? {
            read_rest(session, ending.left, &self.draining).await;
        }
        Ok(())
    }

    /// Answers a push that names no possible repository or blob.
    pub async fn refuse(
        &self,
        session: &mut Session,
        reply: Reply,
        id: &RequestId,
    ) -> pingora::Result<()> {
        self.metrics
            .push(PushOutcome::BadRequest, Duration::ZERO, None);
        let left = unread(session, Continue::of(session));
        let answered = answer(session, reply, left).await;
        let became = Became::Push(PushOutcome::BadRequest, None);
        self.access.write(session, id, Duration::ZERO, &became);
        answered?;
        read_rest(session, left, &self.draining).await;
        Ok(())
    }

    async fn run(&self, session: &mut Session, push: &BlobPush, work: &Work<'_>) -> Ending {
        let mut expects = Continue::of(session);
        let plan = match self.plan(session) {
            Ok(plan) => plan,
            Err(error) => {
                return Ending {
                    outcome: PushOutcome::of_failure(&error),
                    size: None,
                    reply: Reply::failed(&error),
                    left: unread(session, expects),
                };
            }
        };
        let authorising = work.record.enter(Phase::Authorise);
        let standing = tokio::select! {
            standing = self.standing(session, push, &plan, &work.store) => standing,
            () = self.stop.cancelled() => Err(Doubt::Stopping(UploadError::ShuttingDown)),
        };
        drop(authorising);
        let (outcome, result) = match standing {
            Err(doubt) => {
                let outcome = match &doubt {
                    Doubt::Stopping(_) => PushOutcome::ShuttingDown,
                    Doubt::Upstream(_) | Doubt::Store(_) | Doubt::StoreTimeout(_) => {
                        log::error!(
                            "request {}: push of {} to {} refused: {doubt}",
                            work.id,
                            push.digest,
                            push.name
                        );
                        PushOutcome::Unauthorisable
                    }
                };
                return Ending {
                    outcome,
                    size: None,
                    reply: Some(doubt.reply()),
                    left: unread(session, expects),
                };
            }
            Ok(Standing::Refused(reply)) => {
                return Ending {
                    outcome: PushOutcome::Refused,
                    size: None,
                    reply: Some(reply),
                    left: unread(session, expects),
                };
            }
            Ok(Standing::InRepository) if expects == Continue::Awaited => {
                return Ending {
                    outcome: PushOutcome::Existing,
                    size: plan.length,
                    reply: Some(Reply::created(push)),
                    left: BodyLeft::Withheld,
                };
            }
            Ok(Standing::InRepository) => (
                PushOutcome::Existing,
                self.confirm(session, push, plan, work).await,
            ),
            Ok(Standing::InBucket) => (
                PushOutcome::Linked,
                self.prove(session, &mut expects, push, plan, work).await,
            ),
            Ok(Standing::New(held)) => (
                PushOutcome::Stored,
                self.store(session, &mut expects, push, plan, held, work)
                    .await,
            ),
        };
        match result {
            Ok(size) => Ending {
                outcome,
                size: Some(size),
                reply: Some(Reply::created(push)),
                left: BodyLeft::Nothing,
            },
            Err(error) => {
                log_failure(work.id, push, &error);
                Ending {
                    outcome: PushOutcome::of_failure(&error),
                    size: None,
                    reply: Reply::failed(&error),
                    left: match &error {
                        UploadError::Body(BodyError::Idle(_) | BodyError::TooSlow { .. }) => {
                            BodyLeft::Slow
                        }
                        UploadError::Body(_) => BodyLeft::Broken,
                        _ => unread(session, expects),
                    },
                }
            }
        }
    }

    /// What the header alone can be judged by.
    fn plan(&self, session: &Session) -> Result<PartPlan, UploadError> {
        let headers = &session.req_header().headers;
        if headers.contains_key(header::CONTENT_RANGE) {
            return Err(UploadError::Request(
                "a blob is pushed whole, so Content-Range has no meaning here",
            ));
        }
        let length = headers
            .get(header::CONTENT_LENGTH)
            .map(|length| length.to_str().ok().and_then(|text| text.parse().ok()))
            .map(|length| {
                length.ok_or(UploadError::Request("Content-Length is no number of bytes"))
            })
            .transpose()?;
        self.uploader.plan(length)
    }

    /// Asks upstream and bucket, at the same time, what is to be done with this push.
    async fn standing(
        &self,
        session: &Session,
        push: &BlobPush,
        plan: &PartPlan,
        store: &Arc<dyn BlobStore>,
    ) -> Result<Standing, Doubt> {
        let headers = self.forwarding.marked_headers(session);
        let in_bucket = async {
            tokio::time::timeout(self.question_timeout, store.blob_size(&push.digest))
                .await
                .map_err(|_| Doubt::StoreTimeout(self.question_timeout))?
                .map_err(Doubt::Store)
        };
        let permission = self.upstream.may_push(&push.name, &headers);
        let presence = async {
            tokio::join!(
                self.upstream.has_blob(&push.name, &push.digest, &headers),
                in_bucket,
            )
        };
        tokio::pin!(permission, presence);
        // A no is passed on at once, however long the bucket takes to answer.
        let (permission, early) = tokio::select! {
            biased;
            permission = &mut permission => (permission, None),
            presence = &mut presence => (permission.await, Some(presence)),
        };
        self.metrics.probe(&permission);
        match permission? {
            Permission::Granted => {}
            Permission::Refused(refusal) => return Ok(Standing::Refused(Reply::refused(refusal))),
        }
        let (in_repository, in_bucket) = match early {
            Some(presence) => presence,
            None => presence.await,
        };
        let in_repository = match in_repository? {
            Presence::Present => true,
            Presence::Absent => false,
            Presence::Refused(refusal) => return Ok(Standing::Refused(Reply::refused(refusal))),
        };
        // Data of another length than the body announces is not taken for the blob: if the body
        // proves right the data was broken, and is replaced.
        let in_bucket = in_bucket?;
        let usable =
            in_bucket.is_some_and(|size| plan.length.is_none_or(|announced| announced == size));
        let held = in_bucket.map_or(Held::Nothing, |_| Held::OtherData);
        Ok(match (usable, in_repository) {
            (true, true) => Standing::InRepository,
            (true, false) => Standing::InBucket,
            // The registry may remember a blob whose data a garbage collection took
            // (distribution#4269).
            (false, _) => Standing::New(held),
        })
    }

    async fn store(
        &self,
        session: &mut Session,
        expects: &mut Continue,
        push: &BlobPush,
        plan: PartPlan,
        held: Held,
        work: &Work<'_>,
    ) -> Result<u64, UploadError> {
        let upload = async {
            let waiting = work.record.enter(Phase::Admission);
            let admitted = work.uploader.admit(&plan).await?;
            drop(waiting);
            expects.send(session).await?;
            let body = self.body(session, &plan, &work.record);
            work.uploader
                .store(push, plan, admitted, held, body, &work.record)
                .await
        };
        self.unless_stopped(upload).await
    }

    async fn prove(
        &self,
        session: &mut Session,
        expects: &mut Continue,
        push: &BlobPush,
        plan: PartPlan,
        work: &Work<'_>,
    ) -> Result<u64, UploadError> {
        let proof = async {
            expects.send(session).await?;
            let body = self.body(session, &plan, &work.record);
            work.uploader
                .prove_and_link(push, plan, body, &work.record)
                .await
        };
        self.unless_stopped(proof).await
    }

    /// Reads the body of a blob that is there already. One whose length was announced, and is the
    /// data's, need not be looked at; of any other it is not known whether it is this blob.
    async fn confirm(
        &self,
        session: &mut Session,
        push: &BlobPush,
        plan: PartPlan,
        work: &Work<'_>,
    ) -> Result<u64, UploadError> {
        let body = self.body(session, &plan, &work.record);
        match plan.length {
            Some(_) => self.unless_stopped(work.uploader.discard(plan, body)).await,
            None => {
                self.unless_stopped(work.uploader.prove(push, plan, body, &work.record))
                    .await
            }
        }
    }

    fn body<'a>(
        &self,
        session: &'a mut Session,
        plan: &PartPlan,
        record: &'a PushRecord,
    ) -> PushBody<'a> {
        let body = PacedBody::new(SessionBody::new(session), self.pace);
        PushBody::new(body, record, plan.length.is_some())
    }

    /// A push that is stopped here is dropped, and with that aborted.
    async fn unless_stopped(
        &self,
        push: impl Future<Output = Result<u64, UploadError>>,
    ) -> Result<u64, UploadError> {
        tokio::select! {
            result = push => result,
            () = self.stop.cancelled() => Err(UploadError::ShuttingDown),
        }
    }
}

fn unread(session: &mut Session, expects: Continue) -> BodyLeft {
    if session.as_mut().is_body_done() {
        BodyLeft::Nothing
    } else if expects == Continue::Awaited {
        BodyLeft::Withheld
    } else {
        BodyLeft::Rest
    }
}

fn log_failure(id: &RequestId, push: &BlobPush, error: &UploadError) {
    let level = match error {
        UploadError::Store(_) | UploadError::Internal(_) | UploadError::DataUnfit { .. } => {
            log::Level::Error
        }
        UploadError::AdmissionTimeout(_) | UploadError::ShuttingDown => log::Level::Warn,
        UploadError::Request(_)
        | UploadError::TooLong { .. }
        | UploadError::LengthMismatch { .. }
        | UploadError::DigestMismatch { .. }
        | UploadError::Body(_) => log::Level::Info,
    };
    log::log!(
        level,
        "request {id}: push of {} to {} failed: {error}",
        push.digest,
        push.name
    );
}

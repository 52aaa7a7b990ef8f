use crate::metrics::Metrics;
use crate::store::{BlobStore, StoreError, UploadHandle};
use futures::future::{BoxFuture, Shared};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long an abort may still take once the process is to end, with the answer that tells which
/// upload it is about. Until then the store's own retry budget bounds it.
const DEADLINE: Duration = Duration::from_secs(60);

/// The upload id, once the store has answered; a failure where it gave none.
pub(super) type Opening = Shared<BoxFuture<'static, Result<Arc<UploadHandle>, StoreError>>>;

/// The one place where multipart uploads are given up.
///
/// Each abort runs on a task of its own: the push that owned the upload may be gone by then, its
/// client with it, and a shutdown waits for what runs here.
#[derive(Clone)]
pub struct Aborter {
    store: Arc<dyn BlobStore>,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    /// Cancelled when the process waits for the aborts, and for nothing else.
    ending: CancellationToken,
    runtime: Handle,
}

impl Aborter {
    /// Must be called on the runtime that is to run the aborts.
    pub fn new(store: Arc<dyn BlobStore>, metrics: Arc<Metrics>) -> Self {
        let tasks = TaskTracker::new();
        tasks.close();
        Self {
            store,
            metrics,
            tasks,
            ending: CancellationToken::new(),
            runtime: Handle::current(),
        }
    }

    /// Stops the parts in flight, then drops the upload in the store. A failure is logged and
    /// counted: the sweep, or the bucket's lifecycle rule, gets what is left.
    pub(super) fn abort<T: Send + 'static>(&self, opening: Opening, mut parts: JoinSet<T>) {
        let Self {
            store,
            metrics,
            ending,
            ..
        } = self.clone();
        let abort = async move {
            // A part that arrives after the abort would be kept, and paid for, by some stores.
            parts.shutdown().await;
            let out_of_time = async {
                ending.cancelled().await;
                tokio::time::sleep(DEADLINE).await;
            };
            tokio::pin!(out_of_time);
            let upload = tokio::select! {
                biased;
                opened = opening => match opened {
                    Ok(upload) => upload,
                    Err(_) => return,
                },
                () = &mut out_of_time => {
                    metrics.aborts.inc();
                    metrics.aborts_failed.inc();
                    log::error!(
                        "the store has not said whether it opened a multipart upload; if it did, \
                         the sweep or a lifecycle rule drops it"
                    );
                    return;
                }
            };
            metrics.aborts.inc();
            let outcome = tokio::select! {
                biased;
                outcome = store.abort_upload(&upload) => outcome.map_err(|error| error.to_string()),
                () = &mut out_of_time => Err(format!("not done within {DEADLINE:?}")),
            };
            if let Err(reason) = outcome {
                metrics.aborts_failed.inc();
                log::error!(
                    "multipart upload {} of {} could not be aborted and holds its parts until the \
                     sweep or a lifecycle rule drops it: {reason}",
                    upload.upload_id,
                    upload.key,
                );
            }
        };
        self.tasks.spawn_on(abort, &self.runtime);
    }

    /// Resolves once no abort is under way, for a process that ends: a minute at most.
    pub async fn finish(&self) {
        self.ending.cancel();
        self.tasks.wait().await;
    }
}

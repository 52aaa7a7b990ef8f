use crate::metrics::Metrics;
use crate::store::{BlobStore, StoreError, UploadHandle};
use futures::future::{BoxFuture, Shared};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

/// How long one abort may take, its retries included.
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
            runtime: Handle::current(),
        }
    }

    /// Stops the parts in flight, then drops the upload in the store. A failure is logged and
    /// counted: the sweep, or the bucket's lifecycle rule, gets what is left.
    pub(super) fn abort<T: Send + 'static>(&self, opening: Opening, mut parts: JoinSet<T>) {
        let Self { store, metrics, .. } = self.clone();
        let abort = async move {
            // A part that arrives after the abort would be kept, and paid for, by some stores.
            parts.shutdown().await;
            let Ok(upload) = opening.await else {
                return;
            };
            metrics.aborts.inc();
            let outcome = match tokio::time::timeout(DEADLINE, store.abort_upload(&upload)).await {
                Ok(outcome) => outcome.map_err(|error| error.to_string()),
                Err(_) => Err(format!("not done within {DEADLINE:?}")),
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

    /// Resolves once no abort is under way.
    pub async fn idle(&self) {
        self.tasks.wait().await;
    }
}

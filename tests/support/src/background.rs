use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

/// A runtime of its own for a server, so that it answers also while a test blocks its thread, and
/// works in tests that have no runtime at all.
#[derive(Debug)]
pub(crate) struct Background {
    runtime: Option<Runtime>,
}

impl Background {
    pub(crate) fn new(name: &str) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(name)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
        })
    }

    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime().spawn(future);
    }

    /// Makes the current thread's tokio types (sockets, timers) belong to this runtime.
    pub(crate) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.runtime().enter()
    }

    /// Drops every task and with it every socket, and returns when that is done.
    pub(crate) fn stop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        // A runtime must not be waited for on a thread that runs another one's tasks.
        let stopped =
            std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(10))).join();
        if stopped.is_err() {
            eprintln!("a background runtime panicked while stopping");
        }
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("used after stop")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}

use super::service::Gate;
use super::windows::{WindowPool, Windows};
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a connection that was accepted may still take for its first request once the process is
/// to end: its client could not know.
const LAST_HEADER: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// Told when the header of the request this task waits for is complete.
    static HEADER_READ: Arc<Notify>;
}

/// To be called once a request's header is read.
pub fn header_read() {
    // Outside of a connection's own task, as with HTTP/2, nobody waits for it.
    let _ = HEADER_READ.try_with(|read| read.notify_one());
}

/// How long requests may take to come.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub header: Duration,
    pub keepalive: Duration,
}

/// What is open, counted so that the process ends no sooner, and what says that it will.
pub struct Counting {
    /// Includes connections that owe their first request.
    pub requests: TaskTracker,
    pub draining: CancellationToken,
}

/// Where connections come in.
pub struct Door {
    requests: Arc<Requests>,
    windows: Arc<WindowPool>,
}

/// The requests of an HTTP/1.1 connection: how long each may take to come.
struct Requests {
    proxy: Arc<HttpProxy<Gate>>,
    patience: Patience,
    under_way: TaskTracker,
    draining: CancellationToken,
}

impl Door {
    /// `http2_memory` in bytes, for all connections together.
    pub fn new(
        mut proxy: HttpProxy<Gate>,
        patience: Patience,
        http2_memory: u64,
        counting: Counting,
    ) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(patience.keepalive);
        proxy.server_options = Some(options);
        Self {
            requests: Arc::new(Requests {
                proxy: Arc::new(proxy),
                patience,
                under_way: counting.requests,
                draining: counting.draining,
            }),
            windows: WindowPool::new(http2_memory),
        }
    }
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        if !matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            return self.requests.process_new(stream, shutdown).await;
        }
        let connection = Arc::new(Http2 {
            requests: Arc::clone(&self.requests),
            windows: self.windows.share(),
            begun: Notify::new(),
        });
        let limit = self.requests.patience.header;
        let mut serving = connection.process_new(stream, shutdown);
        tokio::select! {
            biased;
            done = &mut serving => return done,
            () = connection.begun.notified() => {}
            () = tokio::time::sleep(limit) => {
                log::debug!("a connection was closed: no HTTP/2 request within {limit:?}");
                return None;
            }
        }
        serving.await
    }

    // No `cleanup`: pingora's would close connections whose first request is on its way.
}

/// One HTTP/2 connection.
struct Http2 {
    requests: Arc<Requests>,
    windows: Windows,
    /// Told when the first request is here. pingora bounds the time between requests, but waits
    /// without end for a client's preface.
    begun: Notify,
}

#[async_trait]
impl HttpServerApp for Http2 {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        self.begun.notify_one();
        // Its header is here already.
        let proxy = &self.requests.proxy;
        proxy.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.windows.options())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.requests.server_options()
    }
}

#[async_trait]
impl HttpServerApp for Requests {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        // pingora bounds each read of a header, which a client that sends a byte at a time never
        // trips. A later request may first stay away as long as the connection is kept.
        let before = session.take_connection_user_context();
        let Patience {
            header, keepalive, ..
        } = self.patience;
        let first = before.is_none();
        let limit = if first { header } else { keepalive + header };
        session.set_connection_user_context(before);

        let owed = first.then(|| self.under_way.token());
        let read = Arc::new(Notify::new());
        let request = HEADER_READ.scope(
            Arc::clone(&read),
            self.proxy.process_new_http(session, shutdown),
        );
        let ending = async {
            self.draining.cancelled().await;
            if first {
                tokio::time::sleep(LAST_HEADER).await;
            }
        };
        tokio::pin!(request);
        tokio::select! {
            // A request that is here already is taken.
            biased;
            done = &mut request => return done,
            () = read.notified() => {}
            () = tokio::time::sleep(limit) => {
                log::debug!("a connection was closed: no whole request header within {limit:?}");
                return None;
            }
            () = ending => return None,
        }
        // It counts for itself now.
        drop(owed);
        request.await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }
}

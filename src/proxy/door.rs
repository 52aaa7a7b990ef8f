use super::service::Gate;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a connection that was accepted may still take for its first request once the process is
/// to end: its client could not know.
const LAST_HEADER: Duration = Duration::from_secs(1);

/// How much of one body may have come over HTTP/2 and wait to be read. 64 KiB, HTTP/2's own default,
/// allows about 3 MB/s at a round trip of 20 ms.
const H2_STREAM_WINDOW: u32 = 1 << 20;

/// Requests at once over one connection. RFC 9113 (6.5.2) advises against less, and clients begin
/// with as many before they know of a limit.
const H2_STREAMS: u32 = 100;

/// The connection's window holds all its streams' windows: pushes that wait unread for a slot would
/// else use it up, and the one they wait for, on the same connection, could not go on.
const H2_CONNECTION_WINDOW: u32 = H2_STREAMS * H2_STREAM_WINDOW;

tokio::task_local! {
    /// Told when the header of the request this task waits for is complete.
    static HEADER_READ: Arc<Notify>;
}

/// To be called once a request's header is read.
pub fn header_read() {
    // Outside of a connection's own task, as with HTTP/2, nobody waits for it.
    let _ = HEADER_READ.try_with(|read| read.notify_one());
}

/// How many connections there may be, and how long their requests may take to come.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub max_connections: usize,
    pub header: Duration,
    pub keepalive: Duration,
}

/// What is open, counted so that the process ends no sooner, and what says that it will.
pub struct Counting {
    pub connections: TaskTracker,
    /// Includes connections that owe their first request.
    pub requests: TaskTracker,
    pub draining: CancellationToken,
}

/// The connections: how many there may be.
pub struct Door {
    requests: Arc<Requests>,
    permits: Semaphore,
    connections: TaskTracker,
}

/// The requests of a connection: how long each may take to come.
struct Requests {
    proxy: Arc<HttpProxy<Gate>>,
    patience: Patience,
    under_way: TaskTracker,
    draining: CancellationToken,
}

impl Door {
    pub fn new(mut proxy: HttpProxy<Gate>, patience: Patience, counting: Counting) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(patience.keepalive);
        proxy.server_options = Some(options);
        let mut h2 = default_h2_options();
        h2.initial_window_size(H2_STREAM_WINDOW);
        h2.initial_connection_window_size(H2_CONNECTION_WINDOW);
        h2.max_concurrent_streams(H2_STREAMS);
        proxy.h2_options = Some(h2);
        Self {
            requests: Arc::new(Requests {
                proxy: Arc::new(proxy),
                patience,
                under_way: counting.requests,
                draining: counting.draining,
            }),
            permits: Semaphore::new(patience.max_connections),
            connections: counting.connections,
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
        let _counted = self.connections.token();
        let Ok(_permit) = self.permits.try_acquire() else {
            log::warn!("a connection was closed at once: listen.max_connections are open");
            return None;
        };
        self.requests.process_new(stream, shutdown).await
    }

    // No `cleanup`: pingora's would close connections whose first request is on its way.
}

#[async_trait]
impl HttpServerApp for Requests {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        if session.is_http2() {
            // Its header is here already.
            return self.proxy.process_new_http(session, shutdown).await;
        }
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

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }
}

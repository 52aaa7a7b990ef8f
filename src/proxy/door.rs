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

/// The connections: how many there may be.
pub struct Door {
    requests: Arc<Requests>,
    connections: Semaphore,
}

/// The requests of a connection: how long each may take to come.
struct Requests {
    proxy: Arc<HttpProxy<Gate>>,
    header_timeout: Duration,
    keepalive_timeout: Duration,
}

impl Door {
    pub fn new(
        mut proxy: HttpProxy<Gate>,
        max_connections: usize,
        header_timeout: Duration,
        keepalive_timeout: Duration,
    ) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(keepalive_timeout);
        proxy.server_options = Some(options);
        let mut h2 = default_h2_options();
        h2.initial_window_size(H2_STREAM_WINDOW);
        h2.initial_connection_window_size(H2_CONNECTION_WINDOW);
        h2.max_concurrent_streams(H2_STREAMS);
        proxy.h2_options = Some(h2);
        Self {
            requests: Arc::new(Requests {
                proxy: Arc::new(proxy),
                header_timeout,
                keepalive_timeout,
            }),
            connections: Semaphore::new(max_connections),
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
        let Ok(_permit) = self.connections.try_acquire() else {
            log::warn!("a connection was closed at once: listen.max_connections are open");
            return None;
        };
        self.requests.process_new(stream, shutdown).await
    }

    async fn cleanup(&self) {
        self.requests.cleanup().await;
    }
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
        let limit = match before {
            None => self.header_timeout,
            Some(_) => self.keepalive_timeout + self.header_timeout,
        };
        session.set_connection_user_context(before);

        let read = Arc::new(Notify::new());
        let request = HEADER_READ.scope(
            Arc::clone(&read),
            self.proxy.process_new_http(session, shutdown),
        );
        tokio::pin!(request);
        tokio::select! {
            done = &mut request => return done,
            () = read.notified() => {}
            () = tokio::time::sleep(limit) => {
                log::debug!("a connection was closed: no whole request header within {limit:?}");
                return None;
            }
        }
        request.await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

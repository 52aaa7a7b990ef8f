//! The accept loop. It is our own, as pingora's counts a connection only once its TLS handshake is
//! over, and gives every handshake a minute: connections that never come so far were unbounded.

use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::protocols::l4::listener::Listener;
use pingora::protocols::l4::stream::Stream as TcpStream;
use pingora::protocols::tls::server::handshake;
use pingora::server::ShutdownWatch;
use pingora::tls::ssl::SslAcceptor;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// How long accepting rests after a failure that would come again at once, such as too many open
/// files.
const REST: Duration = Duration::from_millis(100);

/// What bounds the connections of a listener.
pub struct Bounds {
    pub max_connections: usize,
    /// From a connection's first moment to the end of its TLS handshake.
    pub handshake: Duration,
    /// Counts the connections from their first moment.
    pub connections: TaskTracker,
}

/// Who answers at a listener, and how.
pub struct Acceptor<A> {
    pub name: &'static str,
    pub app: Arc<A>,
    pub tls: Option<SslAcceptor>,
    pub bounds: Bounds,
}

impl<A: ServerApp + Send + Sync + 'static> Acceptor<A> {
    /// Accepts connections until the watch says to stop. Those that are open go on.
    pub async fn run(self, listener: Listener, mut shutdown: ShutdownWatch) {
        let permits = Arc::new(Semaphore::new(self.bounds.max_connections));
        let mut turned_away: u64 = 0;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = shutdown.wait_for(|stop| *stop) => return,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    log::error!("{}: cannot accept a connection: {error}", self.name);
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            // Once for each time it is full, not for each connection: whoever fills it up must not
            // fill the log as well.
            match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => {
                    if turned_away > 0 {
                        log::warn!(
                            "{}: there is room for connections again; {turned_away} were closed \
                             at once",
                            self.name
                        );
                        turned_away = 0;
                    }
                    self.spawn(stream, permit, shutdown.clone());
                }
                Err(_) => {
                    if turned_away == 0 {
                        log::warn!(
                            "{}: {} connections are open, which is the limit: further ones are \
                             closed at once",
                            self.name,
                            self.bounds.max_connections
                        );
                    }
                    turned_away += 1;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, permit: OwnedSemaphorePermit, shutdown: ShutdownWatch) {
        let (app, tls) = (Arc::clone(&self.app), self.tls.clone());
        let (name, patience) = (self.name, self.bounds.handshake);
        let connection = async move {
            let _held = permit;
            match tokio::time::timeout(patience, established(stream, tls)).await {
                Ok(Ok(stream)) => {
                    let mut reused = app.process_new(stream, &shutdown).await;
                    while let Some(stream) = reused {
                        reused = app.process_new(stream, &shutdown).await;
                    }
                }
                // The client's affair, and any passer-by can cause it.
                Ok(Err(error)) => log::debug!("{name}: a connection failed: {error}"),
                Err(_) => log::debug!("{name}: no TLS handshake within {patience:?}"),
            }
        };
        self.bounds.connections.spawn(connection);
    }
}

async fn established(mut stream: TcpStream, tls: Option<SslAcceptor>) -> pingora::Result<Stream> {
    // An answer's last segment must not wait for the client to acknowledge the one before.
    stream.set_nodelay()?;
    Ok(match tls {
        Some(acceptor) => Box::new(handshake(&acceptor, stream).await?),
        None => Box::new(stream),
    })
}

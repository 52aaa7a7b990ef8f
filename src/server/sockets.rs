//! The listening sockets: bound here or taken over from a predecessor, served, handed on.

use super::RunError;
use pingora::apps::ServerApp;
use pingora::listeners::tls::TlsSettings;
use pingora::server::{Fds, ListenFds};
use pingora::services::Service as _;
use pingora::services::listening::Service;
use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// How long a successor waits for its predecessor to be told to hand over.
const TAKEOVER: Duration = Duration::from_secs(60);

/// Every listening socket of the process.
pub struct Sockets {
    fds: ListenFds,
}

/// A bound socket, so that its address is known and a taken port is an error before anything runs.
pub struct Socket {
    pub address: SocketAddr,
    fds: ListenFds,
}

impl Sockets {
    /// No sockets yet.
    pub fn new() -> Self {
        Self::of(Fds::new())
    }

    /// Takes over the sockets of the process that is told, by SIGQUIT, to hand them to `path`.
    pub async fn take_over(path: PathBuf) -> Result<Self, RunError> {
        log::info!(
            "waiting up to {TAKEOVER:?} at {} for the running process to hand over its listeners: \
             send it SIGQUIT",
            path.display()
        );
        let failed = |reason: String| RunError::TakeOver {
            path: path.clone(),
            reason,
        };
        let deadline = Instant::now() + TAKEOVER;
        loop {
            let name = utf8(&path).map_err(&failed)?;
            let taken = tokio::task::spawn_blocking(move || {
                let mut fds = Fds::new();
                fds.get_from_sock(name.as_str()).map(|()| fds)
            });
            match taken.await {
                Ok(Ok(fds)) => return Ok(Self::of(fds)),
                // Waits a few seconds by itself before it gives up.
                Ok(Err(error)) if Instant::now() < deadline => {
                    log::debug!("nothing handed over yet: {error}");
                }
                Ok(Err(error)) => return Err(failed(error.to_string())),
                Err(lost) => return Err(failed(lost.to_string())),
            }
        }
    }

    fn of(fds: Fds) -> Self {
        Self {
            fds: Arc::new(parking_lot::Mutex::new(fds)),
        }
    }

    /// The socket for an address: taken over, or bound now.
    pub fn claim(&self, key: &'static str, address: SocketAddr) -> Result<Socket, RunError> {
        let taken_over = self.fds.lock().get(&address.to_string()).is_some();
        let address = if taken_over {
            address
        } else {
            self.bind(key, address)?
        };
        Ok(Socket {
            address,
            fds: Arc::clone(&self.fds),
        })
    }

    /// Closes what was taken over and not claimed: nobody would accept there.
    pub fn close_unclaimed(&self, claimed: &[SocketAddr]) {
        let keep = claimed.iter().map(SocketAddr::to_string).collect();
        for address in self.fds.lock().close_unclaimed(&keep) {
            log::warn!("{address} was handed over, but is not configured any more: closed");
        }
    }

    /// Hands every socket to the successor that waits at `path`.
    pub async fn hand_over(&self, path: &Path) -> Result<(), String> {
        let name = utf8(path)?;
        let fds = Arc::clone(&self.fds);
        tokio::task::spawn_blocking(move || fds.lock().send_to_sock(name.as_str()))
            .await
            .map_err(|lost| lost.to_string())?
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    fn bind(&self, key: &'static str, address: SocketAddr) -> Result<SocketAddr, RunError> {
        let bind = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            }?;
            // A restart must not wait for the last process's connections to be forgotten.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let listener = socket.listen(BACKLOG)?.into_std()?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = bind().map_err(|source: io::Error| RunError::Listen {
            key,
            address,
            source,
        })?;
        self.fds
            .lock()
            .add(address.to_string(), listener.into_raw_fd());
        Ok(address)
    }
}

impl Socket {
    /// Accepts connections until the watch says to stop.
    pub fn serve<A>(
        self,
        name: &str,
        app: A,
        tls: Option<TlsSettings>,
        shutdown: watch::Receiver<bool>,
    ) -> JoinHandle<()>
    where
        A: ServerApp + Send + Sync + 'static,
    {
        let mut service = Service::new(name.to_owned(), app);
        let address = self.address.to_string();
        match tls {
            Some(tls) => service.add_tls_with_settings(&address, None, tls),
            None => service.add_tcp(&address),
        }
        tokio::spawn(async move { service.start_service(Some(self.fds), shutdown, 1).await })
    }
}

fn utf8(path: &Path) -> Result<String, String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("{} is not valid UTF-8", path.display()))
}

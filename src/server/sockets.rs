//! The listening sockets: bound here or taken over from a predecessor, served, handed on.

use super::{RunError, handover};
use pingora::protocols::l4::listener::Listener;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use tokio::net::TcpSocket;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// Every listening socket of the process.
#[derive(Default)]
pub struct Sockets {
    /// Taken over, and not claimed yet.
    taken: Vec<(SocketAddr, TcpListener)>,
    /// A second handle of each that is served, to hand on.
    served: Vec<TcpListener>,
}

/// A bound socket, so that its address is known and a taken port is an error before anything runs.
pub struct Socket {
    pub address: SocketAddr,
    listener: TcpListener,
}

impl Sockets {
    /// The predecessor's.
    pub fn taken_over(listeners: Vec<TcpListener>) -> io::Result<Self> {
        let with_address = |listener: TcpListener| Ok((listener.local_addr()?, listener));
        Ok(Self {
            taken: listeners
                .into_iter()
                .map(with_address)
                .collect::<io::Result<_>>()?,
            served: Vec::new(),
        })
    }

    /// The socket for an address: taken over, or bound now.
    pub fn claim(&mut self, key: &'static str, address: SocketAddr) -> Result<Socket, RunError> {
        let taken = self.taken.iter().position(|(taken, _)| *taken == address);
        let socket = match taken {
            Some(index) => Ok(self.taken.swap_remove(index).1),
            None => bind(address),
        };
        socket
            .and_then(|listener| {
                self.served.push(listener.try_clone()?);
                Ok(Socket {
                    address: listener.local_addr()?,
                    listener,
                })
            })
            .map_err(|source| RunError::Listen {
                key,
                address,
                source,
            })
    }

    /// Closes what was taken over and not claimed: nobody would accept there.
    pub fn close_unclaimed(&mut self) {
        for (address, _closed) in self.taken.drain(..) {
            log::warn!("{address} was handed over, but is not configured any more: closed");
        }
    }

    /// Hands every socket to the successor that waits at `path`; returns once it serves.
    pub async fn hand_over(&self, path: &Path) -> io::Result<()> {
        handover::offer(path, &self.served).await
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A restart must not wait for the last process's connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

impl Socket {
    /// Must be called on the runtime that is to accept.
    pub fn listener(self) -> io::Result<Listener> {
        // One that was taken over is as the predecessor left it.
        self.listener.set_nonblocking(true)?;
        Ok(tokio::net::TcpListener::from_std(self.listener)?.into())
    }
}

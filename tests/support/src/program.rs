//! Any server that says where it listens, as a process.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::daemon::{self, Daemon};
use crate::process::socket_address;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running server; killed when dropped, and when this process dies.
#[derive(Debug)]
pub struct Program {
    address: SocketAddr,
    ready_line: String,
    daemon: Daemon,
}

impl Program {
    /// Starts the program and waits for a line that contains `listening on http://ADDRESS`. Its
    /// output goes to `NAME.log` in `dir`, which must exist.
    pub fn start<'a>(
        name: &str,
        binary: &Path,
        arguments: impl IntoIterator<Item = &'a str>,
        dir: &Path,
    ) -> io::Result<Self> {
        let mut command = daemon::command(binary);
        command.args(arguments);
        let daemon = Daemon::start(name, command, dir.join(format!("{name}.log")))?;
        let (address, ready_line) = daemon.find_line(READY_WITHIN, |line| {
            let (_, url) = line.split_once("listening on ")?;
            Some((socket_address(url)?.1, line.to_owned()))
        })?;
        daemon.ignore_lines();
        Ok(Self {
            address,
            ready_line,
            daemon,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The line that said so, in which it may say more.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}

//! The servers of the bench, each to be run in a process of its own so that what it uses can be told
//! apart: this program again, with a hidden command.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Subcommand;

use crate::Result;

mod real;
mod relay;
mod shaper;
mod sink;
mod spool;

#[derive(Debug, Subcommand)]
pub enum Server {
    /// An S3 store that drops what it is given
    #[command(hide = true)]
    Sink,
    /// The testkit's S3 server
    #[command(hide = true)]
    Real { root: PathBuf },
    /// Latency and bandwidth on the way to a server
    #[command(hide = true)]
    Shaper {
        to: SocketAddr,
        round_trip_ms: u64,
        bytes_per_second: u64,
    },
    /// Receives and sends on, and nothing else
    #[command(hide = true)]
    Relay { to: SocketAddr, bucket: String },
    /// Receives into a file, then uploads that
    #[command(hide = true)]
    Spool { config: PathBuf, dir: PathBuf },
}

impl Server {
    /// Serves until the process is killed.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Sink => sink::run(),
            Self::Real { root } => real::run(root),
            Self::Shaper {
                to,
                round_trip_ms,
                bytes_per_second,
            } => shaper::run(to, round_trip_ms, bytes_per_second),
            Self::Relay { to, bucket } => relay::run(to, &bucket),
            Self::Spool { config, dir } => spool::run(&config, dir),
        }
    }
}

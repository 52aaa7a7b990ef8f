//! The validated configuration. What is here is known to be usable; how it is written, and the
//! faults found in it, are the loader's (`docs/CONFIGURATION.md`).

mod bucket;
mod display;
mod fault;
pub mod from_registry;
mod interpolate;
mod kind;
mod load;
mod pem;
mod section;
#[cfg(test)]
mod tests;
mod units;

pub use fault::{ConfigErrors, Fault};
pub(crate) use units::format_size;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Config {
    pub listen: Listen,
    pub upstream: Upstream,
    pub bucket: Bucket,
    pub upload: Upload,
    pub sweep: Sweep,
    pub admin: Admin,
    pub log: Log,
    /// Worker threads of the one runtime.
    pub threads: usize,
    /// How long uploads in flight may go on after SIGTERM.
    pub grace_period: Duration,
    /// Unix socket at which a successor takes over the listeners.
    pub upgrade_socket: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct Listen {
    pub address: SocketAddr,
    pub tls: Option<Tls>,
    /// Keep the `X-Forwarded-*` headers that came in (blobgate behind another proxy) instead of
    /// replacing them.
    pub trust_forwarded: bool,
    /// From a request's first byte to the end of its header.
    pub header_timeout: Duration,
    /// How long an idle connection is kept.
    pub keepalive_timeout: Duration,
    pub max_connections: usize,
    /// Bytes of request bodies that may wait to be read, over all HTTP/2 connections.
    pub http2_memory: u64,
}

#[derive(Debug, Clone)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, Clone)]
pub struct Upstream {
    /// Scheme `http` or `https`, host and port; no path, query or user.
    pub url: url::Url,
    pub ca_file: Option<PathBuf>,
    pub connect_timeout: Duration,
    /// No byte read from, or written to, the upstream for this long fails a forwarded request.
    pub idle_timeout: Duration,
    /// The whole of one question (probe or HEAD) blobgate asks the upstream itself.
    pub probe_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutKind {
    /// `docker/registry/v2/blobs/<alg>/<hex[0:2]>/<hex>/data` and a link in the repository.
    Distribution,
    /// `blobs/<alg>/<hex>`, no links.
    Flat,
}

#[derive(Debug, Clone)]
pub struct Bucket {
    pub name: String,
    pub region: String,
    /// Base URL of an S3-compatible store; `None` is AWS in `region`.
    pub endpoint: Option<url::Url>,
    /// Key prefix, without leading slash and without trailing slash; may be empty. Distribution's
    /// `rootdirectory`.
    pub root_directory: String,
    pub layout: LayoutKind,
    pub path_style: bool,
    pub ca_file: Option<PathBuf>,
    /// `x-amz-server-side-encryption`: AES256, or aws:kms where a key is named.
    pub encrypt: bool,
    pub kms_key_id: Option<String>,
    pub storage_class: Option<String>,
    pub acl: Option<String>,
    pub credentials: Credentials,
    pub connect_timeout: Duration,
    /// No byte moved on a store connection for this long fails the attempt.
    pub idle_timeout: Duration,
    /// The whole of one attempt of one store call.
    pub call_timeout: Duration,
    /// Tries of one store call, the first included.
    pub max_attempts: u32,
    /// The whole of one store call with its retries and waits.
    pub retry_budget: Duration,
}

#[derive(Clone)]
pub enum Credentials {
    Static {
        access_key_id: String,
        secret_access_key: Secret,
        session_token: Option<Secret>,
    },
    /// Environment, profile file, container, instance metadata, in this order.
    Chain { profile: Option<String> },
}

/// A value that never shows in logs, errors or the effective configuration.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(value)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Static { .. } => f.write_str("Static(***)"),
            Self::Chain { profile } => f.debug_struct("Chain").field("profile", profile).finish(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Upload {
    /// Smallest part size, bytes; 5 MiB to 5 GiB.
    pub part_size: u64,
    /// Parts of one upload in flight to the store at once.
    pub part_concurrency: usize,
    pub max_part_concurrency: usize,
    /// Longest blob taken, bytes.
    pub max_blob_size: u64,
    /// Uploads admitted at once.
    pub max_streaming: usize,
    /// Part buffers of the whole process, bytes.
    pub memory_budget: u64,
    /// Longest wait for a slot and a buffer.
    pub admission_timeout: Duration,
    /// No byte from the client for this long ends an upload.
    pub idle_timeout: Duration,
    /// Bytes per second, on average over `min_rate_window`, below which an upload is ended; 0 is off.
    pub min_rate: u64,
    pub min_rate_window: Duration,
}

#[derive(Debug, Clone)]
pub struct Sweep {
    pub enabled: bool,
    pub interval: Duration,
    /// Only multipart uploads begun longer ago than this are aborted.
    pub older_than: Duration,
    /// Report, abort nothing.
    pub dry_run: bool,
}

#[derive(Debug, Clone)]
pub struct Admin {
    /// `None` where the admin listener is off.
    pub address: Option<SocketAddr>,
    /// Between two looks at upstream and bucket; `None` where nobody looks.
    pub check_interval: Option<Duration>,
}

#[derive(Debug, Clone)]
pub struct Log {
    pub level: log::LevelFilter,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

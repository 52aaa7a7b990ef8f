//! A proxy that fails on purpose, between a client and any HTTP/1.1 server.
//!
//! Bytes go through as they come: path, query, headers and `Host` unchanged (S3 signatures cover
//! them), bodies streamed. Every client connection has one connection to the server behind it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::background::Background;

mod answer;
mod classify;
mod connection;
mod journal;
mod meter;
mod rule;

pub use classify::Dialect;
pub use journal::Record;
pub use meter::Shape;
pub use rule::{Fault, Gate, Rule};

use journal::Journal;
use rule::Rules;

/// How long a test waits for something to happen before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running fault-injecting proxy. It runs on threads of its own and stops when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    background: Background,
}

#[derive(Debug)]
struct Shared {
    upstream: std::sync::Mutex<SocketAddr>,
    dialect: Dialect,
    shape: std::sync::Mutex<Shape>,
    rules: Rules,
    journal: Journal,
}

impl FaultProxy {
    /// Starts a proxy on a free loopback port. `dialect` says how requests are named.
    pub fn start(upstream: SocketAddr, dialect: Dialect) -> io::Result<Self> {
        Self::start_on(SocketAddr::from(([127, 0, 0, 1], 0)), upstream, dialect)
    }

    /// Starts a proxy on `address`.
    pub fn start_on(
        address: SocketAddr,
        upstream: SocketAddr,
        dialect: Dialect,
    ) -> io::Result<Self> {
        let background = Background::new("faults")?;
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: std::sync::Mutex::new(upstream),
            dialect,
            shape: std::sync::Mutex::new(Shape::default()),
            rules: Rules::default(),
            journal: Journal::default(),
        });
        {
            let _runtime = background.enter();
            let listener = TcpListener::from_std(listener)?;
            background.spawn(connection::accept(listener, Arc::clone(&shared)));
        }
        Ok(Self {
            address,
            shared,
            background,
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

    /// New connections go to another server from now on.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        *self.shared.upstream.lock().expect("upstream poisoned") = upstream;
    }

    /// New connections have this latency and bandwidth from now on.
    pub fn set_shape(&self, shape: Shape) {
        *self.shared.shape.lock().expect("shape poisoned") = shape;
    }

    /// Adds a rule. For each call, the first rule that applies wins; every rule counts the calls
    /// it matches, also those that another rule answers.
    pub fn add(&self, rule: Rule) {
        self.shared.rules.add(rule);
    }

    /// Forgets all rules; calls they hold stay held until [`FaultProxy::release`].
    pub fn clear(&self) {
        self.shared.rules.clear();
    }

    /// Lets go of every call so far that a `Hang` or `HangBody` holds, or is about to hold, by
    /// closing its connection.
    pub fn release(&self) {
        self.shared.rules.release();
    }

    /// How often each operation has arrived.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        self.shared.journal.calls()
    }

    /// Every call in order of arrival, and what became of it so far.
    pub fn records(&self) -> Vec<Record> {
        self.shared.journal.records()
    }

    /// Waits until the n-th call (from 1) of the operation has arrived. Panics with the calls seen
    /// when it does not.
    pub async fn arrived(&self, operation: &str, n: u64) {
        self.wait(&format!("call {n} of {operation}"), |journal| {
            journal.arrived(operation) >= n
        })
        .await;
    }

    /// Waits until n calls of the operation have been dealt with: answered in full, cut off, or
    /// given up by the client.
    pub async fn finished(&self, operation: &str, n: u64) {
        self.wait(&format!("end of {n} calls of {operation}"), |journal| {
            journal.finished(operation) >= n
        })
        .await;
    }

    /// Waits until the calls so far are such that `holds` says so. Panics with them when they do not
    /// become so.
    pub async fn until(&self, what: &str, holds: impl Fn(&[Record]) -> bool) {
        self.wait(what, |journal| holds(&journal.records())).await;
    }

    /// Closes every connection.
    pub fn shutdown(mut self) {
        self.background.stop();
    }

    async fn wait(&self, what: &str, happened: impl Fn(&Journal) -> bool) {
        let journal = &self.shared.journal;
        let mut changes = journal.changes();
        let waited = tokio::time::timeout(PATIENCE, async {
            while !happened(journal) {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        });
        if waited.await.is_err() {
            panic!("waited in vain for {what}; calls: {:#?}", self.records());
        }
    }
}

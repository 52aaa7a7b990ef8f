//! Those who are compared, and how each takes a blob.

use std::net::SocketAddr;
use std::time::Instant;

use crate::Result;
use crate::bed::Bed;
use crate::client::{Client, Manner};
use crate::client_h2;
use crate::measure::{Case, Sample, measure};
use crate::payload::{Blob, Source};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// What no proxy can be better than: one sha256, and a relay that does nothing else.
    Limit,
    /// The client puts the blob into the store itself, by multipart.
    Direct,
    /// PUT by digest.
    Blobgate,
    /// The same with [`FIXED`] settings.
    Fixed,
    /// The same with [`WIDE`] settings.
    Wide,
    /// POST and PUT straight to the registry.
    Distribution,
    /// A file between the client and the store.
    Spool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Tls,
    Http2,
}

/// How many clients push how much.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub size: u64,
    pub clients: usize,
    /// Pushes of each client, one after another on one connection.
    pub pushes: usize,
    pub protocol: Protocol,
}

impl Load {
    /// One client, one blob.
    pub fn one(size: u64) -> Self {
        Self {
            size,
            clients: 1,
            pushes: 1,
            protocol: Protocol::Http1,
        }
    }
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Tls => "HTTP/1.1, TLS",
            Self::Http2 => "HTTP/2, TLS",
        }
    }
}

/// As many parts in flight as at first: how well each connection is used shows only where their
/// number is known.
pub const FIXED: (&str, u64) = ("upload.max_part_concurrency", FIXED_PARTS);
pub const FIXED_PARTS: u64 = 4;

/// A slot for each of 32 clients: with fewer, who comes late waits for those before, and a client's
/// time says how long the queue was.
pub const WIDE: (&str, u64) = ("upload.max_streaming", 32);

impl Contender {
    pub fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Direct => "direct",
            Self::Blobgate => "blobgate",
            Self::Fixed => "blobgate, 4 parts",
            Self::Wide => "blobgate, 32 slots",
            Self::Distribution => "distribution",
            Self::Spool => "spool-then-upload",
        }
    }

    /// The processes whose CPU is the contender's own.
    pub fn processes(name: &str) -> &'static [&'static str] {
        match name {
            "limit" => &["relay", "sha256"],
            "direct" => &["client"],
            "distribution" => &["registry"],
            _ if name.ends_with("straight") => &["registry"],
            "spool-then-upload" => &["spool"],
            // Whom blobgate asks works for it.
            _ => &["blobgate", "registry"],
        }
    }

    /// Measures one run, and fails unless the store has every blob afterwards.
    pub fn run(
        self,
        bed: &Bed,
        source: &Source,
        scenario: &'static str,
        load: Load,
        run: usize,
    ) -> Result<Sample> {
        let case = Case {
            scenario,
            store: bed.store.name(),
            contender: self.name(),
            protocol: load.protocol.name(),
            size: load.size,
            clients: load.clients,
        };
        let blobs: Vec<Vec<Blob>> = (0..load.clients)
            .map(|_| (0..load.pushes).map(|_| source.blob(load.size)).collect())
            .collect();
        bed.control.clear()?;
        let taken = measure(bed, &case, run, || {
            self.push_all(bed, load.protocol, &blobs)
        });
        let mut sample = taken.map_err(|error| self.blame(scenario, &error))?;
        for blob in blobs.iter().flatten() {
            let verified = match self {
                Self::Limit => bed.verify_key(&blob.digest.to_string(), blob.size),
                _ => bed.verify(&blob.digest, blob.size),
            };
            verified.map_err(|error| self.blame(scenario, &error))?;
        }
        if self == Self::Limit {
            add_hash(&mut sample, source)?;
        }
        Ok(sample)
    }

    /// Says whose failure it is.
    pub fn blame(self, scenario: &str, error: &crate::Error) -> crate::Error {
        format!("{} failed in scenario {scenario}: {error}", self.name()).into()
    }

    /// All clients at once; latencies in seconds.
    fn push_all(self, bed: &Bed, protocol: Protocol, blobs: &[Vec<Blob>]) -> Result<Vec<f64>> {
        if let [blobs] = blobs {
            return self.push_each(bed, protocol, blobs);
        }
        std::thread::scope(|scope| {
            let mut clients = Vec::new();
            for blobs in blobs {
                clients.push(scope.spawn(|| self.push_each(bed, protocol, blobs)));
            }
            let mut latencies = Vec::new();
            for client in clients {
                latencies.extend(client.join().map_err(|_| "a client panicked")??);
            }
            Ok(latencies)
        })
    }

    fn push_each(self, bed: &Bed, protocol: Protocol, blobs: &[Blob]) -> Result<Vec<f64>> {
        let mut client = None;
        let pushes = blobs.iter().map(|blob| {
            let began = Instant::now();
            match (self, protocol, &bed.ca) {
                (Self::Direct, ..) => direct(bed, blob)?,
                (_, Protocol::Http2, Some(ca)) => {
                    client_h2::push(bed.blobgate.address(), ca, blob)?;
                }
                _ => {
                    let client = match &mut client {
                        Some(client) => client,
                        none => none.insert(self.connect(bed, protocol)?),
                    };
                    client.push(blob, self.manner())?;
                }
            }
            Ok(began.elapsed().as_secs_f64())
        });
        pushes.collect()
    }

    pub fn connect(self, bed: &Bed, protocol: Protocol) -> Result<Client> {
        let address = self.address(bed)?;
        match (protocol, &bed.ca) {
            (Protocol::Tls, Some(ca)) => Client::connect_tls(address, ca),
            _ => Ok(Client::connect(address)?),
        }
    }

    pub fn manner(self) -> Manner {
        match self {
            Self::Distribution => Manner::Session,
            _ => Manner::Put,
        }
    }

    fn address(self, bed: &Bed) -> Result<SocketAddr> {
        match self {
            Self::Limit => {
                let relay = bed
                    .relay
                    .as_ref()
                    .ok_or("there is a relay to the sink only")?;
                Ok(relay.address())
            }
            Self::Distribution => Ok(bed.registry.address()),
            Self::Spool => Ok(bed.spool.address()),
            Self::Blobgate | Self::Fixed | Self::Wide | Self::Direct => Ok(bed.blobgate.address()),
        }
    }
}

fn direct(bed: &Bed, blob: &Blob) -> Result<()> {
    let read = |range| Ok(blob.part(range));
    let upload = bed.uploader.upload(&blob.digest, blob.size, read);
    bed.runtime.block_on(upload)
}

/// The other half of the limit, made by itself: one core's sha256 over as many bytes. The wall time
/// is the larger of both, the CPU their sum.
fn add_hash(sample: &mut Sample, source: &Source) -> Result<()> {
    let cpu = thread_cpu()?;
    let began = Instant::now();
    std::hint::black_box(source.hash(sample.bytes).finish());
    sample.wall = sample.wall.max(began.elapsed().as_secs_f64());
    sample.latencies = vec![sample.wall];
    sample.cpu.insert("sha256", thread_cpu()? - cpu);
    Ok(())
}

/// CPU seconds of this thread.
fn thread_cpu() -> Result<f64> {
    // https://docs.kernel.org/scheduler/sched-stats.html: nanoseconds on a CPU come first.
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = stat.split(' ').next().unwrap_or_default();
    Ok(nanoseconds.parse::<u64>()? as f64 / 1e9)
}

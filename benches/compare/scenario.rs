//! What is measured: each scenario gives the samples for some rows of the table of targets.

use std::time::Duration;

use clap::ValueEnum;

use crate::Result;
use crate::bed::{Bed, Making, ROUND_TRIP, Store};
use crate::contender::{Contender, FIXED, Load, Protocol, WIDE};
use crate::forward;
use crate::measure::{Case, Sample, measure};
use crate::payload::Source;
use crate::stats;

pub const KIB: u64 = 1 << 10;
pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;

/// Small blobs, bytes.
pub const SMALL: u64 = 4 * KIB;

/// Of the blob that opens connections before anything is measured, bytes: more than one part.
const WARM_UP: u64 = 32 * MIB;

/// How long blobgate is left alone before it counts as idle.
const SETTLE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// One large blob, one client, into a store that costs nothing
    Sink,
    /// One large blob, one client, into a real S3 server
    Real,
    /// One large blob, one client, into the S3 server behind 20 ms and 50 MB/s a connection
    Distant,
    /// One large blob, one client, into the sink behind 20 ms and 50 MB/s a connection
    DistantSink,
    /// 4 KiB into the S3 server behind 20 ms: latency, calls, pushes a second
    Small,
    /// blobgate with blobs from 4 KiB to 8 GiB
    Sizes,
    /// blobgate with 1, 8 and 32 clients
    Clients,
    /// blobgate over HTTP/1.1, TLS and HTTP/2
    Protocols,
    /// blobgate with 32 clients at once, the sink behind 20 ms and 50 MB/s a connection
    Memory,
    /// The registry through blobgate and straight; wall is the PATCH's, CPU and calls are those of the whole POST, PATCH and PUT
    Forward,
    /// blobgate with nothing to do
    Idle,
}

/// How much is measured.
pub struct Extent {
    pub runs: usize,
    pub large: u64,
    /// The large blob where the store is distant.
    pub distant: u64,
    pub max_size: u64,
    /// Of each client where there are many.
    pub crowd: u64,
    /// Of each of the 32 clients that fill the memory budget.
    pub memory: u64,
    pub memory_runs: usize,
    /// Of blobs through the registry.
    pub forwarded: u64,
    pub small_pushes: usize,
    pub small_requests: usize,
}

pub struct Session<'a> {
    pub making: &'a Making,
    pub extent: &'a Extent,
    pub source: Source,
    pub samples: Vec<Sample>,
}

impl Scenario {
    pub const ALL: [Self; 11] = [
        Self::Idle,
        Self::Sink,
        Self::Real,
        Self::Distant,
        Self::DistantSink,
        Self::Small,
        Self::Sizes,
        Self::Clients,
        Self::Protocols,
        Self::Memory,
        Self::Forward,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sink => "sink",
            Self::Real => "real",
            Self::Distant => "distant",
            Self::DistantSink => "distant-sink",
            Self::Small => "small",
            Self::Sizes => "sizes",
            Self::Clients => "clients",
            Self::Protocols => "protocols",
            Self::Memory => "memory",
            Self::Forward => "forward",
            Self::Idle => "idle",
        }
    }

    /// In one sentence.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        let help = value.and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    pub fn run(self, session: &mut Session<'_>) -> Result<()> {
        use Contender::{Blobgate, Direct, Distribution, Fixed, Limit, Spool};
        match self {
            Self::Sink => session.large(self, SINK, &[Limit, Direct, Blobgate, Spool]),
            Self::Real => session.large(self, S3, &[Direct, Blobgate, Distribution, Spool]),
            Self::Distant => {
                let all = [Direct, Blobgate, Fixed, Distribution, Spool];
                session.large(self, DISTANT_S3, &all)
            }
            Self::DistantSink => session.large(self, DISTANT_SINK, &[Direct, Blobgate, Spool]),
            Self::Small => session.small(self),
            Self::Sizes => session.sizes(self),
            Self::Clients => session.clients(self),
            Self::Protocols => session.protocols(self),
            Self::Memory => session.memory(self),
            Self::Forward => forward::run(session),
            Self::Idle => session.idle(self),
        }
    }
}

const SINK: Store = Store {
    real: false,
    distant: false,
};
const DISTANT_SINK: Store = Store {
    real: false,
    distant: true,
};
pub const S3: Store = Store {
    real: true,
    distant: false,
};
const DISTANT_S3: Store = Store {
    real: true,
    distant: true,
};

impl Session<'_> {
    pub fn take(&mut self, sample: Sample) {
        let Case {
            contender,
            protocol,
            size,
            clients,
            ..
        } = &sample.case;
        eprintln!(
            "  run {}  {contender:<22} {protocol:<13} {clients:>2} × {:<8} {:>9.3} s  p50 {:.4} s",
            sample.run + 1,
            stats::size(*size),
            sample.wall,
            stats::Spread::of(&sample.latencies).median,
        );
        self.samples.push(sample);
    }

    fn push(
        &mut self,
        scenario: Scenario,
        bed: &Bed,
        contender: Contender,
        load: Load,
        run: usize,
    ) -> Result<()> {
        let sample = contender.run(bed, &self.source, scenario.name(), load, run)?;
        self.take(sample);
        Ok(())
    }

    /// One blob, one client, all contenders in turn.
    fn large(&mut self, scenario: Scenario, store: Store, contenders: &[Contender]) -> Result<()> {
        let shipped = Bed::new(self.making, store)?;
        let fixed = match contenders.contains(&Contender::Fixed) {
            true => Some(Bed::new(&self.making.with(FIXED), store)?),
            false => None,
        };
        let bed = |contender| match (contender, &fixed) {
            (Contender::Fixed, Some(fixed)) => fixed,
            _ => &shipped,
        };
        let size = match store.distant {
            true => self.extent.distant,
            false => self.extent.large,
        };
        // So that no one pays for what is done only once: connections, and memory from the kernel.
        for contender in contenders {
            let load = Load::one(size.min(WARM_UP));
            contender.run(bed(*contender), &self.source, scenario.name(), load, 0)?;
        }
        for run in 0..self.extent.runs {
            for contender in contenders {
                self.push(scenario, bed(*contender), *contender, Load::one(size), run)?;
            }
        }
        Ok(())
    }

    fn small(&mut self, scenario: Scenario) -> Result<()> {
        let bed = Bed::new(self.making, DISTANT_S3)?;
        let contenders = [
            Contender::Blobgate,
            Contender::Distribution,
            Contender::Spool,
        ];
        for run in 0..self.extent.runs {
            for contender in contenders {
                let rows = calls_in_a_row(&bed, &self.source, contender)
                    .map_err(|error| contender.blame(scenario.name(), &error))?;
                let mut load = Load::one(SMALL);
                load.pushes = self.extent.small_pushes;
                let mut sample = contender.run(&bed, &self.source, scenario.name(), load, run)?;
                sample.calls_in_a_row = Some(rows);
                self.take(sample);
                load.clients = 32;
                load.pushes = load.pushes.div_ceil(4);
                self.push(scenario, &bed, contender, load, run)?;
            }
        }
        Ok(())
    }

    fn sizes(&mut self, scenario: Scenario) -> Result<()> {
        // Small ones several times in a row, as a clock tick is long beside one.
        let sizes = [
            (SMALL, 200),
            (MIB, 100),
            (64 * MIB, 8),
            (GIB, 1),
            (8 * GIB, 1),
        ];
        for run in 0..self.extent.runs {
            for (size, pushes) in sizes {
                if size <= self.extent.max_size {
                    let load = Load {
                        pushes,
                        ..Load::one(size)
                    };
                    self.fresh(scenario, SINK, Contender::Blobgate, load, run)?;
                }
            }
        }
        Ok(())
    }

    fn clients(&mut self, scenario: Scenario) -> Result<()> {
        for run in 0..self.extent.runs {
            for clients in [1, 8, 32] {
                let load = Load {
                    clients,
                    ..Load::one(self.extent.crowd)
                };
                self.fresh(scenario, SINK, Contender::Blobgate, load, run)?;
            }
        }
        Ok(())
    }

    fn memory(&mut self, scenario: Scenario) -> Result<()> {
        for run in 0..self.extent.memory_runs {
            let load = Load {
                clients: 32,
                ..Load::one(self.extent.memory)
            };
            for contender in [Contender::Blobgate, Contender::Wide] {
                self.fresh(scenario, DISTANT_SINK, contender, load, run)?;
            }
        }
        Ok(())
    }

    /// blobgate in a process that has taken no more than a small blob: its peak of memory is to be
    /// that of this load, and not of the one before.
    fn fresh(
        &mut self,
        scenario: Scenario,
        store: Store,
        contender: Contender,
        load: Load,
        run: usize,
    ) -> Result<()> {
        let bed = match contender {
            Contender::Wide => Bed::new(&self.making.with(WIDE), store)?,
            _ => Bed::new(self.making, store)?,
        };
        let first = Load::one(SMALL);
        contender.run(&bed, &self.source, scenario.name(), first, run)?;
        self.push(scenario, &bed, contender, load, run)
    }

    fn protocols(&mut self, scenario: Scenario) -> Result<()> {
        let plain = Bed::new(self.making, SINK)?;
        let tls = Bed::with_tls(self.making, SINK)?;
        for run in 0..self.extent.runs {
            for protocol in [Protocol::Http1, Protocol::Tls, Protocol::Http2] {
                let bed = match protocol {
                    Protocol::Http1 => &plain,
                    _ => &tls,
                };
                let load = Load {
                    protocol,
                    ..Load::one(self.extent.large)
                };
                self.push(scenario, bed, Contender::Blobgate, load, run)?;
            }
        }
        Ok(())
    }

    fn idle(&mut self, scenario: Scenario) -> Result<()> {
        for run in 0..self.extent.runs.min(3) {
            let bed = Bed::new(self.making, S3)?;
            let mut case = case(scenario, &bed, "blobgate", 0);
            case.clients = 0;
            let sample = measure(&bed, &case, run, || {
                std::thread::sleep(SETTLE);
                Ok(Vec::new())
            })?;
            self.take(sample);
        }
        Ok(())
    }
}

/// S3 calls that a small push waits for one after another. Each push is looked at alone, on
/// connections that are warm.
fn calls_in_a_row(bed: &Bed, source: &Source, contender: Contender) -> Result<f64> {
    const PUSHES: usize = 5;
    let mut client = contender.connect(bed, Protocol::Http1)?;
    client.push(&source.blob(SMALL), contender.manner())?;
    let mut counts = Vec::new();
    for _ in 0..PUSHES {
        let blob = source.blob(SMALL);
        bed.control.clear()?;
        client.push(&blob, contender.manner())?;
        counts.push(bed.control.calls()?.one_after_another(ROUND_TRIP) as f64);
    }
    Ok(stats::Spread::of(&counts).median)
}

pub fn case(scenario: Scenario, bed: &Bed, contender: &'static str, size: u64) -> Case {
    Case {
        scenario: scenario.name(),
        store: bed.store.name(),
        contender,
        protocol: Protocol::Http1.name(),
        size,
        clients: 1,
    }
}

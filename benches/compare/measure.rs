//! One measurement: what was done, how long it took, and what every process used meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Result;
use crate::bed::Bed;

/// What a run leaves to do behind it (files to remove, memory to give back) is not to be paid by the
/// next one.
const SETTLE: Duration = Duration::from_millis(100);

/// What is measured; samples of the same case are runs of the same thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Case {
    pub scenario: &'static str,
    pub store: &'static str,
    pub contender: &'static str,
    pub protocol: &'static str,
    /// Of one blob, bytes.
    pub size: u64,
    pub clients: usize,
}

/// One run of a case.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    #[serde(flatten)]
    pub case: Case,
    /// From 0; runs of the same number were made right after one another.
    pub run: usize,
    /// From the first request to the last answer, seconds.
    pub wall: f64,
    /// Pushes or other requests in that time.
    pub requests: usize,
    /// Bytes of blobs in that time.
    pub bytes: u64,
    /// Of each request, seconds.
    pub latencies: Vec<f64>,
    /// Seconds of each process.
    pub cpu: BTreeMap<&'static str, f64>,
    /// Bytes, of each process.
    pub peak_rss: BTreeMap<&'static str, u64>,
    /// S3 calls by operation, those of the registry included where it is on the same store.
    pub calls: BTreeMap<String, u64>,
    /// S3 calls that one request waited for one after another; where that was counted.
    pub calls_in_a_row: Option<f64>,
}

impl Sample {
    /// Bytes a second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.wall
    }

    /// CPU seconds per GiB of some processes together.
    pub fn cpu_per_gib(&self, processes: &[&str]) -> f64 {
        let cpu: f64 = processes.iter().filter_map(|name| self.cpu.get(name)).sum();
        cpu / (self.bytes as f64 / (1_u64 << 30) as f64)
    }
}

/// Does something and measures it. It returns the latency of each of its requests in seconds.
pub fn measure(
    bed: &Bed,
    case: &Case,
    run: usize,
    work: impl FnOnce() -> Result<Vec<f64>>,
) -> Result<Sample> {
    std::thread::sleep(SETTLE);
    let processes = bed.processes();
    let calls_before = bed.control.calls()?.by_operation();
    let mut before = BTreeMap::new();
    for (name, usage) in &processes {
        usage.forget_peak()?;
        before.insert(*name, usage.cpu_seconds()?);
    }
    let began = Instant::now();
    let latencies = work()?;
    let wall = began.elapsed().as_secs_f64();
    let (mut cpu, mut peak_rss) = (BTreeMap::new(), BTreeMap::new());
    for (name, usage) in &processes {
        cpu.insert(*name, usage.cpu_seconds()? - before[name]);
        peak_rss.insert(*name, usage.peak_rss_bytes()?);
    }
    let mut calls = bed.control.calls()?.by_operation();
    for (operation, count) in calls_before {
        *calls.entry(operation).or_insert(count) -= count;
    }
    calls.retain(|_, count| *count > 0);
    Ok(Sample {
        case: case.clone(),
        run,
        wall,
        requests: latencies.len(),
        bytes: latencies.len() as u64 * case.size,
        latencies,
        cpu,
        peak_rss,
        calls,
        calls_in_a_row: None,
    })
}

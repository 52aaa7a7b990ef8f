//! Where blobgate must get, and whether it got there.

use serde::Serialize;

use crate::bed::BYTES_PER_SECOND;
use crate::contender::FIXED_PARTS;
use crate::results::{Results, own_cpu, own_rss};
use crate::stats::{self, Spread};

/// One row of the table.
#[derive(Debug, Serialize)]
pub struct Target {
    pub figure: String,
    pub must: String,
    /// As written; none where nothing was measured.
    pub is: Option<String>,
    pub reached: Option<bool>,
}

/// What blobgate may take beside its memory budget, MiB.
const BESIDE: f64 = 64.0;

enum Bound {
    Most(f64),
    Least(f64),
}

impl Target {
    fn new(figure: impl Into<String>, bound: Bound, unit: &str, is: Option<f64>) -> Self {
        let number = |value: f64| match value {
            v if v.abs() >= 100.0 => format!("{v:.0}{unit}"),
            v => format!("{v:.2}{unit}"),
        };
        let (must, reached) = match bound {
            Bound::Most(most) => (format!("≤ {}", number(most)), is.map(|is| is <= most)),
            Bound::Least(least) => (format!("≥ {}", number(least)), is.map(|is| is >= least)),
        };
        Self {
            figure: figure.into(),
            must,
            is: is.map(number),
            reached,
        }
    }
}

/// Every row, also those whose scenario was not run.
pub fn all(results: &Results) -> Vec<Target> {
    use Bound::{Least, Most};
    let wall = |sample: &crate::measure::Sample| sample.wall;
    let ratio = |scenario, pair| results.ratio(scenario, pair, wall);
    let cpu = |scenario, pair| results.ratio(scenario, pair, own_cpu);
    let parts_in_flight = (FIXED_PARTS * BYTES_PER_SECOND) as f64;
    let [large, distant, memory] = [
        results.setup.large,
        results.setup.distant,
        results.setup.memory,
    ]
    .map(stats::size);
    let budget = stats::mib(results.setup.memory_budget as f64);
    vec![
        Target::new(
            format!("{large}, sink: CPU of blobgate per GiB, of the limit's"),
            Most(1.25),
            " ×",
            results.ratio("sink", ("blobgate", "limit"), |sample| {
                match sample.case.contender {
                    "blobgate" => sample.cpu_per_gib(&["blobgate"]),
                    _ => own_cpu(sample),
                }
            }),
        ),
        Target::new(
            format!("{large}, sink: wall time, of direct's"),
            Most(1.2),
            " ×",
            ratio("sink", ("blobgate", "direct")),
        ),
        Target::new(
            format!("{large}, S3: times as fast as distribution"),
            Least(2.5),
            " ×",
            ratio("real", ("distribution", "blobgate")),
        ),
        Target::new(
            format!("{large}, S3: CPU, of distribution's"),
            Most(1.0 / 3.0),
            " ×",
            cpu("real", ("blobgate", "distribution")),
        ),
        Target::new(
            format!("{distant}, distant S3: times as fast as distribution"),
            Least(4.0),
            " ×",
            ratio("distant", ("distribution", "blobgate")),
        ),
        Target::new(
            format!("{distant}, distant S3: times as fast as spool-then-upload"),
            Least(2.0),
            " ×",
            ratio("distant", ("spool-then-upload", "blobgate")),
        ),
        Target::new(
            format!("{distant}, distant S3: throughput with 4 parts in flight, of 4 × 50 MB/s"),
            Least(0.9),
            " ×",
            results.case("distant", "blobgate, 4 parts", 1).map(|case| {
                results
                    .spread(case, |sample| sample.rate() / parts_in_flight)
                    .median
            }),
        ),
        Target::new(
            "4 KiB, distant S3: p50, of distribution's",
            Most(0.2),
            " ×",
            results.ratio("small", ("blobgate", "distribution"), |sample| {
                Spread::of(&sample.latencies).median
            }),
        ),
        Target::new(
            "4 KiB, distant S3: S3 round trips one after another",
            Most(2.0),
            "",
            results.case("small", "blobgate", 1).map(|case| {
                results
                    .spread(case, |s| s.calls_in_a_row.unwrap_or(f64::NAN))
                    .max
            }),
        ),
        Target::new(
            format!("32 clients × {memory}: peak RSS, largest of all runs"),
            Most(budget + BESIDE),
            " MiB",
            ["blobgate", "blobgate, 32 slots"]
                .into_iter()
                .filter_map(|name| results.case("memory", name, 32))
                .map(|case| stats::mib(results.spread(case, own_rss).max))
                .reduce(f64::max),
        ),
        Target::new(
            format!("32 clients × {memory}, 32 slots: slowest client's time, of the fastest's"),
            Most(2.0),
            " ×",
            results
                .case("memory", "blobgate, 32 slots", 32)
                .map(|case| results.spread(case, unfairness).median),
        ),
        Target::new(
            "forwarded PATCH: throughput, of that straight to the registry",
            Least(0.95),
            " ×",
            ratio("forward", ("PATCH straight", "PATCH through blobgate")),
        ),
        Target::new(
            "forwarded GET: throughput, of that straight to the registry",
            Least(0.95),
            " ×",
            ratio("forward", ("GET straight", "GET through blobgate")),
        ),
        Target::new(
            "forwarded small GET: added latency, p50",
            Most(1.0),
            " ms",
            added_latency(results),
        ),
        Target::new(
            "idle process: RSS",
            Most(25.0),
            " MiB",
            results
                .case("idle", "blobgate", 0)
                .map(|case| stats::mib(results.spread(case, own_rss).max)),
        ),
    ]
}

/// The slowest client's time divided by the fastest's.
pub fn unfairness(sample: &crate::measure::Sample) -> f64 {
    let Spread { min, max, .. } = Spread::of(&sample.latencies);
    max / min
}

/// Milliseconds.
fn added_latency(results: &Results) -> Option<f64> {
    let p50 = |contender| {
        let case = results.case("forward", contender, 1)?;
        Some(
            results
                .spread(case, |s| Spread::of(&s.latencies).median)
                .median,
        )
    };
    Some((p50("small GET through blobgate")? - p50("small GET straight")?) * 1e3)
}

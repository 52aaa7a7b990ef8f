//! Every metric blobgate has.

use crate::store::sweep::SweepReport;
use crate::store::{FaultClass, StoreObserver, StoreOperation};
use crate::upload::{Admission, BodyError, UploadError};
use crate::upstream::{Permission, UpstreamError};
use http::StatusCode;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use std::time::Duration;

/// All metrics, registered once. Labels come from closed sets only: never a repository, a digest or
/// an error's text.
pub struct Metrics {
    pub aborts: IntCounter,
    pub aborts_failed: IntCounter,
    pushes: IntCounterVec,
    push_seconds: Histogram,
    pub received_bytes: IntCounter,
    store_calls: IntCounterVec,
    store_retries: IntCounterVec,
    sweep_passes: IntCounterVec,
    sweep_uploads: IntCounterVec,
    forwarded: IntCounterVec,
    probes: IntCounterVec,
    uploads_streaming: IntGauge,
    uploads_waiting: IntGauge,
    memory_used: IntGauge,
    memory_budget: IntGauge,
}

const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const SWEEP_PASSES: [&str; 2] = ["complete", "cut_short"];
const SWEEP_UPLOADS: [&str; 4] = ["live", "reported", "aborted", "failed"];
const PROBE_ANSWERS: [&str; 4] = ["granted", "refused", "no_answer", "unclear"];

impl Metrics {
    /// # Errors
    /// When a metric of the same name is in the registry already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        // Every label value is there from the start, at zero: a rate needs the step from nothing.
        let counters = |name: &str, help: &str, labels: &[(&str, &[&str])]| {
            let names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
            let counters = IntCounterVec::new(Opts::new(name, help), &names)?;
            let mut values: Vec<Vec<&str>> = vec![Vec::new()];
            for (_, choices) in labels {
                values = values
                    .iter()
                    .flat_map(|before| {
                        choices
                            .iter()
                            .map(move |choice| [before, &[*choice][..]].concat())
                    })
                    .collect();
            }
            for values in &values {
                counters.with_label_values(values);
            }
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let operations = StoreOperation::ALL.map(StoreOperation::as_str);
        let faults = FaultClass::ALL.map(FaultClass::as_str);
        let push_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "blobgate_push_duration_seconds",
                "Time from the end of a blob push's header to its answer.",
            )
            .buckets(vec![
                0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
                300.0, 600.0, 1800.0, 3600.0,
            ]),
        )?;
        registry.register(Box::new(push_seconds.clone()))?;
        Ok(Self {
            aborts: counter(
                "blobgate_multipart_aborts_total",
                "Multipart uploads that blobgate gave up and asked the store to drop.",
            )?,
            aborts_failed: counter(
                "blobgate_multipart_aborts_failed_total",
                "Multipart uploads that the store could not be made to drop in time.",
            )?,
            pushes: counters(
                "blobgate_pushes_total",
                "Blob pushes by outcome.",
                &[("outcome", &PushOutcome::ALL.map(PushOutcome::as_str))],
            )?,
            push_seconds,
            received_bytes: counter(
                "blobgate_received_bytes_total",
                "Bytes of blob bodies received from clients.",
            )?,
            store_calls: counters(
                "blobgate_store_calls_total",
                "Attempts of store calls, by operation and outcome.",
                &[
                    ("operation", &operations),
                    ("outcome", &[&["ok"][..], &faults].concat()),
                ],
            )?,
            store_retries: counters(
                "blobgate_store_retries_total",
                "Store calls sent again after a failed attempt, by operation and fault.",
                &[("operation", &operations), ("fault", &faults)],
            )?,
            sweep_passes: counters(
                "blobgate_sweep_passes_total",
                "Passes of the sweep over the bucket's open multipart uploads, by outcome.",
                &[("outcome", &SWEEP_PASSES)],
            )?,
            sweep_uploads: counters(
                "blobgate_sweep_uploads_total",
                "Open multipart uploads at blob keys that a sweep has seen, by what it did.",
                &[("outcome", &SWEEP_UPLOADS)],
            )?,
            forwarded: counters(
                "blobgate_forwarded_requests_total",
                "Requests forwarded to the upstream registry, by status class of the answer.",
                &[("status", &STATUS_CLASSES)],
            )?,
            probes: counters(
                "blobgate_authorisation_probes_total",
                "Questions to the upstream whether a client may push, by answer.",
                &[("answer", &PROBE_ANSWERS)],
            )?,
            uploads_streaming: gauge(
                "blobgate_uploads_streaming",
                "Uploads that hold a slot now.",
            )?,
            uploads_waiting: gauge(
                "blobgate_uploads_waiting",
                "Uploads that wait for a slot or for memory now.",
            )?,
            memory_used: gauge(
                "blobgate_memory_budget_used_bytes",
                "Part buffers reserved now, in bytes.",
            )?,
            memory_budget: gauge(
                "blobgate_memory_budget_bytes",
                "Part buffers that may be reserved at once, in bytes.",
            )?,
        })
    }
}

/// How a blob push can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushOutcome {
    /// Received, verified and written to the bucket.
    Stored,
    /// The repository had it already.
    Existing,
    /// The bucket had it already; the client proved to have it, and it was linked.
    Linked,
    /// The upstream said no.
    Refused,
    /// It could not be learned whether the push is allowed, or what is there already.
    Unauthorisable,
    BadRequest,
    TooLong,
    LengthMismatch,
    DigestMismatch,
    ClientGone,
    ClientSlow,
    AdmissionTimeout,
    StoreFailed,
    ShuttingDown,
    Internal,
}

impl PushOutcome {
    pub const ALL: [PushOutcome; 15] = [
        Self::Stored,
        Self::Existing,
        Self::Linked,
        Self::Refused,
        Self::Unauthorisable,
        Self::BadRequest,
        Self::TooLong,
        Self::LengthMismatch,
        Self::DigestMismatch,
        Self::ClientGone,
        Self::ClientSlow,
        Self::AdmissionTimeout,
        Self::StoreFailed,
        Self::ShuttingDown,
        Self::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Existing => "existing",
            Self::Linked => "linked",
            Self::Refused => "refused",
            Self::Unauthorisable => "unauthorisable",
            Self::BadRequest => "bad_request",
            Self::TooLong => "too_long",
            Self::LengthMismatch => "length_mismatch",
            Self::DigestMismatch => "digest_mismatch",
            Self::ClientGone => "client_gone",
            Self::ClientSlow => "client_slow",
            Self::AdmissionTimeout => "admission_timeout",
            Self::StoreFailed => "store_failed",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
        }
    }

    pub fn of_failure(error: &UploadError) -> Self {
        match error {
            UploadError::AdmissionTimeout(_) => Self::AdmissionTimeout,
            UploadError::TooLong { .. } => Self::TooLong,
            UploadError::LengthMismatch { .. } => Self::LengthMismatch,
            UploadError::DigestMismatch { .. } => Self::DigestMismatch,
            UploadError::Body(BodyError::ClientGone) => Self::ClientGone,
            UploadError::Request(_) | UploadError::Body(BodyError::Framing(_)) => Self::BadRequest,
            UploadError::Body(BodyError::Idle(_) | BodyError::TooSlow { .. }) => Self::ClientSlow,
            UploadError::Store(_) | UploadError::DataUnfit { .. } => Self::StoreFailed,
            UploadError::ShuttingDown => Self::ShuttingDown,
            UploadError::Internal(_) => Self::Internal,
        }
    }
}

impl Metrics {
    /// Counts a push that came to its end.
    pub fn push(&self, outcome: PushOutcome, took: Duration) {
        self.pushes.with_label_values(&[outcome.as_str()]).inc();
        self.push_seconds.observe(took.as_secs_f64());
    }

    /// Counts an answer to the question whether a client may push.
    pub fn probe(&self, answer: &Result<Permission, UpstreamError>) {
        let answer = match answer {
            Ok(Permission::Granted) => "granted",
            Ok(Permission::Refused(_)) => "refused",
            Err(UpstreamError::NoAnswer(_)) => "no_answer",
            Err(UpstreamError::Unclear { .. } | UpstreamError::Question(_)) => "unclear",
        };
        self.probes.with_label_values(&[answer]).inc();
    }

    /// Counts what a pass of the sweep found and did.
    pub fn sweep(&self, pass: &SweepReport) {
        let outcome = SWEEP_PASSES[usize::from(pass.cut_short.is_some())];
        self.sweep_passes.with_label_values(&[outcome]).inc();
        let counts = [
            pass.listed - pass.orphaned - pass.unknown,
            pass.orphaned - pass.aborted - pass.failed,
            pass.aborted,
            pass.failed + pass.unknown,
        ];
        for (outcome, count) in SWEEP_UPLOADS.iter().zip(counts) {
            self.sweep_uploads
                .with_label_values(&[*outcome])
                .inc_by(count);
        }
    }

    /// Counts an answer to a forwarded request, the upstream's or our own in its place.
    pub fn forwarded(&self, status: StatusCode) {
        let class = match status.as_u16() {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.forwarded.with_label_values(&[class]).inc();
    }
}

impl Metrics {
    /// Takes over what admission knows, for a scrape.
    pub fn admission(&self, admission: &Admission) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.uploads_streaming
            .set(gauge(admission.slots_in_use() as u64));
        self.uploads_waiting.set(gauge(admission.waiting() as u64));
        self.memory_used.set(gauge(admission.memory_in_use()));
        self.memory_budget.set(gauge(admission.memory_budget()));
    }
}

impl StoreObserver for Metrics {
    fn attempt(&self, operation: StoreOperation, outcome: Result<(), FaultClass>, _: Duration) {
        let outcome = outcome.map_or_else(FaultClass::as_str, |()| "ok");
        self.store_calls
            .with_label_values(&[operation.as_str(), outcome])
            .inc();
    }

    fn retry(&self, operation: StoreOperation, class: FaultClass) {
        self.store_retries
            .with_label_values(&[operation.as_str(), class.as_str()])
            .inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Name, type and label names of every metric.
    fn registered() -> BTreeMap<String, (String, String)> {
        let registry = Registry::new();
        let _metrics = Metrics::new(&registry).unwrap();
        let families = registry.gather();
        let describe = |family: &prometheus::proto::MetricFamily| {
            let labels: Vec<&str> = family.get_metric()[0]
                .get_label()
                .iter()
                .map(|label| label.name())
                .collect();
            let kind = format!("{:?}", family.get_field_type()).to_lowercase();
            (family.name().to_owned(), (kind, labels.join(", ")))
        };
        families.iter().map(describe).collect()
    }

    /// The same as `docs/METRICS.md` has it, in the rows of its tables.
    fn documented() -> BTreeMap<String, (String, String)> {
        let rows = include_str!("../docs/METRICS.md")
            .lines()
            .filter(|line| line.starts_with("| `blobgate_"));
        let unquote = |cell: &str| cell.trim().replace('`', "");
        rows.map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            (unquote(cells[1]), (unquote(cells[2]), unquote(cells[3])))
        })
        .collect()
    }

    #[test]
    fn the_documented_metrics_are_the_real_ones() {
        assert_eq!(documented(), registered());
    }

    #[test]
    fn every_label_value_is_documented() {
        let text = include_str!("../docs/METRICS.md");
        let values = PushOutcome::ALL.map(PushOutcome::as_str);
        let faults = FaultClass::ALL.map(FaultClass::as_str);
        let operations = StoreOperation::ALL.map(StoreOperation::as_str);
        for value in values
            .iter()
            .chain(&faults)
            .chain(&operations)
            .chain(&STATUS_CLASSES)
            .chain(&PROBE_ANSWERS)
            .chain(&SWEEP_PASSES)
            .chain(&SWEEP_UPLOADS)
        {
            assert!(text.contains(&format!("`{value}`")), "{value}");
        }
    }
}

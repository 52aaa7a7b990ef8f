//! Every metric blobgate has.

mod families;
mod outcome;
#[cfg(test)]
mod tests;

pub use outcome::PushOutcome;

use crate::store::sweep::SweepReport;
use crate::store::{FaultClass, StoreObserver, StoreOperation};
use crate::upload::{Admission, Phase, PushRecord};
use crate::upstream::{Permission, UpstreamError};
use families::{Families, SECONDS};
use http::{Method, StatusCode};
use prometheus::{Counter, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry};
use std::time::Duration;

/// All metrics, registered once. Labels come from closed sets only: never a repository, a digest or
/// an error's text.
#[derive(Debug)]
pub struct Metrics {
    pub aborts: IntCounter,
    pub aborts_failed: IntCounter,
    pub received_bytes: IntCounter,
    /// Seconds.
    pub client_wait: Counter,
    /// Seconds.
    pub store_wait: Counter,
    uploaded_bytes: IntCounter,
    deduplicated_bytes: IntCounter,
    pushes: IntCounterVec,
    push_seconds: Histogram,
    phase_seconds: HistogramVec,
    part_uploads: IntCounterVec,
    part_attempts: Histogram,
    part_seconds: Histogram,
    store_calls: IntCounterVec,
    store_seconds: HistogramVec,
    store_retries: IntCounterVec,
    sweep_passes: IntCounterVec,
    sweep_uploads: IntCounterVec,
    forwarded: IntCounterVec,
    forwarded_seconds: HistogramVec,
    forwarded_received: IntCounterVec,
    forwarded_sent: IntCounterVec,
    probes: IntCounterVec,
    uploads_streaming: IntGauge,
    uploads_waiting: IntGauge,
    memory_used: IntGauge,
    memory_budget: IntGauge,
}

const METHOD_CLASSES: [&str; 4] = ["read", "write", "delete", "other"];
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const ATTEMPT_OUTCOMES: [&str; 2] = ["ok", "failed"];
const SWEEP_PASSES: [&str; 2] = ["complete", "cut_short"];
const SWEEP_UPLOADS: [&str; 4] = ["live", "reported", "aborted", "failed"];
const PROBE_ANSWERS: [&str; 4] = ["granted", "refused", "no_answer", "unclear"];

/// Tries of one part upload.
const ATTEMPTS: [f64; 8] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0];

impl Metrics {
    /// # Errors
    /// When a metric of the same name is in the registry already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let make = Families(registry);
        let operations = StoreOperation::ALL.map(StoreOperation::as_str);
        let faults = FaultClass::ALL.map(FaultClass::as_str);
        let ok_or_fault = [&["ok"][..], &faults].concat();
        make.info(
            "blobgate_build_info",
            "The version of blobgate that runs; the value is always 1.",
            "version",
            env!("CARGO_PKG_VERSION"),
        )?;
        Ok(Self {
            aborts: make.counter(
                "blobgate_multipart_aborts_total",
                "Multipart uploads that blobgate gave up and asked the store to drop.",
            )?,
            aborts_failed: make.counter(
                "blobgate_multipart_aborts_failed_total",
                "Multipart uploads that the store could not be made to drop in time.",
            )?,
            received_bytes: make.counter(
                "blobgate_received_bytes_total",
                "Bytes of blob bodies received from clients.",
            )?,
            client_wait: make.seconds(
                "blobgate_push_client_wait_seconds_total",
                "Seconds that pushes have waited for their clients to send.",
            )?,
            store_wait: make.seconds(
                "blobgate_push_store_wait_seconds_total",
                "Seconds that pushes have waited for the store, to take parts and to commit.",
            )?,
            uploaded_bytes: make.counter(
                "blobgate_uploaded_bytes_total",
                "Bytes of blobs that were received, verified and written to the bucket.",
            )?,
            deduplicated_bytes: make.counter(
                "blobgate_deduplicated_bytes_total",
                "Bytes of pushed blobs that the bucket had already, and that were not uploaded.",
            )?,
            pushes: make.counters(
                "blobgate_pushes_total",
                "Blob pushes by outcome.",
                &[("outcome", &PushOutcome::ALL.map(PushOutcome::as_str))],
            )?,
            push_seconds: make.histogram(
                "blobgate_push_duration_seconds",
                "Time from the end of a blob push's header to its answer.",
                &SECONDS,
            )?,
            phase_seconds: make.durations(
                "blobgate_push_phase_duration_seconds",
                "Time that a blob push spent in a phase, of the phases it came to.",
                &[("phase", &Phase::ALL.map(Phase::as_str))],
            )?,
            part_uploads: make.counters(
                "blobgate_part_uploads_total",
                "Parts of multipart uploads that came to an end, retries and all, by outcome.",
                &[("outcome", &ok_or_fault)],
            )?,
            part_attempts: make.histogram(
                "blobgate_part_upload_attempts",
                "Attempts that the upload of a part took.",
                &ATTEMPTS,
            )?,
            part_seconds: make.histogram(
                "blobgate_part_upload_duration_seconds",
                "Time that the upload of a part took, with all its attempts and waits.",
                &SECONDS,
            )?,
            store_calls: make.counters(
                "blobgate_store_calls_total",
                "Attempts of store calls, by operation and outcome.",
                &[("operation", &operations), ("outcome", &ok_or_fault)],
            )?,
            store_seconds: make.durations(
                "blobgate_store_call_duration_seconds",
                "Time that an attempt of a store call took.",
                &[("operation", &operations), ("outcome", &ATTEMPT_OUTCOMES)],
            )?,
            store_retries: make.counters(
                "blobgate_store_retries_total",
                "Store calls sent again after a failed attempt, by operation and fault.",
                &[("operation", &operations), ("fault", &faults)],
            )?,
            sweep_passes: make.counters(
                "blobgate_sweep_passes_total",
                "Passes of the sweep over the bucket's open multipart uploads, by outcome.",
                &[("outcome", &SWEEP_PASSES)],
            )?,
            sweep_uploads: make.counters(
                "blobgate_sweep_uploads_total",
                "Open multipart uploads at blob keys that a sweep has seen, by what it did.",
                &[("outcome", &SWEEP_UPLOADS)],
            )?,
            forwarded: make.counters(
                "blobgate_forwarded_requests_total",
                "Requests forwarded to the upstream registry, by class of method and of status.",
                &[("method", &METHOD_CLASSES), ("status", &STATUS_CLASSES)],
            )?,
            forwarded_seconds: make.durations(
                "blobgate_forwarded_request_duration_seconds",
                "Time from the end of a forwarded request's header to the end of its answer.",
                &[("method", &METHOD_CLASSES)],
            )?,
            forwarded_received: make.counters(
                "blobgate_forwarded_received_bytes_total",
                "Bytes of forwarded requests' bodies received from clients.",
                &[("method", &METHOD_CLASSES)],
            )?,
            forwarded_sent: make.counters(
                "blobgate_forwarded_sent_bytes_total",
                "Bytes of forwarded requests' answers sent to clients, their headers not counted.",
                &[("method", &METHOD_CLASSES)],
            )?,
            probes: make.counters(
                "blobgate_authorisation_probes_total",
                "Questions to the upstream whether a client may push, by answer.",
                &[("answer", &PROBE_ANSWERS)],
            )?,
            uploads_streaming: make.gauge(
                "blobgate_uploads_streaming",
                "Uploads that hold a slot now.",
            )?,
            uploads_waiting: make.gauge(
                "blobgate_uploads_waiting",
                "Uploads that wait for a slot or for memory now.",
            )?,
            memory_used: make.gauge(
                "blobgate_memory_budget_used_bytes",
                "Part buffers reserved now, in bytes.",
            )?,
            memory_budget: make.gauge(
                "blobgate_memory_budget_bytes",
                "Part buffers that may be reserved at once, in bytes.",
            )?,
        })
    }
}

impl Metrics {
    /// Counts a push that came to its end. `size` of the blob in bytes, where it succeeded.
    pub fn push(&self, outcome: PushOutcome, took: Duration, size: Option<u64>) {
        self.pushes.with_label_values(&[outcome.as_str()]).inc();
        self.push_seconds.observe(took.as_secs_f64());
        let bytes = match outcome {
            PushOutcome::Stored => &self.uploaded_bytes,
            _ => &self.deduplicated_bytes,
        };
        bytes.inc_by(size.unwrap_or(0));
    }

    /// Takes over where a push's time went.
    pub fn phases(&self, record: &PushRecord) {
        for phase in Phase::ALL {
            if let Some(spent) = record.spent(phase) {
                self.phase_seconds
                    .with_label_values(&[phase.as_str()])
                    .observe(spent.as_secs_f64());
            }
        }
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
    pub fn forwarded(&self, method: &Method, status: StatusCode) {
        let status = match status.as_u16() {
            100..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            _ => "5xx",
        };
        self.forwarded
            .with_label_values(&[method_class(method), status])
            .inc();
    }

    /// Counts what a forwarded request took, once it is over. `received` and `sent` in bytes.
    pub fn forwarding_ended(&self, method: &Method, took: Duration, received: u64, sent: u64) {
        let method = [method_class(method)];
        self.forwarded_seconds
            .with_label_values(&method)
            .observe(took.as_secs_f64());
        self.forwarded_received
            .with_label_values(&method)
            .inc_by(received);
        self.forwarded_sent.with_label_values(&method).inc_by(sent);
    }
}

/// Clients may send any word for a method.
fn method_class(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "read",
        Method::POST | Method::PUT | Method::PATCH => "write",
        Method::DELETE => "delete",
        _ => "other",
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
    fn attempt(&self, operation: StoreOperation, outcome: Result<(), FaultClass>, took: Duration) {
        let name = outcome.map_or_else(FaultClass::as_str, |()| "ok");
        self.store_calls
            .with_label_values(&[operation.as_str(), name])
            .inc();
        let ended = ATTEMPT_OUTCOMES[usize::from(outcome.is_err())];
        self.store_seconds
            .with_label_values(&[operation.as_str(), ended])
            .observe(took.as_secs_f64());
    }

    fn retry(&self, operation: StoreOperation, class: FaultClass) {
        self.store_retries
            .with_label_values(&[operation.as_str(), class.as_str()])
            .inc();
    }

    fn call(
        &self,
        operation: StoreOperation,
        outcome: Result<(), FaultClass>,
        attempts: u32,
        took: Duration,
    ) {
        if operation != StoreOperation::UploadPart {
            return;
        }
        let outcome = outcome.map_or_else(FaultClass::as_str, |()| "ok");
        self.part_uploads.with_label_values(&[outcome]).inc();
        self.part_attempts.observe(f64::from(attempts));
        self.part_seconds.observe(took.as_secs_f64());
    }
}

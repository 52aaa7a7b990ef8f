//! Faults at random between blobgate and its two neighbours.

use std::time::Duration;

use blobgate_testkit::faults::{Fault, FaultProxy, Rule};
use fastrand::Rng;

/// A fault for the store every so often, and for the registry after so many of these.
const EVERY: Duration = Duration::from_millis(60);
const STORE_FAULTS_PER_REGISTRY_FAULT: u64 = 10;

/// Rules that have done their work would otherwise be looked at for every call.
const FORGET_AFTER: u64 = 200;

const OPERATIONS: [&str; 6] = [
    "PutObject",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
    "HeadObject",
];

/// Adds faults until it is dropped.
pub async fn rage(store: &FaultProxy, registry: &FaultProxy, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    for round in 1_u64.. {
        tokio::time::sleep(EVERY).await;
        if round.is_multiple_of(FORGET_AFTER) {
            store.clear();
            registry.clear();
            // What hangs would do so for as long as blobgate waits.
            store.release();
        }
        let operation = OPERATIONS[rng.usize(..OPERATIONS.len())];
        // Three in a row now and then, as troubles come.
        let last = if rng.u8(..) < 40 { 3 } else { 1 };
        let fault = store_fault(operation, &mut rng);
        store.add(Rule::on(operation, fault).calls(1..=last));
        if round.is_multiple_of(STORE_FAULTS_PER_REGISTRY_FAULT) {
            let fault = registry_fault(&mut rng);
            registry.add(Rule::new(fault).target("/v2/").nth(1));
        }
    }
}

fn store_fault(operation: &str, rng: &mut Rng) -> Fault {
    let status = |status, code: &str| (status, code.to_owned());
    let (status, code) = match rng.u8(..8) {
        0 | 1 => status(503, "SlowDown"),
        2 => status(429, "TooManyRequests"),
        3 => status(403, "AccessDenied"),
        4 => status(400, "RequestTimeout"),
        _ => status(500, "InternalError"),
    };
    let complete = operation == "CompleteMultipartUpload";
    match rng.u8(..16) {
        0..4 => Fault::Status { status, code },
        4 => Fault::EarlyStatus { status, code },
        5 | 6 => Fault::StatusAfter { status, code },
        7 | 8 => Fault::CutAnswer,
        9 => Fault::ResetAfter(rng.u64(..200_000)),
        10 => Fault::CutBody(rng.u64(..40)),
        11 => Fault::Garbage,
        12 => Fault::NonAsciiHeader,
        13 if complete => Fault::OkWithErrorBody {
            code,
            effect: rng.bool(),
        },
        14 if complete => Fault::OkEmptyBody,
        15 => Fault::Hang { effect: rng.bool() },
        _ => Fault::Delay(Duration::from_millis(rng.u64(20..1500))),
    }
}

fn registry_fault(rng: &mut Rng) -> Fault {
    match rng.u8(..4) {
        0 => Fault::Status {
            status: 500,
            code: "UNKNOWN".to_owned(),
        },
        1 => Fault::CutAnswer,
        2 => Fault::ResetAfter(0),
        _ => Fault::Delay(Duration::from_millis(rng.u64(20..800))),
    }
}

//! Every call to S3 fails, hangs and lies, once and for good; the registry goes away in the middle of
//! a push; replicas push the same blob. The client gets the right answer, the bucket holds the
//! verified blob or nothing, and nothing stays open or reserved.
#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;

mod abort;
mod always;
mod complete;
mod hang;
mod once;
mod replicas;
mod throttled;
mod upstream;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::faults::{Fault, Rule};
use blobgate_testkit::s3::OpenUpload;
use blobgate_testkit::stack::Stack;
use bytes::Bytes;
use common::*;

/// A blob of three parts, and one of a single call.
const LARGE: u64 = 2 * PART + 7;
const SMALL: u64 = 1000;

/// A call that a push makes.
#[derive(Debug, Clone, Copy)]
struct Point {
    operation: &'static str,
    /// Part of its path and query.
    target: &'static str,
    /// Size of a blob whose push makes it.
    size: u64,
}

const HEAD: Point = point("HeadObject", "/data", LARGE);
const CREATE: Point = point("CreateMultipartUpload", "/data", LARGE);
const FIRST_PART: Point = point("UploadPart", "partNumber=1", LARGE);
const MIDDLE_PART: Point = point("UploadPart", "partNumber=2", LARGE);
const LAST_PART: Point = point("UploadPart", "partNumber=3", LARGE);
const COMPLETE: Point = point("CompleteMultipartUpload", "/data", LARGE);
const LINK: Point = point("PutObject", "/link", LARGE);
const SMALL_DATA: Point = point("PutObject", "/data", SMALL);
const SMALL_LINK: Point = point("PutObject", "/link", SMALL);

const fn point(operation: &'static str, target: &'static str, size: u64) -> Point {
    Point {
        operation,
        target,
        size,
    }
}

impl Point {
    /// This fault for every such call.
    fn rule(self, fault: Fault) -> Rule {
        Rule::on(self.operation, fault).target(self.target)
    }

    /// How often blobgate made the call for this blob.
    fn calls(self, stack: &Stack, blob: Blob) -> usize {
        let records = stack.s3_faults().records().into_iter();
        let digest = blob.sha256();
        let hex = digest.trim_start_matches("sha256:");
        records
            .filter(|call| call.operation == self.operation && call.target.contains(self.target))
            .filter(|call| call.target.contains(hex))
            .count()
    }
}

fn status(status: u16, code: &str) -> Fault {
    Fault::Status {
        status,
        code: code.to_owned(),
    }
}

/// The store asks for less, and for longer than a call may take.
fn come_in_an_hour() -> Fault {
    Fault::Answer {
        status: 503,
        headers: vec![("Retry-After".into(), "3600".into())],
        body: Bytes::new(),
    }
}

/// 200 without a header or a byte that S3 would send, and without effect.
fn bare_ok() -> Fault {
    Fault::Answer {
        status: 200,
        headers: Vec::new(),
        body: Bytes::new(),
    }
}

fn open_uploads_of(stack: &Stack, blob: Blob) -> Vec<OpenUpload> {
    let mut uploads = stack.s3().open_uploads(BUCKET);
    uploads.retain(|upload| upload.key == data_key(&blob.sha256()));
    uploads
}

/// The blob is served byte by byte, and nothing of its push is left.
async fn assert_whole(stack: &Stack, blob: Blob) {
    assert_served(stack, "a", &blob.sha256(), &blob.bytes()).await;
    assert_eq!(open_uploads_of(stack, blob), []);
}

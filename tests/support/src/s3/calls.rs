use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

/// One call that reached the S3 server and carried a valid signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// S3's name of the operation, such as `UploadPart`.
    pub operation: &'static str,
    /// The object's key; for listings, the prefix; for bucket calls, empty.
    pub key: String,
    /// Length of the request's body as announced, 0 where there is none.
    pub size: u64,
    /// When it arrived.
    pub at: Instant,
}

/// Every call in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct CallLog(Mutex<Vec<Call>>);

impl CallLog {
    pub(crate) fn add(&self, operation: &'static str, key: &str, size: Option<i64>) {
        let call = Call {
            operation,
            key: key.to_owned(),
            size: size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            at: Instant::now(),
        };
        self.0.lock().expect("call log poisoned").push(call);
    }

    pub(crate) fn all(&self) -> Vec<Call> {
        self.0.lock().expect("call log poisoned").clone()
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for call in self.0.lock().expect("call log poisoned").iter() {
            *counts.entry(call.operation.to_owned()).or_insert(0) += 1;
        }
        counts
    }

    pub(crate) fn clear(&self) {
        self.0.lock().expect("call log poisoned").clear();
    }
}

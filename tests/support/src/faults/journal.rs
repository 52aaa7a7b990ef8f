use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

/// A call that arrived at a fault-injecting proxy.
#[derive(Debug, Clone)]
pub struct Record {
    /// The operation's name, in the proxy's dialect.
    pub operation: String,
    /// The request's method.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Bytes of the request's body that were read from the client so far.
    pub received: u64,
    /// The fault it met, as text.
    pub fault: Option<String>,
    /// The status the client was told; none while unanswered or when cut off.
    pub status: Option<u16>,
    /// Whether the proxy is done with the call.
    pub finished: bool,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    received: Arc<AtomicU64>,
}

/// What arrived, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Journal {
    entries: Mutex<Vec<Entry>>,
    changes: watch::Sender<()>,
}

impl Journal {
    /// Notes an arrival; returns its number and the counter for its body's bytes.
    pub(super) fn arrive(&self, record: Record) -> (usize, Arc<AtomicU64>) {
        let received = Arc::new(AtomicU64::new(0));
        let mut entries = self.entries.lock().expect("journal poisoned");
        entries.push(Entry {
            record,
            received: Arc::clone(&received),
        });
        let number = entries.len() - 1;
        drop(entries);
        self.changes.send_replace(());
        (number, received)
    }

    pub(super) fn answer(&self, number: usize, status: u16) {
        self.update(number, |record| record.status = Some(status));
    }

    pub(super) fn finish(&self, number: usize) {
        self.update(number, |record| record.finished = true);
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn arrived(&self, operation: &str) -> u64 {
        self.count(|record| record.operation == operation)
    }

    pub(super) fn finished(&self, operation: &str) -> u64 {
        self.count(|record| record.operation == operation && record.finished)
    }

    pub(super) fn calls(&self) -> BTreeMap<String, u64> {
        let mut calls = BTreeMap::new();
        for record in self.records() {
            *calls.entry(record.operation).or_insert(0) += 1;
        }
        calls
    }

    pub(super) fn records(&self) -> Vec<Record> {
        let entries = self.entries.lock().expect("journal poisoned");
        let record = |entry: &Entry| Record {
            received: entry.received.load(Ordering::SeqCst),
            ..entry.record.clone()
        };
        entries.iter().map(record).collect()
    }

    fn update(&self, number: usize, step: impl FnOnce(&mut Record)) {
        let mut entries = self.entries.lock().expect("journal poisoned");
        step(&mut entries[number].record);
        drop(entries);
        self.changes.send_replace(());
    }

    fn count(&self, counts: impl Fn(&Record) -> bool) -> u64 {
        let entries = self.entries.lock().expect("journal poisoned");
        entries.iter().filter(|entry| counts(&entry.record)).count() as u64
    }
}

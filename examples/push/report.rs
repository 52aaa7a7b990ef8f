//! The summary on stdout, for people and for machines.

use crate::blob::Outcome;
use crate::failure::Failure;
use crate::progress::size;
use blobgate::registry::Digest;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

pub struct BlobReport {
    /// The file, where the user named it. A layout's files are named like their digests.
    pub path: Option<PathBuf>,
    /// Unknown where hashing failed.
    pub digest: Option<Digest>,
    pub size: u64,
    /// How long the blob took to get there, retries included, hashing not.
    pub time: Duration,
    pub result: Result<Outcome, Failure>,
}

pub struct ManifestReport {
    pub digest: Digest,
    pub media_type: String,
    pub size: u64,
    pub tags: Vec<String>,
    pub result: Result<(), Failure>,
}

#[derive(Default)]
pub struct Report {
    pub registry: String,
    pub repository: String,
    pub blobs: Vec<BlobReport>,
    pub manifests: Vec<ManifestReport>,
    /// What kept the push from beginning, or from going on after the blobs.
    pub failure: Option<Failure>,
    pub time: Duration,
}

#[derive(Default)]
struct Totals {
    pushed: usize,
    pushed_bytes: u64,
    already_there: usize,
    already_there_bytes: u64,
    failed: usize,
}

impl BlobReport {
    pub fn word(&self) -> &'static str {
        match self.result {
            Ok(Outcome::Pushed) => "pushed",
            Ok(Outcome::AlreadyThere) => "already there",
            Err(_) => "failed",
        }
    }

    fn rate(&self) -> Option<u64> {
        matches!(self.result, Ok(Outcome::Pushed))
            .then(|| rate(self.size, self.time))
            .flatten()
    }

    fn name(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => "no digest".into(),
        }
    }

    fn line(&self) -> String {
        let mut line = format!(
            "{:13}  {}  {:>10}",
            self.word(),
            self.name(),
            size(self.size)
        );
        if let Some(rate) = self.rate() {
            let rate = format!("{}/s", size(rate));
            line.push_str(&format!("  {:>8}  {rate:>12}", seconds(self.time)));
        }
        match (&self.result, &self.path) {
            (Err(failure), _) => line.push_str(&format!("  {failure}")),
            (Ok(_), Some(path)) => line.push_str(&format!("  {}", path.display())),
            (Ok(_), None) => (),
        }
        line
    }
}

impl ManifestReport {
    fn line(&self) -> String {
        let what = match &self.result {
            Ok(()) => "manifest",
            Err(_) => "failed",
        };
        let mut line = format!("{what:13}  {}  {:>10}", self.digest, size(self.size));
        match &self.result {
            Ok(()) if self.tags.is_empty() => (),
            Ok(()) => line.push_str(&format!("  tagged {}", self.tags.join(", "))),
            Err(failure) => line.push_str(&format!("  {failure}")),
        }
        line
    }
}

impl Report {
    pub fn succeeded(&self) -> bool {
        self.failure.is_none()
            && self.blobs.iter().all(|blob| blob.result.is_ok())
            && self
                .manifests
                .iter()
                .all(|manifest| manifest.result.is_ok())
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for blob in &self.blobs {
            match blob.result {
                Ok(Outcome::Pushed) => {
                    totals.pushed += 1;
                    totals.pushed_bytes += blob.size;
                }
                Ok(Outcome::AlreadyThere) => {
                    totals.already_there += 1;
                    totals.already_there_bytes += blob.size;
                }
                Err(_) => totals.failed += 1,
            }
        }
        totals
    }

    /// Writes the summary to stdout.
    pub fn print(&self, as_json: bool) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if as_json {
            writeln!(out, "{:#}", self.json())?;
            return out.flush();
        }
        for blob in &self.blobs {
            writeln!(out, "{}", blob.line())?;
        }
        for manifest in &self.manifests {
            writeln!(out, "{}", manifest.line())?;
        }
        if self.blobs.is_empty() {
            // Nothing was tried, and stderr says why.
            return out.flush();
        }
        let totals = self.totals();
        let mut line = format!(
            "total: {} pushed ({}), {} already there ({}), {} failed, in {}",
            totals.pushed,
            size(totals.pushed_bytes),
            totals.already_there,
            size(totals.already_there_bytes),
            totals.failed,
            seconds(self.time)
        );
        if let Some(rate) = rate(totals.pushed_bytes, self.time).filter(|_| totals.pushed > 0) {
            line.push_str(&format!(", {}/s", size(rate)));
        }
        writeln!(out, "{line}")?;
        out.flush()
    }

    fn json(&self) -> Value {
        let totals = self.totals();
        let blobs: Vec<Value> = self
            .blobs
            .iter()
            .map(|blob| {
                json!({
                    "path": blob.path.as_ref().map(|path| path.to_string_lossy()),
                    "digest": blob.digest.as_ref().map(Digest::to_string),
                    "size": blob.size,
                    "outcome": blob.word().replace(' ', "_"),
                    "seconds": blob.time.as_secs_f64(),
                    "bytes_per_second": blob.rate(),
                    "error": blob.result.as_ref().err().map(failure_json),
                })
            })
            .collect();
        let manifests: Vec<Value> = self
            .manifests
            .iter()
            .map(|manifest| {
                json!({
                    "digest": manifest.digest.to_string(),
                    "media_type": manifest.media_type,
                    "size": manifest.size,
                    "tags": manifest.tags,
                    "outcome": if manifest.result.is_ok() { "pushed" } else { "failed" },
                    "error": manifest.result.as_ref().err().map(failure_json),
                })
            })
            .collect();
        json!({
            "ok": self.succeeded(),
            "registry": self.registry,
            "repository": self.repository,
            "blobs": blobs,
            "manifests": manifests,
            "error": self.failure.as_ref().map(failure_json),
            "total": {
                "pushed": totals.pushed,
                "pushed_bytes": totals.pushed_bytes,
                "already_there": totals.already_there,
                "already_there_bytes": totals.already_there_bytes,
                "failed": totals.failed,
                "seconds": self.time.as_secs_f64(),
            },
        })
    }
}

fn failure_json(failure: &Failure) -> Value {
    let mut value = json!({"kind": failure.kind(), "message": failure.to_string()});
    if let Some(refusal) = failure.refusal() {
        value["status"] = refusal.status.as_u16().into();
        let codes: Vec<&str> = refusal.errors.iter().map(|e| e.code.as_str()).collect();
        value["codes"] = codes.into();
    }
    value
}

fn rate(bytes: u64, time: Duration) -> Option<u64> {
    // A float's rounding is no matter in a rate.
    (!time.is_zero()).then(|| (bytes as f64 / time.as_secs_f64()) as u64)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

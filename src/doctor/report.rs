//! What the doctor found: one finding for each check, in the order of [`Check::ALL`].

use std::time::{Duration, Instant};

/// Everything that is looked at. `docs/OPERATIONS.md` describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Config,
    Parts,
    ListenerCertificate,
    UpstreamDns,
    UpstreamConnect,
    UpstreamTls,
    UpstreamApi,
    UpstreamLogin,
    UpstreamPush,
    UpstreamLocation,
    BucketDns,
    BucketConnect,
    BucketTls,
    BucketClock,
    BucketCredentials,
    BucketSignature,
    BucketExists,
    BlobsMissing,
    BlobsCreate,
    BlobsPart,
    BlobsList,
    BlobsListParts,
    BlobsAbort,
    BlobsComplete,
    BlobsPut,
    BlobsHead,
    LinksPut,
    Canary,
    Cleanup,
}

impl Check {
    pub const ALL: [Check; 29] = [
        Self::Config,
        Self::Parts,
        Self::ListenerCertificate,
        Self::UpstreamDns,
        Self::UpstreamConnect,
        Self::UpstreamTls,
        Self::UpstreamApi,
        Self::UpstreamLogin,
        Self::UpstreamPush,
        Self::UpstreamLocation,
        Self::BucketDns,
        Self::BucketConnect,
        Self::BucketTls,
        Self::BucketClock,
        Self::BucketCredentials,
        Self::BucketSignature,
        Self::BucketExists,
        Self::BlobsMissing,
        Self::BlobsCreate,
        Self::BlobsPart,
        Self::BlobsList,
        Self::BlobsListParts,
        Self::BlobsAbort,
        Self::BlobsComplete,
        Self::BlobsPut,
        Self::BlobsHead,
        Self::LinksPut,
        Self::Canary,
        Self::Cleanup,
    ];

    /// The name in both kinds of output.
    pub fn id(self) -> &'static str {
        self.describe().0
    }

    /// Checks without which this one cannot be made.
    pub fn needs(self) -> &'static [Check] {
        self.describe().1
    }

    fn describe(self) -> (&'static str, &'static [Check]) {
        match self {
            Self::Config => ("config", &[]),
            Self::Parts => ("config.parts", &[Self::Config]),
            Self::ListenerCertificate => ("listen.tls", &[Self::Config]),
            Self::UpstreamDns => ("upstream.dns", &[Self::Config]),
            Self::UpstreamConnect => ("upstream.connect", &[Self::UpstreamDns]),
            Self::UpstreamTls => ("upstream.tls", &[Self::UpstreamConnect]),
            Self::UpstreamApi => ("upstream.api", &[Self::UpstreamTls]),
            Self::UpstreamLogin => ("upstream.login", &[Self::UpstreamApi]),
            Self::UpstreamPush => ("upstream.push", &[Self::UpstreamLogin]),
            Self::UpstreamLocation => ("upstream.location", &[Self::UpstreamPush]),
            Self::BucketDns => ("bucket.dns", &[Self::Config]),
            Self::BucketConnect => ("bucket.connect", &[Self::BucketDns]),
            Self::BucketTls => ("bucket.tls", &[Self::BucketConnect]),
            Self::BucketClock => ("bucket.clock", &[Self::BucketTls]),
            Self::BucketCredentials => ("bucket.credentials", &[Self::Config]),
            Self::BucketSignature => (
                "bucket.signature",
                &[Self::BucketTls, Self::BucketCredentials],
            ),
            Self::BucketExists => ("bucket.exists", &[Self::BucketSignature]),
            Self::BlobsMissing => ("blobs.missing", &[Self::BucketExists]),
            Self::BlobsCreate => ("blobs.create", &[Self::BucketExists]),
            Self::BlobsPart => ("blobs.part", &[Self::BlobsCreate]),
            Self::BlobsList => ("blobs.list", &[Self::BlobsCreate]),
            Self::BlobsListParts => ("blobs.list_parts", &[Self::BlobsPart]),
            Self::BlobsAbort => ("blobs.abort", &[Self::BlobsCreate]),
            Self::BlobsComplete => ("blobs.complete", &[Self::BlobsPart]),
            Self::BlobsPut => ("blobs.put", &[Self::BucketExists]),
            Self::BlobsHead => ("blobs.head", &[Self::BlobsPut]),
            Self::LinksPut => ("links.put", &[Self::BucketExists]),
            Self::Canary => (
                "canary",
                &[Self::UpstreamPush, Self::BlobsPut, Self::LinksPut],
            ),
            Self::Cleanup => ("cleanup", &[Self::BucketExists]),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Pass,
    /// It works, or may; someone should look at it.
    Warn,
    Fail,
    /// Not looked at.
    Skip,
}

/// What one probe found, with what the checks after it go on with.
#[derive(Debug)]
pub enum Verdict<T = ()> {
    Pass(String, T),
    Warn(Finding, T),
    Fail(Finding),
    /// There is nothing to look at here, or nothing to look with.
    Skip(Finding),
}

/// In lower case, without a full stop; never a secret.
#[derive(Debug, Clone)]
pub struct Finding {
    pub found: String,
    /// What to do about it; may be empty only where nothing is wrong.
    pub remedy: String,
}

impl Finding {
    pub fn new(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            remedy: remedy.into(),
        }
    }
}

/// One line of the report.
#[derive(Debug)]
pub struct Entry {
    pub check: Check,
    pub outcome: Outcome,
    pub finding: Finding,
    /// The failed check that kept this one from being made.
    pub because: Option<Check>,
    pub took: Duration,
}

#[derive(Debug, Default)]
pub struct Report {
    entries: Vec<Entry>,
}

impl Report {
    /// Makes one check; gives what the next ones go on with, where they can.
    pub async fn make<T>(
        &mut self,
        check: Check,
        probe: impl Future<Output = Verdict<T>>,
    ) -> Option<T> {
        let started = Instant::now();
        let verdict = probe.await;
        self.note(check, verdict, started.elapsed())
    }

    /// Notes what came of a check that took no time of its own.
    pub fn tell<T>(&mut self, check: Check, verdict: Verdict<T>) -> Option<T> {
        self.note(check, verdict, Duration::ZERO)
    }

    fn note<T>(&mut self, check: Check, verdict: Verdict<T>, took: Duration) -> Option<T> {
        let (outcome, finding, value) = match verdict {
            Verdict::Pass(found, value) => (Outcome::Pass, Finding::new(found, ""), Some(value)),
            Verdict::Warn(finding, value) => (Outcome::Warn, finding, Some(value)),
            Verdict::Fail(finding) => (Outcome::Fail, finding, None),
            Verdict::Skip(finding) => (Outcome::Skip, finding, None),
        };
        self.entries.push(Entry {
            check,
            outcome,
            finding,
            because: None,
            took,
        });
        value
    }

    pub fn outcome(&self, check: Check) -> Option<Outcome> {
        self.entry(check).map(|entry| entry.outcome)
    }

    fn entry(&self, check: Check) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.check == check)
    }

    /// Every check in its order; those not made say which one kept them from it.
    pub fn complete(mut self) -> Vec<Entry> {
        // In order, so that what a check needs is settled before it.
        for check in Check::ALL {
            if self.entry(check).is_none() {
                let entry = self.skipped(check);
                self.entries.push(entry);
            }
        }
        self.entries.sort_by_key(|entry| {
            Check::ALL
                .iter()
                .position(|check| *check == entry.check)
                .unwrap_or(Check::ALL.len())
        });
        self.entries
    }

    fn skipped(&self, check: Check) -> Entry {
        let obstacle = check.needs().iter().find_map(|needed| {
            let entry = self.entry(*needed)?;
            match entry.outcome {
                Outcome::Pass | Outcome::Warn => None,
                // The first cause, not one that is itself a consequence.
                Outcome::Fail | Outcome::Skip => Some(entry.because.unwrap_or(entry.check)),
            }
        });
        let (outcome, finding) = match obstacle {
            Some(obstacle) => {
                let found = format!("not checked: needs {}", obstacle.id());
                (Outcome::Skip, Finding::new(found, ""))
            }
            // Not knowing is not being well.
            None => {
                let found = "not checked: the examination was broken off";
                (Outcome::Fail, Finding::new(found, "run it again"))
            }
        };
        Entry {
            check,
            outcome,
            finding,
            because: obstacle,
            took: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_made_names_the_first_cause() {
        let mut report = Report::default();
        report.tell(Check::Config, Verdict::Pass(String::new(), ()));
        let failed: Option<()> = report.tell(
            Check::BucketDns,
            Verdict::Fail(Finding::new("no such host", "write another")),
        );
        assert!(failed.is_none());
        let entries = report.complete();
        let checks: Vec<Check> = entries.iter().map(|entry| entry.check).collect();
        assert_eq!(checks, Check::ALL);
        for entry in &entries {
            let expected = match entry.check {
                Check::BucketConnect
                | Check::BucketTls
                | Check::BucketClock
                | Check::BucketSignature
                | Check::BucketExists
                | Check::BlobsPart
                | Check::Cleanup => Some(Check::BucketDns),
                Check::Config | Check::BucketDns | Check::UpstreamDns => None,
                _ => continue,
            };
            assert_eq!(entry.because, expected, "{:?}", entry.check);
        }
    }

    #[test]
    fn checks_need_only_earlier_ones() {
        for (index, check) in Check::ALL.iter().enumerate() {
            for needed in check.needs() {
                assert!(Check::ALL[..index].contains(needed), "{check:?} {needed:?}");
            }
        }
    }
}

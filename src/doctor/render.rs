//! The report as a person reads it, and as a program does.

use super::report::{Entry, Outcome};
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

/// Raised when a field of the JSON changes its meaning or goes; new ones may come without.
const SCHEMA: u32 = 1;

/// How many checks ended in each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub passed: usize,
    pub warned: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Summary {
    pub fn of(entries: &[Entry]) -> Self {
        let mut summary = Self::default();
        for entry in entries {
            match entry.outcome {
                Outcome::Pass => summary.passed += 1,
                Outcome::Warn => summary.warned += 1,
                Outcome::Fail => summary.failed += 1,
                Outcome::Skip => summary.skipped += 1,
            }
        }
        summary
    }
}

pub struct Text<'a>(pub &'a [Entry]);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|entry| entry.check.id().len()).max();
        let width = width.unwrap_or_default();
        for Entry {
            check,
            outcome,
            finding,
            ..
        } in self.0
        {
            let word = match outcome {
                Outcome::Pass => "ok",
                Outcome::Warn => "WARN",
                Outcome::Fail => "FAIL",
                Outcome::Skip => "skip",
            };
            write!(f, "{word:4}  {:width$}  {}", check.id(), finding.found)?;
            if !finding.remedy.is_empty() {
                write!(f, "; {}", finding.remedy)?;
            }
            writeln!(f)?;
        }
        let Summary {
            passed,
            warned,
            failed,
            skipped,
        } = Summary::of(self.0);
        let verdict = match (failed, warned) {
            (0, 0) => "all is well",
            (0, _) => "not all is well",
            _ => "blobgate will not work as it should",
        };
        writeln!(
            f,
            "\n{verdict}: {passed} passed, {warned} warned of, {failed} failed, {skipped} skipped"
        )
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    blobgate: &'static str,
    config: String,
    healthy: bool,
    summary: Summary,
    checks: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    id: &'static str,
    status: &'static str,
    found: &'a str,
    remedy: Option<&'a str>,
    because: Option<&'static str>,
    seconds: f64,
}

/// One JSON document, as `docs/OPERATIONS.md` describes it.
pub fn json(config: &std::path::Path, entries: &[Entry]) -> serde_json::Result<String> {
    let summary = Summary::of(entries);
    let checks = entries.iter().map(|entry| Line {
        id: entry.check.id(),
        status: match entry.outcome {
            Outcome::Pass => "pass",
            Outcome::Warn => "warn",
            Outcome::Fail => "fail",
            Outcome::Skip => "skip",
        },
        found: &entry.finding.found,
        remedy: Some(entry.finding.remedy.as_str()).filter(|remedy| !remedy.is_empty()),
        because: entry.because.map(|check| check.id()),
        seconds: entry.took.as_secs_f64(),
    });
    serde_json::to_string_pretty(&Document {
        schema: SCHEMA,
        blobgate: env!("CARGO_PKG_VERSION"),
        config: config.display().to_string(),
        healthy: summary.failed == 0 && summary.warned == 0,
        summary,
        checks: checks.collect(),
    })
}

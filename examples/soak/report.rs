//! What a run came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::client::Ending;
use crate::load::Manner;

const MIB: f64 = 1024.0 * 1024.0;

/// The share of good pushes that must be stored: retries get most of them past the faults.
const LEAST_STORED: f64 = 0.9;

/// What was still there when everything had had its time to end.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    /// Uploads that the store refused to drop, each named in blobgate's log.
    pub given_up: usize,
    /// Others, in which nothing was ever put.
    pub empty_uploads: usize,
    /// Others, that hold parts: forgotten.
    pub uploads_with_parts: usize,
    /// Creates whose answer was lost on purpose: so many empty uploads nobody can know of.
    pub lost_creates: usize,
    pub slots: usize,
    pub waiting: usize,
    /// Bytes.
    pub memory: usize,
}

impl Left {
    /// Nothing but what the faults themselves account for.
    pub fn is_explained(&self) -> bool {
        self.uploads_with_parts == 0
            && self.empty_uploads <= self.lost_creates
            && (self.slots, self.waiting, self.memory) == (0, 0, 0)
    }
}

#[derive(Debug)]
pub struct Report {
    pub pushed_for: Duration,
    pub pushes: usize,
    pub endings: BTreeMap<(Manner, Ending), u64>,
    /// Of the acknowledged pushes.
    pub bytes: u64,
    /// Different ones, acknowledged and read back.
    pub blobs: usize,
    pub faults: BTreeMap<String, u64>,
    pub retries: f64,
    /// Bytes.
    pub peak_rss: u64,
    pub cpu_seconds: f64,
    pub left: Left,
    /// Uploads that are still open after the sweep.
    pub unswept: usize,
    pub wrong: Vec<String>,
}

impl Report {
    /// Why the run failed, if it did.
    pub fn verdict(&self) -> Result<(), String> {
        if !self.wrong.is_empty() {
            return Err(format!(
                "{} wrong:\n{}",
                self.wrong.len(),
                self.wrong.join("\n")
            ));
        }
        if !self.left.is_explained() {
            return Err(format!("left behind: {:?}", self.left));
        }
        if self.unswept > 0 {
            return Err(format!("{} uploads outlived the sweep", self.unswept));
        }
        let of = |wanted: Ending| -> u64 {
            let endings = self
                .endings
                .iter()
                .filter(|((_, ending), _)| *ending == wanted);
            endings.map(|(_, count)| count).sum()
        };
        if of(Ending::Status(400)) == 0 || self.faults.is_empty() {
            return Err("the load never came to be: no 400, or no fault".to_owned());
        }
        let right = |(manner, _): &(Manner, Ending)| manner.is_right();
        let of_right = self.endings.iter().filter(|(ending, _)| right(ending));
        let right: u64 = of_right.map(|(_, count)| count).sum();
        let stored = of(Ending::Status(201));
        if (stored as f64) < LEAST_STORED * right as f64 {
            return Err(format!("of {right} good pushes only {stored} were stored"));
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.pushed_for.as_secs_f64();
        let rate = self.bytes as f64 / MIB / seconds;
        writeln!(
            f,
            "pushes     {} in {seconds:.0} s; acknowledged {:.0} MiB ({rate:.0} MiB/s), {} \
             different blobs, all read back",
            self.pushes,
            self.bytes as f64 / MIB,
            self.blobs
        )?;
        for ((manner, ending), count) in &self.endings {
            writeln!(f, "           {count:6}  {manner:?}: {ending:?}")?;
        }
        let faults: u64 = self.faults.values().sum();
        writeln!(f, "faults     {faults}: {:?}", self.faults)?;
        writeln!(f, "retries    {}", self.retries)?;
        writeln!(
            f,
            "blobgate   peak RSS {:.0} MiB, {:.0} CPU seconds",
            self.peak_rss as f64 / MIB,
            self.cpu_seconds
        )?;
        writeln!(
            f,
            "left       {} uploads forgotten, {} given up by name, {} empty ones of {} creates \
             whose answer was lost, {} slots, {} waiting, {} bytes of memory; {} uploads after the \
             sweep",
            self.left.uploads_with_parts,
            self.left.given_up,
            self.left.empty_uploads,
            self.left.lost_creates,
            self.left.slots,
            self.left.waiting,
            self.left.memory,
            self.unswept
        )?;
        write!(f, "wrong      {}", self.wrong.len())
    }
}

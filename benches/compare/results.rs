//! Everything that was measured, and the questions the report asks of it.

use serde::Serialize;

use crate::contender::Contender;
use crate::machine::Machine;
use crate::measure::{Case, Sample};
use crate::stats::Spread;

#[derive(Serialize)]
pub struct Results {
    pub machine: Machine,
    pub setup: Setup,
    pub samples: Vec<Sample>,
}

/// What blobgate was told, as far as the figures depend on it.
#[derive(Debug, Serialize)]
pub struct Setup {
    pub quick: bool,
    /// Of the one large blob, and of each of 32 clients' blobs, bytes.
    pub large: u64,
    pub distant: u64,
    pub memory: u64,
    /// Bytes.
    pub part_size: u64,
    pub part_concurrency: usize,
    /// Bytes.
    pub memory_budget: u64,
    pub max_streaming: usize,
    pub threads: usize,
    /// Given on the command line.
    pub settings: Vec<String>,
    /// How long it all took, seconds.
    pub took: f64,
}

impl Results {
    /// Every case, in the order in which they were first measured.
    pub fn cases(&self, scenario: &str) -> Vec<&Case> {
        let mut cases: Vec<&Case> = Vec::new();
        for sample in self.samples.iter().filter(|s| s.case.scenario == scenario) {
            if !cases.contains(&&sample.case) {
                cases.push(&sample.case);
            }
        }
        cases
    }

    pub fn runs<'a>(&'a self, case: &'a Case) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.case == *case)
    }

    /// A figure of each run of a case, in the order of the runs.
    pub fn figures(&self, case: &Case, figure: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.runs(case).map(figure).collect()
    }

    pub fn spread(&self, case: &Case, figure: impl Fn(&Sample) -> f64) -> Spread {
        Spread::of(&self.figures(case, figure))
    }

    /// The case of a scenario that this contender has with so many clients.
    pub fn case(&self, scenario: &str, contender: &str, clients: usize) -> Option<&Case> {
        let fits = |case: &&Case| case.contender == contender && case.clients == clients;
        self.cases(scenario).into_iter().find(fits)
    }

    /// The median over paired runs of one contender's figure divided by the other's.
    pub fn ratio(
        &self,
        scenario: &str,
        (over, under): (&str, &str),
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<f64> {
        let figures = |contender| {
            let case = self.case(scenario, contender, 1)?;
            Some(self.figures(case, &figure))
        };
        let (over, under) = (figures(over)?, figures(under)?);
        let ratios: Vec<f64> = over.iter().zip(under).map(|(o, u)| o / u).collect();
        Some(Spread::of(&ratios).median)
    }
}

/// The contender's own CPU seconds per GiB.
pub fn own_cpu(sample: &Sample) -> f64 {
    sample.cpu_per_gib(Contender::processes(sample.case.contender))
}

/// Peak RSS in bytes of the contender's own process, the first of those it has.
pub fn own_rss(sample: &Sample) -> f64 {
    let process = Contender::processes(sample.case.contender)[0];
    sample.peak_rss.get(process).copied().unwrap_or(0) as f64
}

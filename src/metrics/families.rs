//! How metrics are made: registered, and with every series there from the start, at zero. A rate
//! needs the step from nothing.

use prometheus::{
    Counter, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, Result,
};

/// From milliseconds to an hour, in seconds. 30 s is when containerd gives up waiting for an
/// answer.
pub const SECONDS: [f64; 22] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0,
    120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
];

/// A label's name and all its values.
pub type Label<'a> = (&'a str, &'a [&'a str]);

/// Makes metrics and registers them.
pub struct Families<'a>(pub &'a Registry);

impl Families<'_> {
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        let counter = IntCounter::new(name, help)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    /// A counter of seconds.
    pub fn seconds(&self, name: &str, help: &str) -> Result<Counter> {
        let counter = Counter::new(name, help)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    pub fn counters(&self, name: &str, help: &str, labels: &[Label]) -> Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(name, help), &names(labels))?;
        for values in combinations(labels) {
            counters.with_label_values(&values);
        }
        self.0.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        let gauge = IntGauge::new(name, help)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    /// A gauge that is always one, for what its label says.
    pub fn info(&self, name: &str, help: &str, label: &str, value: &str) -> Result<()> {
        let gauge = IntGauge::with_opts(Opts::new(name, help).const_label(label, value))?;
        gauge.set(1);
        self.0.register(Box::new(gauge))
    }

    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histogram = Histogram::with_opts(options)?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    /// Durations, in seconds.
    pub fn durations(&self, name: &str, help: &str, labels: &[Label]) -> Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let histograms = HistogramVec::new(options, &names(labels))?;
        for values in combinations(labels) {
            histograms.with_label_values(&values);
        }
        self.0.register(Box::new(histograms.clone()))?;
        Ok(histograms)
    }
}

fn names<'a>(labels: &[Label<'a>]) -> Vec<&'a str> {
    labels.iter().map(|(name, _)| *name).collect()
}

/// Every combination of the labels' values.
fn combinations<'a>(labels: &[Label<'a>]) -> Vec<Vec<&'a str>> {
    let mut values: Vec<Vec<&str>> = vec![Vec::new()];
    for (_, choices) in labels {
        values = values
            .iter()
            .flat_map(|before| {
                choices
                    .iter()
                    .map(move |choice| [before, &[*choice][..]].concat())
            })
            .collect();
    }
    values
}

//! blobgate beside what one could use instead, and beside the limit: all in one run, on the same
//! bytes. What is compared and how is in docs/PERFORMANCE.md.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use blobgate::config::Config;
use clap::{Parser, Subcommand};

mod bed;
mod client;
mod client_h2;
mod contender;
mod control;
mod forward;
mod machine;
mod measure;
mod multipart;
mod payload;
mod report;
mod results;
mod scenario;
mod servers;
mod stats;
mod targets;
mod wire;

use bed::Making;
use machine::Machine;
use payload::Source;
use results::{Results, Setup};
use scenario::{Extent, GIB, MIB, Scenario, Session};

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// Data in memory: a disk would be measured otherwise.
const MEMORY: &str = "/dev/shm";

/// Compare blobgate with what one could use instead, and with the limit.
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Options {
    #[command(subcommand)]
    command: Option<Hidden>,

    /// Smaller blobs and fewer runs: at most three minutes
    #[arg(long)]
    quick: bool,
    /// Only these scenarios
    #[arg(long, value_name = "SCENARIO", value_delimiter = ',')]
    only: Vec<Scenario>,
    /// How often each contender is measured [default: 5, or 3 with --quick]
    #[arg(long)]
    runs: Option<usize>,
    /// The largest blob, as in blobgate's configuration [default: 8GiB, or 256MiB with --quick]
    #[arg(long, value_name = "SIZE")]
    max_size: Option<bytesize::ByteSize>,
    /// A setting of blobgate's, by its dotted path; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// blobgate's program [default: the one built along with this]
    #[arg(long, value_name = "PATH")]
    blobgate: Option<PathBuf>,
    /// Where results and plots are written
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// Where data lies meanwhile [default: /dev/shm, or the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Write the results into this page too, between its marks
    #[arg(long, value_name = "FILE")]
    write_docs: Option<PathBuf>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
enum Hidden {
    /// Run one of the bench's servers
    #[command(subcommand, hide = true)]
    Serve(servers::Server),
}

fn main() -> ExitCode {
    let mut options = Options::parse();
    let outcome = match options.command.take() {
        Some(Hidden::Serve(server)) => server.run(),
        None => bench(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<()> {
    report::prepare()?;
    let parent = match &options.scratch {
        Some(dir) => dir.clone(),
        None if Path::new(MEMORY).is_dir() => MEMORY.into(),
        None => std::env::temp_dir(),
    };
    let scratch = tempfile::Builder::new()
        .prefix("blobgate-bench-")
        .tempdir_in(parent)?;
    let program = Path::new(env!("CARGO_BIN_EXE_blobgate"));
    let making = Making {
        blobgate: options
            .blobgate
            .clone()
            .unwrap_or_else(|| program.to_owned()),
        scratch: scratch.path().to_owned(),
        settings: options
            .set
            .iter()
            .map(|text| setting(text))
            .collect::<Result<_>>()?,
    };
    let machine = Machine::describe(&making.blobgate, &making.scratch)?;
    let extent = options.extent();
    let mut session = Session {
        making: &making,
        extent: &extent,
        source: Source::new(),
        samples: Vec::new(),
    };
    let began = Instant::now();
    let mut failures = Vec::new();
    for scenario in Scenario::ALL {
        if options.only.is_empty() || options.only.contains(&scenario) {
            eprintln!("{}: {}", scenario.name(), scenario.about());
            // What was measured in the others is worth keeping.
            if let Err(error) = scenario.run(&mut session) {
                eprintln!("  {error}");
                failures.push(error.to_string());
            }
        }
    }
    let results = Results {
        machine,
        setup: options.setup(&extent, &making, began.elapsed().as_secs_f64())?,
        samples: session.samples,
    };
    fs::create_dir_all(&options.out)?;
    report::write(&results, &options.out)?;
    if let Some(page) = &options.write_docs
        && failures.is_empty()
    {
        report::write_docs(&results, page)?;
    }
    print!("{}", report::targets(&results));
    println!(
        "\nAll figures: {}",
        options.out.join("results.md").display()
    );
    match failures.as_slice() {
        [] => Ok(()),
        failures => Err(failures.join("; ").into()),
    }
}

impl Options {
    fn extent(&self) -> Extent {
        let full = Extent {
            runs: 5,
            large: GIB,
            distant: GIB,
            max_size: 8 * GIB,
            crowd: 256 * MIB,
            memory: 512 * MIB,
            memory_runs: 5,
            forwarded: 512 * MIB,
            small_pushes: 50,
            small_requests: 1000,
        };
        let quick = Extent {
            runs: 3,
            large: 256 * MIB,
            distant: 128 * MIB,
            max_size: 256 * MIB,
            crowd: 32 * MIB,
            memory: 128 * MIB,
            memory_runs: 1,
            forwarded: 128 * MIB,
            small_pushes: 8,
            small_requests: 300,
        };
        let mut extent = if self.quick { quick } else { full };
        if let Some(runs) = self.runs {
            extent.runs = runs.max(1);
            extent.memory_runs = runs.max(1);
        }
        if let Some(size) = self.max_size {
            // No blob is smaller than the part of it that makes it unlike all others.
            let size = size.as_u64().max(scenario::SMALL);
            extent.max_size = size;
            let others = [
                &mut extent.large,
                &mut extent.distant,
                &mut extent.crowd,
                &mut extent.memory,
                &mut extent.forwarded,
            ];
            others
                .into_iter()
                .for_each(|other| *other = size.min(*other));
        }
        extent
    }

    /// blobgate's settings, by its own reading of them.
    fn setup(&self, extent: &Extent, making: &Making, took: f64) -> Result<Setup> {
        let mut yaml = blobgate_testkit::process::Config::new(
            "http://127.0.0.1:1",
            "http://127.0.0.1:1",
            "registry",
        );
        for (key, value) in &making.settings {
            yaml = yaml.set(key, value.clone());
        }
        let config = Config::parse(&yaml.to_yaml(), |_| None)?;
        Ok(Setup {
            quick: self.quick,
            large: extent.large,
            distant: extent.distant,
            memory: extent.memory,
            part_size: config.upload.part_size,
            part_concurrency: config.upload.part_concurrency,
            memory_budget: config.upload.memory_budget,
            max_streaming: config.upload.max_streaming,
            threads: config.threads,
            settings: self.set.clone(),
            took,
        })
    }
}

/// `a.b=c`, the value being YAML.
fn setting(text: &str) -> Result<(String, serde_yaml::Value)> {
    let (key, value) = text
        .split_once('=')
        .ok_or(format!("--set {text}: no `=`"))?;
    Ok((key.to_owned(), serde_yaml::from_str(value)?))
}

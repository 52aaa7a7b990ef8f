//! A mixed load on blobgate with faults on either side of it, for as long as is asked, and then the
//! question what became of every push. Exits with 1 unless nothing is wrong and nothing left behind.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

mod chaos;
mod client;
mod load;
mod memory;
mod report;
mod soak;
mod verdict;

use soak::Plan;

/// Push with many clients while stores and connections fail, then check every blob.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Options {
    /// How long to push
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// How many clients push at once
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Which pushes and faults; the order in which they meet is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only this part
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// blobgate's worker threads [default: the CPUs]
    #[arg(long)]
    threads: Option<usize>,
    /// blobgate's program [default: the one built along with this]
    #[arg(long, value_name = "PATH")]
    blobgate: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The mixed load under faults
    Load,
    /// 32 pushes of 512 MiB at once, and how much memory they take
    Memory,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let Some(blobgate) = options.blobgate.or_else(built_along) else {
        eprintln!("soak: no blobgate beside this program: cargo build --release --bin blobgate");
        return ExitCode::FAILURE;
    };
    let plan = Plan {
        blobgate,
        threads: options.threads,
        time: Duration::from_secs(options.seconds),
        clients: options.clients,
        seed: options.seed,
        sizes: load::Sizes::ALL,
    };
    let mut exit = ExitCode::SUCCESS;
    let parts = [Part::Load, Part::Memory].into_iter();
    for part in parts.filter(|&part| options.only.is_none_or(|only| only == part)) {
        let outcome = match part {
            Part::Load => load(&plan).await,
            Part::Memory => memory::run(&plan.blobgate, plan.threads).await,
        };
        if let Err(reason) = outcome {
            eprintln!("soak: {reason}");
            exit = ExitCode::FAILURE;
        }
    }
    exit
}

async fn load(plan: &Plan) -> Result<(), String> {
    let report = soak::run(plan).await.map_err(|error| error.to_string())?;
    println!("{report}");
    report.verdict()
}

/// Cargo puts examples into a folder beside the programs.
fn built_along() -> Option<PathBuf> {
    let mut path = std::env::current_exe().ok()?;
    path.pop();
    path.pop();
    path.push("blobgate");
    path.is_file().then_some(path)
}

//! On what it was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use blobgate_testkit::registry;
use serde::Serialize;

use crate::Result;

#[derive(Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    pub blobgate: String,
    pub registry: String,
    /// File system of the bench's data.
    pub scratch: String,
}

impl Machine {
    pub fn describe(blobgate: &Path, scratch: &Path) -> Result<Self> {
        let line = |file: &str, key: &str| -> Result<String> {
            let text = fs::read_to_string(file)?;
            let found = text.lines().find(|line| line.starts_with(key));
            let value = found.and_then(|line| line.split_once(':'));
            Ok(value.map_or("unknown".into(), |(_, value)| value.trim().to_owned()))
        };
        let memory = line("/proc/meminfo", "MemTotal")?;
        let kib: f64 = memory.trim_end_matches(" kB").parse()?;
        let registry = registry::find(Path::new("docker-registry"))?;
        Ok(Self {
            cpu: line("/proc/cpuinfo", "model name")?,
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: kib / (1 << 20) as f64,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            blobgate: first_line(Command::new(blobgate).arg("--version"))?,
            registry: first_line(Command::new(registry).arg("--version"))?,
            scratch: first_line(Command::new("stat").args(["-f", "-c", "%T"]).arg(scratch))?,
        })
    }
}

fn first_line(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or("unknown").to_owned())
}

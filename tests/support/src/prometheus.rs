//! A Prometheus server that scrapes one target, and promtool.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use crate::daemon::{self, Daemon};

const READY_WITHIN: Duration = Duration::from_secs(30);

/// A running Prometheus; killed when dropped, and when this process dies.
#[derive(Debug)]
pub struct Prometheus {
    address: SocketAddr,
    /// For its life.
    _daemon: Daemon,
}

impl Prometheus {
    /// Starts a server that scrapes `target` four times a second, as the job `blobgate`. It serves
    /// when this returns; `dir` takes its data.
    pub fn start(dir: &Path, target: SocketAddr) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let config = dir.join("prometheus.yml");
        // Any JSON is YAML.
        let text = json!({
            "global": { "scrape_interval": "250ms", "scrape_timeout": "250ms" },
            "scrape_configs": [{
                "job_name": "blobgate",
                "static_configs": [{ "targets": [target.to_string()] }],
            }],
        });
        fs::write(&config, text.to_string())?;
        let mut command = daemon::command(Path::new("prometheus"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.join("data").display()
            ))
            .arg("--web.listen-address=127.0.0.1:0");
        let daemon = Daemon::start("prometheus", command, dir.join("prometheus.log"))
            .map_err(|error| missing("prometheus", &error))?;
        let address = daemon.find_line(READY_WITHIN, |line| {
            let (_, address) = line.split_once("\"Listening on\" address=")?;
            address.trim().parse().ok()
        })?;
        daemon.find_line(READY_WITHIN, |line| {
            line.contains("Server is ready to receive web requests")
                .then_some(())
        })?;
        daemon.ignore_lines();
        Ok(Self {
            address,
            _daemon: daemon,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Runs promtool with this as its standard input; what it said, and whether it was content.
pub fn promtool(arguments: &[&str], input: &str) -> io::Result<(bool, String)> {
    let mut child = daemon::command(Path::new("promtool"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| missing("promtool", &error))?;
    let mut stdin = child.stdin.take().expect("piped above");
    // It may end without reading it all; what it says then is of more use.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Ok((output.status.success(), said))
}

fn missing(program: &str, error: &io::Error) -> io::Error {
    io::Error::other(format!(
        "cannot start {program}, of the Debian package prometheus: {error}"
    ))
}

//! The push tool (`examples/push`), run as a user runs it, against a server that plays the
//! registry and its moods.
#![forbid(unsafe_code)]

mod images;
mod logins;
mod pushes;
mod server;

use serde_json::Value;
use server::Server;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a run left behind.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
    took: Duration,
}

impl Run {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }
}

/// The tool's command line, without anything of the user's own configuration.
fn tool() -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .stdin(Stdio::null())
        // Nobody answers there: a tool that took it for a proxy would fail.
        .env("http_proxy", "http://127.0.0.1:9");
    command
}

fn binary() -> PathBuf {
    // Cargo tells tests where a package's programs are, but not where its examples are.
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let binary = profile.join("examples").join("push");
    assert!(
        binary.exists(),
        "{} is missing: run `cargo build --example push` first",
        binary.display()
    );
    binary
}

fn run(command: &mut Command) -> Run {
    let began = std::time::Instant::now();
    let output = command.output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        took: began.elapsed(),
    }
}

/// Pushes files to repository `a/b` of the server and prints JSON.
fn push(server: &Server, files: &[&Path], options: &[&str]) -> Run {
    run(tool()
        .args(["--json", &server.url(), "a/b"])
        .args(files)
        .args(options))
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// Bytes that would show a chunk out of order.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    format!("sha256:{:x}", sha2::Sha256::digest(bytes))
}

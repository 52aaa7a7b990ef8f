//! Real clients, each as a process that pushes a file and then asks for `/v2/` on what is left of
//! its connection.

use crate::common::MIB;
use blobgate_testkit::blob::sha256;
use serde::Deserialize;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// More than the sockets' buffers and HTTP/2's windows hold together, so that a client that is not
/// read from, or that is cut off, must notice.
pub const SIZE: u64 = 48 * MIB;

/// How long a client that asks before it sends waits for the answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What bodies are made of, so that a body's byte taken for a request is seen at the registry.
pub const SMUGGLED: &str = "GET /v2/smuggled/tags/list HTTP/1.1\r\nHost: smuggled\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Go,
    Curl,
    Python,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Http1,
    Http1Tls,
    Http2Tls,
}

impl Wire {
    pub fn is_tls(self) -> bool {
        self != Self::Http1
    }

    pub fn proto(self) -> &'static str {
        match self {
            Self::Http1 | Self::Http1Tls => "HTTP/1.1",
            Self::Http2Tls => "HTTP/2.0",
        }
    }
}

/// How the body is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    Length,
    Chunked,
    /// The length, and `Expect: 100-continue`; http.client sends it and does not wait.
    Expect,
    /// As `Expect`, but the client's patience is over before an answer can come.
    Impatient,
}

/// One file on its way.
#[derive(Debug, Clone)]
pub struct Sending<'a> {
    /// `http://…` or `https://…`, without a path.
    pub base: String,
    pub ca: Option<PathBuf>,
    pub method: &'static str,
    pub path: String,
    pub file: &'a Path,
    pub announce: Announce,
    pub user: Option<(&'a str, &'a str)>,
}

/// What the client saw.
#[derive(Debug, Clone, Deserialize)]
pub struct Seen {
    /// 0 where no answer came.
    pub status: u16,
    /// The OCI error code.
    pub code: String,
    pub proto: String,
    pub error: Option<String>,
    /// Of `GET /v2/` afterwards.
    pub next_status: u16,
    /// Whether that went over the same connection.
    pub next_reused: bool,
    pub next_error: Option<String>,
}

/// Every client with every protocol and announcement it knows.
pub fn all() -> Vec<(Tool, Wire, Announce)> {
    use Announce::{Chunked, Expect, Impatient, Length};
    let mut all = Vec::new();
    for wire in [Wire::Http1, Wire::Http1Tls, Wire::Http2Tls] {
        for announce in [Length, Chunked, Expect, Impatient] {
            all.push((Tool::Go, wire, announce));
            all.push((Tool::Curl, wire, announce));
        }
        if wire != Wire::Http2Tls {
            for announce in [Length, Chunked, Expect] {
                all.push((Tool::Python, wire, announce));
            }
        }
    }
    all
}

/// A file of requests, and its digest.
pub fn body_file(path: &Path, size: u64) -> String {
    let repeated = SMUGGLED.repeat(size as usize / SMUGGLED.len() + 1);
    let content = &repeated.as_bytes()[..size as usize];
    std::fs::write(path, content).expect("a body's file");
    sha256(content)
}

/// A file of zeros that takes no room on the disk.
pub fn sparse_file(path: &Path, size: u64) {
    let file = File::create(path).expect("a body's file");
    file.set_len(size).expect("a sparse file");
}

impl Tool {
    /// Sends the file, blocking until the client is done.
    pub fn send(self, wire: Wire, sending: &Sending<'_>) -> Seen {
        match self {
            Self::Go => go(wire, sending),
            Self::Curl => curl(wire, sending),
            Self::Python => python(wire, sending),
        }
    }
}

fn go(wire: Wire, sending: &Sending<'_>) -> Seen {
    let mut command = Command::new(go_client());
    command.args(["-base", &sending.base, "-path", &sending.path]);
    command.args(["-method", sending.method]);
    command.arg("-file").arg(sending.file);
    command.arg(format!("-http2={}", wire == Wire::Http2Tls));
    match sending.announce {
        Announce::Length => {}
        Announce::Chunked => drop(command.arg("-chunked")),
        Announce::Expect => drop(
            command
                .arg("-expect")
                .args(["-wait", &format!("{PATIENCE:?}")]),
        ),
        Announce::Impatient => drop(command.args(["-expect", "-wait", "1ms"])),
    }
    if let Some(ca) = &sending.ca {
        command.arg("-ca").arg(ca);
    }
    if let Some((user, password)) = sending.user {
        command.args(["-user", user, "-password", password]);
    }
    parse(&run(command, "golang-go"))
}

fn python(wire: Wire, sending: &Sending<'_>) -> Seen {
    assert_ne!(wire, Wire::Http2Tls, "http.client speaks HTTP/1.1 only");
    let (_, host) = sending.base.split_once("://").expect("a URL");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/client.py");
    let mut command = Command::new("python3");
    command.arg(script);
    command.args([host, sending.method, &sending.path]);
    command.arg(sending.file);
    if sending.announce != Announce::Chunked {
        command.args(["--length", &length(sending.file).to_string()]);
    }
    if sending.announce == Announce::Expect {
        command.arg("--expect");
    }
    if let Some(ca) = &sending.ca {
        command.arg("--ca").arg(ca);
    }
    if let Some((user, password)) = sending.user {
        command.args(["--user", &format!("{user}:{password}")]);
    }
    parse(&run(command, "python3"))
}

/// Two transfers by one curl, which keeps its connections from one to the next.
fn curl(wire: Wire, sending: &Sending<'_>) -> Seen {
    let answer = tempfile::NamedTempFile::new().expect("a file for the answer");
    let mut command = Command::new("curl");
    // First of all, or a user's own configuration would be read.
    command.arg("--disable");
    let both = |command: &mut Command| {
        command.args(["--silent", "--show-error", "--max-time", "120"]);
        command.args(["--noproxy", "*"]);
        command.arg(match wire {
            Wire::Http1 | Wire::Http1Tls => "--http1.1",
            Wire::Http2Tls => "--http2",
        });
        command.args([
            "--write-out",
            "%{http_code} %{http_version} %{num_connects}\n",
        ]);
        if let Some(ca) = &sending.ca {
            command.arg("--cacert").arg(ca);
        }
    };
    both(&mut command);
    command.args(["--request", sending.method]);
    command.arg("--output").arg(answer.path());
    match sending.announce {
        Announce::Length => drop(command.args(["--header", "Expect:"])),
        Announce::Chunked => {
            command.args(["--header", "Expect:"]);
            if wire != Wire::Http2Tls {
                command.args(["--header", "Transfer-Encoding: chunked"]);
            }
        }
        Announce::Expect | Announce::Impatient => {
            let patience = match sending.announce {
                Announce::Impatient => "0.001",
                _ => &format!("{}", PATIENCE.as_secs()),
            };
            command.args(["--expect100-timeout", patience]);
            command.args(["--header", "Expect: 100-continue"]);
        }
    }
    if sending.announce == Announce::Chunked {
        // Of its standard input curl does not know the length.
        let file = File::open(sending.file).expect("a body's file");
        command.args(["--upload-file", "-"]).stdin(file);
    } else {
        command.arg("--upload-file").arg(sending.file);
        command.stdin(Stdio::null());
    }
    if let Some((user, password)) = sending.user {
        command.args(["--user", &format!("{user}:{password}")]);
    }
    command.arg(format!("{}{}", sending.base, sending.path));
    command.arg("--next");
    both(&mut command);
    command.args(["--output", "/dev/null"]);
    command.arg(format!("{}/v2/", sending.base));

    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{}", missing("curl", "curl", &e)));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split(' ').collect()).collect();
    let [push, next] = lines.as_slice() else {
        panic!("curl reports no two transfers: {output:?}");
    };
    // Its exit code is the last transfer's; what it complains of may be the first one's.
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let complaint = (!complaint.is_empty()).then_some(complaint);
    let body = std::fs::read(answer.path()).unwrap_or_default();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let code = body["errors"][0]["code"].as_str().unwrap_or_default();
    let number = |field: &str| field.parse().unwrap_or(0);
    Seen {
        status: number(push[0]),
        code: code.to_owned(),
        proto: match push[1] {
            "2" => "HTTP/2.0".to_owned(),
            version => format!("HTTP/{version}"),
        },
        error: complaint,
        next_status: number(next[0]),
        next_reused: number(next[2]) == 0,
        next_error: None,
    }
}

/// The client of `tests/clients/go`, built once for the whole run.
fn go_client() -> &'static Path {
    static CLIENT: OnceLock<PathBuf> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
        let client = to.join("client");
        let mut command = Command::new("go");
        command.args(["build", "-o"]).arg(&client).arg(".");
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/go"));
        // The standard library is all it needs: nothing is fetched, and no other Go than this.
        command.env("GO111MODULE", "on").env("GOFLAGS", "-mod=mod");
        command.env("GOPROXY", "off").env("GOTOOLCHAIN", "local");
        command.env("GOWORK", "off").env("CGO_ENABLED", "0");
        command.env("GOCACHE", to.join("cache"));
        command.env("GOPATH", to.join("path"));
        run(command, "golang-go");
        client
    })
}

fn run(mut command: Command, package: &str) -> Output {
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(proxy);
    }
    command.stdin(Stdio::null());
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{}", missing(&program, package, &e)));
    assert!(
        output.status.success(),
        "{program} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn missing(program: &str, package: &str, error: &std::io::Error) -> String {
    format!("cannot run {program} ({error}): install the Debian package {package}")
}

fn parse(output: &Output) -> Seen {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn length(file: &Path) -> u64 {
    file.metadata().expect("a body's file").len()
}

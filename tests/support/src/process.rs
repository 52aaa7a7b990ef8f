//! blobgate itself, as a process.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_yaml::{Mapping, Value};

use crate::daemon::{self, Daemon};

const READY_WITHIN: Duration = Duration::from_secs(30);

/// blobgate's YAML, as a value that a test can edit.
#[derive(Debug, Clone)]
pub struct Config(Value);

impl Config {
    /// A config in which nothing is set.
    pub fn empty() -> Self {
        Self(Value::Mapping(Mapping::new()))
    }

    /// Parses YAML.
    pub fn parse(yaml: &str) -> io::Result<Self> {
        serde_yaml::from_str(yaml)
            .map(Self)
            .map_err(io::Error::other)
    }

    /// A config that listens on free loopback ports.
    pub fn new(upstream: &str, s3_endpoint: &str, bucket: &str) -> Self {
        Self::empty()
            .set("listen.address", "127.0.0.1:0")
            .set("admin.address", "127.0.0.1:0")
            .set("upstream.url", upstream)
            .set("bucket.name", bucket)
            .set("bucket.region", "us-east-1")
            .set("bucket.endpoint", s3_endpoint)
            .set("bucket.path_style", true)
    }

    /// Sets one value by its dotted path; what lies between is made.
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let mut at = &mut self.0;
        for name in path.split('.') {
            if !at.is_mapping() {
                *at = Value::Mapping(Mapping::new());
            }
            let mapping = at.as_mapping_mut().expect("made just now");
            at = mapping.entry(Value::from(name)).or_insert(Value::Null);
        }
        *at = value.into();
        self
    }

    /// Removes one value by its dotted path.
    pub fn unset(mut self, path: &str) -> Self {
        let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
        let mut at = Some(&mut self.0);
        for name in parents.split('.').filter(|name| !name.is_empty()) {
            at = at.and_then(|value| value.get_mut(name));
        }
        if let Some(mapping) = at.and_then(Value::as_mapping_mut) {
            mapping.remove(last);
        }
        self
    }

    /// One value by its dotted path.
    pub fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.0, |at, name| at.get(name))
    }

    /// The YAML.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(&self.0).expect("a config is YAML")
    }
}

/// How to start blobgate.
#[derive(Debug, Clone)]
pub struct BlobgateOptions {
    /// The program, such as `env!("CARGO_BIN_EXE_blobgate")`.
    pub binary: PathBuf,
    /// Its config.
    pub config: Config,
    /// Where the config and the log are written.
    pub dir: PathBuf,
    /// Additions to its environment.
    pub environment: Vec<(String, String)>,
}

/// A running blobgate; killed when dropped, and when this process dies.
#[derive(Debug)]
pub struct Blobgate {
    address: SocketAddr,
    admin: SocketAddr,
    daemon: Daemon,
}

impl Blobgate {
    /// Starts blobgate; it serves when this returns. Fails with its log when it ends instead.
    pub fn start(options: &BlobgateOptions) -> io::Result<Self> {
        fs::create_dir_all(&options.dir)?;
        let path = options.dir.join("blobgate.yaml");
        fs::write(&path, options.config.to_yaml())?;
        let mut command = daemon::command(&options.binary);
        command.arg("--config").arg(&path);
        command.envs(options.environment.iter().cloned());

        let daemon = Daemon::start("blobgate", command, options.dir.join("blobgate.log"))?;
        let (mut address, mut admin) = (None, None);
        while address.is_none() || admin.is_none() {
            let (is_admin, found) = daemon.find_line(READY_WITHIN, |line| {
                let (before, url) = line.split_once("listening on ")?;
                Some((before.ends_with("admin "), socket_address(url)?))
            })?;
            *(if is_admin { &mut admin } else { &mut address }) = Some(found);
        }
        Ok(Self {
            address: address.expect("found above"),
            admin: admin.expect("found above"),
            daemon,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where metrics and health are.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Waits until a line from now on contains `part`; lines already read count no more.
    pub fn wait_for_log(&self, part: &str, bound: Duration) -> io::Result<String> {
        self.daemon
            .find_line(bound, |line| line.contains(part).then(|| line.to_owned()))
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.daemon.signal(Signal::SIGTERM);
    }

    /// SIGINT.
    pub fn interrupt(&self) {
        self.daemon.signal(Signal::SIGINT);
    }

    /// SIGQUIT.
    pub fn quit(&self) {
        self.daemon.signal(Signal::SIGQUIT);
    }

    /// SIGKILL.
    pub fn kill(&self) {
        self.daemon.signal(Signal::SIGKILL);
    }

    /// Waits for its end; `None` when it has not come within `bound`.
    pub fn wait(&self, bound: Duration) -> Option<ExitStatus> {
        self.daemon.wait(bound)
    }

    /// Memory it occupies now, in bytes.
    pub fn rss_bytes(&self) -> io::Result<u64> {
        memory(self.pid(), "VmRSS:")
    }

    /// The most memory it has ever occupied, in bytes.
    pub fn peak_rss_bytes(&self) -> io::Result<u64> {
        memory(self.pid(), "VmHWM:")
    }

    /// CPU seconds it has spent, in user mode and in the kernel.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        cpu(self.pid())
    }

    /// Every sample of `/metrics`, by name and labels as written there.
    pub fn metrics(&self) -> io::Result<BTreeMap<String, f64>> {
        let page = scrape(self.admin, "/metrics")?;
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        Ok(samples
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect())
    }
}

/// `Key:   123 kB` in a process's status.
fn memory(pid: u32, key: &str) -> io::Result<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other(format!("no {key} for process {pid}")))
}

fn cpu(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    // The second field, the name, may contain spaces; utime and stime are the 14th and 15th.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every architecture that matters.
    Ok(ticks as f64 / 100.0)
}

/// The address in `http://ADDRESS`, possibly followed by more.
fn socket_address(url: &str) -> Option<SocketAddr> {
    let (_, address) = url.split_once("://")?;
    let end = address.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
    let mut address: SocketAddr = address[..end.unwrap_or(address.len())].parse().ok()?;
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    Some(address)
}

fn scrape(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(READY_WITHIN))?;
    // HTTP/1.0 has neither chunks nor keep-alive: the body is all that follows.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("{path} answered: {answer}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_edited_by_path() {
        let config = Config::parse("upload: {part_size: 8MiB, max_streaming: 4}\n").unwrap();
        let config = config
            .set("upload.part_size", "5MiB")
            .set("admin.address", "127.0.0.1:0")
            .unset("upload.max_streaming");
        assert_eq!(config.get("upload.part_size"), Some(&"5MiB".into()));
        assert_eq!(
            config.to_yaml(),
            "upload:\n  part_size: 5MiB\nadmin:\n  address: 127.0.0.1:0\n"
        );
    }

    #[test]
    fn the_address_is_found_in_a_log_line() {
        for (url, address) in [
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://0.0.0.0:443 (tls)", "127.0.0.1:443"),
            ("http://[::1]:80,", "[::1]:80"),
        ] {
            assert_eq!(socket_address(url), address.parse().ok(), "{url}");
        }
    }
}

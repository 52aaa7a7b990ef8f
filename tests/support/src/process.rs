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
use crate::usage::Usage;

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
            // Tests count calls, and break them: only those they make.
            .set("admin.check_interval", "off")
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

impl BlobgateOptions {
    /// Writes the config into the directory; returns the file.
    pub fn write_config(&self) -> io::Result<PathBuf> {
        fs::create_dir_all(&self.dir)?;
        let path = self.dir.join("blobgate.yaml");
        fs::write(&path, self.config.to_yaml())?;
        Ok(path)
    }
}

/// A running blobgate; killed when dropped, and when this process dies.
#[derive(Debug)]
pub struct Blobgate {
    scheme: String,
    address: SocketAddr,
    /// None where the config turns it off.
    admin: Option<SocketAddr>,
    daemon: Daemon,
}

impl Blobgate {
    /// Starts blobgate; it serves when this returns. Fails with its log when it ends instead.
    pub fn start(options: &BlobgateOptions) -> io::Result<Self> {
        Self::start_with(options, &options.write_config()?)
    }

    /// As [`Blobgate::start`], but with a config file that is there already, and that says what
    /// the options' config says.
    pub fn start_with(options: &BlobgateOptions, config: &Path) -> io::Result<Self> {
        Self::launch(options, config, &[])
    }

    /// Starts a successor, with `--upgrade`; it serves when this returns, which is once the
    /// running blobgate was sent SIGQUIT.
    pub fn succeed(options: &BlobgateOptions) -> io::Result<Self> {
        Self::launch(options, &options.write_config()?, &["--upgrade"])
    }

    fn launch(options: &BlobgateOptions, config: &Path, arguments: &[&str]) -> io::Result<Self> {
        fs::create_dir_all(&options.dir)?;
        let mut command = daemon::command(&options.binary);
        command.arg("--config").arg(config).args(arguments);
        command.envs(options.environment.iter().cloned());

        let daemon = Daemon::start("blobgate", command, options.dir.join("blobgate.log"))?;
        let wants_admin = options.config.get("admin.address") != Some(&Value::from("off"));
        let (mut listener, mut admin) = (None, None);
        while listener.is_none() || (wants_admin && admin.is_none()) {
            let (before, found) = daemon.find_line(READY_WITHIN, |line| {
                let (before, url) = line.split_once("listening on ")?;
                Some((before.to_owned(), socket_address(url)?))
            })?;
            if before.ends_with("admin ") {
                admin = Some(found.1);
            } else {
                listener = Some(found);
            }
        }
        let (scheme, address) = listener.expect("found above");
        Ok(Self {
            scheme,
            address,
            admin,
            daemon,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, or https.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Where metrics and health are. Panics when the config turns them off.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_address())
    }

    /// Where metrics and health are. Panics when the config turns them off.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.expect("admin is off")
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

    /// Waits for its end, and returns that as an error with its log.
    pub async fn unexpected_end(&self) -> io::Error {
        self.daemon.unexpected_end().await
    }

    /// Memory it occupies now, in bytes.
    pub fn rss_bytes(&self) -> io::Result<u64> {
        Usage::of(self.pid()).rss_bytes()
    }

    /// The most memory it has ever occupied, in bytes.
    pub fn peak_rss_bytes(&self) -> io::Result<u64> {
        Usage::of(self.pid()).peak_rss_bytes()
    }

    /// CPU seconds it has spent, in user mode and in the kernel.
    pub fn cpu_seconds(&self) -> io::Result<f64> {
        Usage::of(self.pid()).cpu_seconds()
    }

    /// `/metrics` as it is.
    pub fn metrics_page(&self) -> io::Result<String> {
        scrape(self.admin_address(), "/metrics")
    }

    /// Every sample of `/metrics`, by name and labels as written there.
    pub fn metrics(&self) -> io::Result<BTreeMap<String, f64>> {
        let page = self.metrics_page()?;
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        Ok(samples
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect())
    }
}

/// Keeps a command from HTTP proxies and from other trust than the system's: everything here is on
/// this machine.
pub fn clean_environment(command: &mut std::process::Command) {
    daemon::clean_environment(command);
}

/// Scheme and address in `http://ADDRESS`, possibly followed by more.
pub(crate) fn socket_address(url: &str) -> Option<(String, SocketAddr)> {
    let (scheme, address) = url.split_once("://")?;
    let end = address.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
    let mut address: SocketAddr = address[..end.unwrap_or(address.len())].parse().ok()?;
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    Some((scheme.to_owned(), address))
}

fn scrape(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(READY_WITHIN))?;
    // HTTP/1.0 has neither chunks nor keep-alive: the body is all that follows.
    // In one piece: a server that answers and closes after the first would reset the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
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
            ("http://127.0.0.1:5000", ("http", "127.0.0.1:5000")),
            ("https://0.0.0.0:443 (tls)", ("https", "127.0.0.1:443")),
            ("http://[::1]:80,", ("http", "[::1]:80")),
        ] {
            let expected = (address.0.to_owned(), address.1.parse().unwrap());
            assert_eq!(socket_address(url), Some(expected), "{url}");
        }
    }
}

//! The real registry: Debian's `docker-registry`, or any other build of distribution.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{self, Daemon};
use crate::s3::{S3Options, S3Server};

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// What a [`Registry`] is like.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// The program: a path, or a name that `PATH` knows.
    pub binary: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Where its config, log and users lie.
    pub dir: PathBuf,
    /// The bucket.
    pub bucket: String,
    /// Its S3 endpoint.
    pub s3_endpoint: String,
    /// Its access key.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// The S3 driver's `rootdirectory`.
    pub root_directory: Option<String>,
    /// Name and password of those who may do everything; nobody is asked when there are none.
    pub users: Vec<(String, String)>,
    /// Read-only maintenance.
    pub read_only: bool,
    /// Whether pulls of blobs are redirected to the bucket.
    pub redirect: bool,
    /// Whether blobs and manifests may be deleted.
    pub delete: bool,
    /// The `http.host` that Location headers are made of.
    pub host: Option<String>,
    /// Whether it keeps blob descriptors in memory.
    pub cache: bool,
    /// More of its config, merged over the rest.
    pub config: Value,
}

impl RegistryOptions {
    /// A registry on a free loopback port, over the S3 server's first bucket.
    pub fn new(dir: impl Into<PathBuf>, s3: &S3Server) -> Self {
        Self::over(dir, s3.options(), s3.url())
    }

    /// A registry on a free loopback port, over the first bucket of an S3 server that has these
    /// options and is reached at this endpoint.
    pub fn over(dir: impl Into<PathBuf>, options: &S3Options, endpoint: String) -> Self {
        Self {
            binary: PathBuf::from("docker-registry"),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            dir: dir.into(),
            bucket: options
                .buckets
                .first()
                .expect("S3 without a bucket")
                .clone(),
            s3_endpoint: endpoint,
            access_key: options.access_key.clone(),
            secret_key: options.secret_key.clone(),
            root_directory: None,
            users: Vec::new(),
            read_only: false,
            redirect: false,
            delete: true,
            host: None,
            cache: true,
            config: json!({}),
        }
    }

    fn config(&self) -> io::Result<Value> {
        let mut s3 = json!({
            "accesskey": self.access_key,
            "secretkey": self.secret_key,
            "region": "us-east-1",
            "regionendpoint": self.s3_endpoint,
            "forcepathstyle": true,
            "bucket": self.bucket,
            "secure": self.s3_endpoint.starts_with("https"),
            "v4auth": true,
        });
        if let Some(root) = &self.root_directory {
            s3["rootdirectory"] = json!(root);
        }
        let mut config = json!({
            "version": "0.1",
            "log": { "level": "info", "accesslog": { "disabled": false } },
            "storage": {
                "s3": s3,
                "delete": { "enabled": self.delete },
                "redirect": { "disable": !self.redirect },
                "maintenance": {
                    "readonly": { "enabled": self.read_only },
                    // It would begin at a moment of its own choice.
                    "uploadpurging": { "enabled": false },
                },
            },
            "http": { "addr": self.address.to_string() },
        });
        if self.cache {
            config["storage"]["cache"] = json!({ "blobdescriptor": "inmemory" });
        }
        if let Some(host) = &self.host {
            config["http"]["host"] = json!(host);
        }
        if !self.users.is_empty() {
            let path = self.dir.join("htpasswd");
            fs::write(&path, htpasswd(&self.users)?)?;
            config["auth"]["htpasswd"] = json!({ "realm": "testkit", "path": path });
        }
        merge(&mut config, &self.config);
        Ok(config)
    }
}

/// A running registry; killed when dropped, and when this process dies.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    daemon: Daemon,
}

impl Registry {
    /// Starts the registry; it serves when this returns.
    pub fn start(options: &RegistryOptions) -> io::Result<Self> {
        fs::create_dir_all(&options.dir)?;
        let binary = find(&options.binary)?;
        let path = options.dir.join("registry.yml");
        // JSON is YAML.
        fs::write(&path, serde_json::to_vec_pretty(&options.config()?)?)?;
        let mut command = daemon::command(&binary);
        command
            .arg("serve")
            .arg(&path)
            .env("OTEL_TRACES_EXPORTER", "none");

        let log = options.dir.join("registry.log");
        let daemon = Daemon::start("registry", command, log)?;
        // Written once the socket listens, with the port it was given.
        let address = daemon.find_line(READY_WITHIN, |line| {
            let (_, address) = line.split_once("listening on ")?;
            address.split(['"', ',', ' ']).next()?.parse().ok()
        })?;
        daemon.ignore_lines();
        Ok(Self { address, daemon })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Waits for its end, and returns that as an error with its log.
    pub async fn unexpected_end(&self) -> io::Error {
        self.daemon.unexpected_end().await
    }

    /// Stops it in its own way, within bounds.
    pub fn stop(self) {
        self.daemon.signal(nix::sys::signal::Signal::SIGTERM);
        self.daemon.wait(STOPS_WITHIN);
    }
}

/// Finds the program before anything is started, to say what to install.
pub fn find(binary: &Path) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian puts servers where an ordinary user's PATH may not reach.
    let extra = ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(PathBuf::from);
    let dirs = std::env::split_paths(&path).chain(extra);
    let mut candidates = vec![binary.to_owned()];
    if binary.components().count() == 1 {
        candidates = dirs.map(|dir| dir.join(binary)).collect();
    }
    match candidates.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "no registry at {}: install it (apt-get install docker-registry) or name another \
                 build of distribution",
                binary.display()
            ),
        )),
    }
}

fn htpasswd(users: &[(String, String)]) -> io::Result<String> {
    let mut lines = String::new();
    for (name, password) in users {
        // The registry reads no other hash. The least cost: these are no secrets.
        let hash = bcrypt::hash_with_result(password, 4).map_err(io::Error::other)?;
        let hash = hash.format_for_version(bcrypt::Version::TwoY);
        lines += &format!("{name}:{hash}\n");
    }
    Ok(lines)
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

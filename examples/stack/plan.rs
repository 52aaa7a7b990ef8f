use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};

use blobgate_testkit::process::Config;
use url::{Host, Url};

use crate::{Options, Result};

/// What listens where: blobgate's config says it, unless an option says otherwise.
pub struct Plan {
    pub s3: SocketAddr,
    pub registry: SocketAddr,
    blobgate: SocketAddr,
    /// None where the config turns it off.
    pub admin: Option<SocketAddr>,
    pub bucket: String,
    pub root_directory: Option<String>,
    /// The config that blobgate runs with.
    pub config: Config,
    /// Whether an option changed it, so that the file cannot be used as it is.
    pub edited: bool,
}

impl Plan {
    pub fn new(options: &Options) -> Result<Self> {
        let source = &options.config;
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", source.display());
        let yaml = fs::read_to_string(source).map_err(|error| named(&error))?;
        let mut config = Config::parse(&yaml).map_err(|error| named(&error))?;

        let mut blobgate = address(&config, "listen.address").map_err(|error| named(&error))?;
        let mut admin = match text(&config, "admin.address").as_deref() {
            Some("off") => None,
            _ => Some(address(&config, "admin.address").map_err(|error| named(&error))?),
        };
        let mut registry = local(&config, "upstream.url").map_err(|error| named(&error))?;
        let mut s3 = local(&config, "bucket.endpoint").map_err(|error| named(&error))?;
        let bucket =
            text(&config, "bucket.name").ok_or_else(|| named(&"bucket.name is missing"))?;

        let mut edited = false;
        if let Some(port) = options.port {
            blobgate.set_port(port);
            config = config.set("listen.address", blobgate.to_string());
            edited = true;
        }
        if let Some(port) = options.admin_port {
            let loopback = SocketAddr::from(([127, 0, 0, 1], port));
            let wanted = admin.map_or(loopback, |admin| SocketAddr::new(admin.ip(), port));
            admin = Some(wanted);
            config = config.set("admin.address", wanted.to_string());
            edited = true;
        }
        if let Some(port) = options.registry_port {
            registry.set_port(port);
            config = config.set("upstream.url", format!("http://{registry}"));
            edited = true;
        }
        if let Some(port) = options.s3_port {
            s3.set_port(port);
            config = config.set("bucket.endpoint", format!("http://{s3}"));
            edited = true;
        }
        Ok(Self {
            s3,
            registry,
            blobgate,
            admin,
            bucket,
            root_directory: text(&config, "bucket.root_directory"),
            config,
            edited,
        })
    }

    /// Names every port that is taken, and the option that takes another.
    pub fn check_ports(&self) -> Result<()> {
        let mut taken = Vec::new();
        let mut check = |address: SocketAddr, part: &str, option: &str| {
            if let Err(error) = TcpListener::bind(address) {
                let port = address.port();
                taken.push(match error.kind() {
                    io::ErrorKind::AddrInUse => format!(
                        "port {port} is in use (needed for {part}); free it or pass {option} {}",
                        port.saturating_add(10)
                    ),
                    _ => format!("cannot listen on {address} (needed for {part}): {error}"),
                });
            }
        };
        check(self.blobgate, "blobgate", "--port");
        check(self.registry, "the registry", "--registry-port");
        check(self.s3, "the S3 server", "--s3-port");
        if let Some(admin) = self.admin {
            check(admin, "blobgate's metrics", "--admin-port");
        }
        match taken.is_empty() {
            true => Ok(()),
            false => Err(taken.join("\nstack: ").into()),
        }
    }
}

fn text(config: &Config, path: &str) -> Option<String> {
    Some(config.get(path)?.as_str()?.to_owned())
}

fn address(config: &Config, path: &str) -> std::result::Result<SocketAddr, String> {
    let value = text(config, path).unwrap_or_default();
    let parsed = value.parse();
    parsed.map_err(|_| format!("{path} is {value:?}, where the stack needs address and port"))
}

/// The address in a URL, which must be one of this machine: the stack starts what is behind it.
fn local(config: &Config, path: &str) -> std::result::Result<SocketAddr, String> {
    let value = text(config, path).unwrap_or_default();
    let url = Url::parse(&value).ok();
    let port = url.as_ref().and_then(Url::port_or_known_default);
    let host = url
        .as_ref()
        .filter(|url| url.scheme() == "http")
        .and_then(Url::host);
    let ip = match host {
        Some(Host::Ipv4(ip)) if ip.is_loopback() => Some(ip.into()),
        Some(Host::Ipv6(ip)) if ip.is_loopback() => Some(ip.into()),
        Some(Host::Domain("localhost")) => Some([127, 0, 0, 1].into()),
        _ => None,
    };
    match (ip, port) {
        (Some(ip), Some(port)) => Ok(SocketAddr::new(ip, port)),
        _ => Err(format!(
            "{path} is {value:?}, where the stack needs http:// on this machine's loopback"
        )),
    }
}

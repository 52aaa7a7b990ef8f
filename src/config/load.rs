//! From the YAML to the validated configuration. `docs/CONFIGURATION.md` says in full what each
//! key means; the tests hold it to the keys and defaults here.

use super::section::{Key, Reader, Section};
use super::units::{DAY, GIB, HOUR, MIB, TIB, format_duration, format_size};
use super::{
    Admin, Bucket, Config, ConfigErrors, Listen, Log, LogFormat, Sweep, Tls, Upload, Upstream,
};
use super::{bucket, kind, pem};
use log::LevelFilter;
use serde_yaml::{Mapping, Value};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// S3's limits: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
const MIN_PART: u64 = 5 * MIB;
const MAX_PART: u64 = 5 * GIB;
const MAX_PARTS: u64 = 10_000;
const MAX_OBJECT: u64 = 5 * TIB;

const MAX_THREADS: usize = 512;

const LEVELS: &[(&str, LevelFilter)] = &[
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

const FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

impl Config {
    /// Reads the file, with `${NAME}` taken from this process's environment.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigErrors::whole(
                format!("the file cannot be read: {error}"),
                "name a readable YAML file in UTF-8",
            )
        })?;
        Self::parse(&text, |name| std::env::var(name).ok())
    }

    /// `env` gives the value of an environment variable. Files that the text names are opened.
    pub fn parse(text: &str, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let value: Value = serde_yaml::from_str(text).map_err(|error| {
            ConfigErrors::whole(
                format!("not usable YAML: {error}"),
                "indent with spaces, and quote values with special characters",
            )
        })?;
        let root = match value {
            Value::Mapping(root) => root,
            // An empty file, or one of comments only: say which keys it needs.
            Value::Null => Mapping::new(),
            _ => {
                return Err(ConfigErrors::whole(
                    "found no keys at the top".to_owned(),
                    "begin with a section such as `upstream:`, its keys indented below it",
                ));
            }
        };
        let (config, _) = read(&root, &env)?;
        Ok(config)
    }
}

/// The configuration, and every key that was asked for on the way to it.
pub(super) fn read(
    root: &Mapping,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Config, Vec<Key>), ConfigErrors> {
    let reader = Reader::new(env);
    let config = config(&reader, &reader.root(root));
    reader.refuse_unknown(root);
    match (config, reader.finish()) {
        (Some(config), (faults, keys)) if faults.is_empty() => Ok((config, keys)),
        (_, (faults, _)) => Err(ConfigErrors::new(faults)),
    }
}

fn config(reader: &Reader, root: &Section) -> Option<Config> {
    let listen = listen(reader, &root.section("listen"));
    let upstream = upstream(reader, &root.section("upstream"));
    let bucket = bucket::bucket(reader, &root.section("bucket"));
    let upload = upload(reader, &root.section("upload"));
    let sweep = sweep(&root.section("sweep"));
    check_sweep_age(reader, upload.as_ref(), bucket.as_ref(), sweep.as_ref());
    let admin = admin(&root.section("admin"));
    let log = log(&root.section("log"));
    let threads = root.optional_with(
        "threads",
        "the CPUs available",
        &kind::count(1..=MAX_THREADS),
    );
    let grace_period = root.or("grace_period", "5m", &kind::timeout());
    let upgrade_socket = root.optional(
        "upgrade_socket",
        &kind::file("a path in a folder that exists", kind::in_a_folder),
    );
    check_addresses(reader, listen.as_ref(), upstream.as_ref(), admin.as_ref());

    let cpus =
        || std::thread::available_parallelism().map_or(1, |cpus| cpus.get().min(MAX_THREADS));
    Some(Config {
        listen: listen?,
        upstream: upstream?,
        bucket: bucket?,
        upload: upload?,
        sweep: sweep?,
        admin: admin?,
        log: log?,
        threads: threads?.unwrap_or_else(cpus),
        grace_period: grace_period?,
        upgrade_socket: upgrade_socket?,
    })
}

fn listen(reader: &Reader, section: &Section) -> Option<Listen> {
    let address = section.or("address", "0.0.0.0:5000", &kind::address());
    let tls = tls(reader, &section.section("tls"));
    let trust_forwarded = section.or("trust_forwarded", "false", &kind::flag());
    let header_timeout = section.or("header_timeout", "30s", &kind::timeout());
    let keepalive_timeout = section.or("keepalive_timeout", "75s", &kind::timeout());
    let max_connections = section.or("max_connections", "4096", &kind::count(1..=1_000_000));
    let http2_memory = section.or("http2_memory", "256MiB", &kind::size(0..=TIB, ""));
    Some(Listen {
        address: address?,
        tls: tls?,
        trust_forwarded: trust_forwarded?,
        header_timeout: header_timeout?,
        keepalive_timeout: keepalive_timeout?,
        max_connections: max_connections?,
        http2_memory: http2_memory?,
    })
}

fn tls(reader: &Reader, section: &Section) -> Option<Option<Tls>> {
    let certificate = section.optional(
        "certificate",
        &kind::file("a PEM file with the server's certificate first", |path| {
            pem::certificates(path).map(drop)
        }),
    );
    let key = section.optional(
        "key",
        &kind::file("a PEM file with the certificate's private key", |path| {
            pem::private_key(path).map(drop)
        }),
    );
    let both = "give both `certificate` and `key`, or neither to serve plain HTTP";
    match (certificate?, key?) {
        (None, None) => Some(None),
        (Some(_), None) => {
            reader.fault("listen.tls.key", "missing beside `certificate`", both);
            None
        }
        (None, Some(_)) => {
            reader.fault("listen.tls.certificate", "missing beside `key`", both);
            None
        }
        (Some(certificate), Some(key)) => {
            if pem::belong_together(&certificate, &key) != Ok(true) {
                let problem = "the key is not that of the certificate";
                let remedy = "name the key the certificate was made for; where the file holds \
                              several certificates, the server's own must come first";
                reader.fault("listen.tls.key", problem, remedy);
                return None;
            }
            Some(Some(Tls { certificate, key }))
        }
    }
}

fn upstream(reader: &Reader, section: &Section) -> Option<Upstream> {
    let remedy = "write the registry's own address, such as http://127.0.0.1:5001";
    let url = section.required("url", &kind::base_url(), remedy);
    let ca_file = section.optional("ca_file", &ca_file());
    let connect_timeout = section.or("connect_timeout", "5s", &kind::timeout());
    let idle_timeout = section.or("idle_timeout", "5m", &kind::timeout());
    let probe_timeout = section.or("probe_timeout", "15s", &kind::timeout());
    let plain = url.as_ref().is_some_and(|url| url.scheme() == "http");
    if plain && matches!(ca_file, Some(Some(_))) {
        let remedy = "leave `ca_file` out, or write the url with https";
        reader.fault("upstream.ca_file", "`upstream.url` is plain http", remedy);
    }
    Some(Upstream {
        url: url?,
        ca_file: ca_file?,
        connect_timeout: connect_timeout?,
        idle_timeout: idle_timeout?,
        probe_timeout: probe_timeout?,
    })
}

pub(super) fn ca_file() -> kind::Kind<std::path::PathBuf> {
    kind::file("a PEM file with CA certificates", |path| {
        pem::certificates(path).map(drop)
    })
}

fn upload(reader: &Reader, section: &Section) -> Option<Upload> {
    let part = kind::size(MIN_PART..=MAX_PART, "S3 takes parts of 5MiB to 5GiB");
    let part_size = section.or("part_size", "16MiB", &part);
    let part_concurrency = section.or("part_concurrency", "4", &kind::count(1..=64));
    let max_part_concurrency = section.or("max_part_concurrency", "16", &kind::count(1..=64));
    let object = kind::size(1..=MAX_OBJECT, "S3 takes objects of up to 5TiB");
    let max_blob_size = section.or("max_blob_size", "1TiB", &object);
    let max_streaming = section.or("max_streaming", "8", &kind::count(1..=4096));
    let budget = kind::size(MIN_PART..=TIB, "");
    let memory_budget = section.or("memory_budget", "512MiB", &budget);
    let admission_timeout = section.or("admission_timeout", "60s", &kind::timeout());
    let idle_timeout = section.or("idle_timeout", "60s", &kind::timeout());
    let min_rate = section.or("min_rate", "4KiB", &kind::size(0..=GIB, ""));
    let window = kind::duration(Duration::from_secs(1)..=DAY, "");
    let min_rate_window = section.or("min_rate_window", "60s", &window);
    if let (Some(part), Some(budget), Some(longest)) = (part_size, memory_budget, max_blob_size) {
        check_memory(reader, part, budget, longest);
    }
    Some(Upload {
        part_size: part_size?,
        part_concurrency: part_concurrency?,
        max_part_concurrency: max_part_concurrency?,
        max_blob_size: max_blob_size?,
        max_streaming: max_streaming?,
        memory_budget: memory_budget?,
        admission_timeout: admission_timeout?,
        idle_timeout: idle_timeout?,
        min_rate: min_rate?,
        min_rate_window: min_rate_window?,
    })
}

/// An upload holds at least one part's buffer: one that the budget cannot hold would wait forever.
fn check_memory(reader: &Reader, part_size: u64, budget: u64, max_blob_size: u64) {
    let key = "upload.memory_budget";
    let shown = format_size(budget);
    if part_size > budget {
        let part = format_size(part_size);
        reader.fault(
            key,
            format!("{shown} does not hold one part of {part} (`upload.part_size`)"),
            format!("write {part} or more"),
        );
        return;
    }
    let largest = largest_part(max_blob_size);
    if largest > budget {
        let (part, blob) = (format_size(largest), format_size(max_blob_size));
        reader.fault(
            key,
            format!(
                "{shown} does not hold one part of {part}, which a blob of {blob} \
                 (`upload.max_blob_size`) needs, as S3 takes {MAX_PARTS} parts at most"
            ),
            format!(
                "write {part} or more, or `max_blob_size` of {} or less",
                format_size(budget / MIB * MIB * MAX_PARTS)
            ),
        );
    }
}

fn sweep(section: &Section) -> Option<Sweep> {
    let enabled = section.or("enabled", "true", &kind::flag());
    let interval = kind::duration(Duration::from_secs(1)..=30 * DAY, "");
    let interval = section.or("interval", "1h", &interval);
    let why = "the registry's own uploads in flight lie beside blobgate's and must not be aborted";
    let age = kind::duration(HOUR..=365 * DAY, why);
    let older_than = section.or("older_than", "24h", &age);
    let dry_run = section.or("dry_run", "false", &kind::flag());
    Some(Sweep {
        enabled: enabled?,
        interval: interval?,
        older_than: older_than?,
        dry_run: dry_run?,
    })
}

/// An upload that still gets parts is never swept, so `older_than` must outlast the longest time
/// from one part to the next: filled by the slowest client that is not cut off, then sent, retries
/// and all.
fn check_sweep_age(
    reader: &Reader,
    upload: Option<&Upload>,
    bucket: Option<&Bucket>,
    sweep: Option<&Sweep>,
) {
    let (Some(upload), Some(bucket), Some(sweep)) =
        (upload, bucket, sweep.filter(|sweep| sweep.enabled))
    else {
        return;
    };
    let key = "sweep.older_than";
    let age = format_duration(sweep.older_than);
    if upload.min_rate == 0 {
        reader.fault(
            key,
            format!("{age} may be outlived by a live upload, as `upload.min_rate` is off"),
            "set `upload.min_rate`, or `sweep.enabled: false` and let a lifecycle rule of the \
             bucket abort what is left",
        );
        return;
    }
    let part = upload.part_size.max(largest_part(upload.max_blob_size));
    let filling = Duration::from_secs(part.div_ceil(upload.min_rate)) + upload.min_rate_window;
    let longest = filling + 2 * bucket.retry_budget;
    if sweep.older_than < longest {
        let hours = longest.as_secs().div_ceil(3600);
        reader.fault(
            key,
            format!(
                "a live upload may get no part for longer than {age}: one of {} may take {hours}h \
                 at `upload.min_rate`",
                format_size(part)
            ),
            format!(
                "write {hours}h or more, or a higher `upload.min_rate`, or a lower \
                 `upload.max_blob_size`"
            ),
        );
    }
}

/// Of the longest blob, bytes.
fn largest_part(max_blob_size: u64) -> u64 {
    max_blob_size.div_ceil(MAX_PARTS).next_multiple_of(MIB)
}

fn admin(section: &Section) -> Option<Admin> {
    let kind = kind::address_or_off();
    let address = section.or_blank("address", "127.0.0.1:9090", None, &kind);
    let interval = kind::duration_or_off(Duration::from_secs(1)..=HOUR);
    let check_interval = section.or("check_interval", "15s", &interval);
    Some(Admin {
        address: address?,
        check_interval: check_interval?,
    })
}

fn log(section: &Section) -> Option<Log> {
    let level = section.or("level", "info", &kind::one_of(LEVELS));
    let format = section.or("format", "text", &kind::one_of(FORMATS));
    Some(Log {
        level: level?,
        format: format?,
    })
}

/// Addresses that get in each other's way would show only later: as a listener that never comes
/// up, or as requests that go round until something gives.
fn check_addresses(
    reader: &Reader,
    listen: Option<&Listen>,
    upstream: Option<&Upstream>,
    admin: Option<&Admin>,
) {
    let Some(listen) = listen.map(|listen| listen.address) else {
        return;
    };
    if let Some(admin) = admin.and_then(|admin| admin.address)
        && overlap(listen, admin)
    {
        let problem = format!("{admin} is already taken by `listen.address` ({listen})");
        reader.fault("admin.address", problem, "choose another port, or `off`");
    }
    let target = upstream.and_then(|upstream| {
        let ip = match upstream.url.host()? {
            url::Host::Ipv4(ip) => IpAddr::V4(ip),
            url::Host::Ipv6(ip) => IpAddr::V6(ip),
            url::Host::Domain("localhost") => IpAddr::V4(Ipv4Addr::LOCALHOST),
            url::Host::Domain(_) => return None,
        };
        Some(SocketAddr::new(ip, upstream.url.port_or_known_default()?))
    });
    // A foreign address with the same port is another host's, unless it is exactly ours.
    if let Some(target) = target
        && (target == listen || target.ip().is_loopback() && overlap(listen, target))
    {
        let problem = format!("{target} is blobgate's own `listen.address` ({listen})");
        let remedy = "write the address of the registry behind blobgate";
        reader.fault("upstream.url", problem, remedy);
    }
}

/// Whether the two cannot be listened on at once. Port 0 is a different port each time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    // `[::]` takes IPv4 connections too, as Linux has it unless told otherwise.
    let covers =
        |wide: IpAddr, ip: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || ip.is_ipv4());
    let ips_meet = a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip());
    a.port() == b.port() && a.port() != 0 && ips_meet
}

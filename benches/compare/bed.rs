//! What a scenario runs on: a store, a registry on the real S3 server, blobgate, and the servers that
//! it is compared with, each in a process of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blobgate::config::Config;
use blobgate::registry::Digest;
use blobgate::store::Layout;
use blobgate_testkit::process::{self, Blobgate, BlobgateOptions};
use blobgate_testkit::program::Program;
use blobgate_testkit::registry::{Registry, RegistryOptions};
use blobgate_testkit::s3::S3Options;
use blobgate_testkit::tls::Identity;
use blobgate_testkit::usage::Usage;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::Result;
use crate::control::Control;
use crate::multipart::Uploader;

pub const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Of one connection, bytes.
pub const BYTES_PER_SECOND: u64 = 50_000_000;

/// Where blobs are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    /// The testkit's S3 server instead of the sink.
    pub real: bool,
    /// Behind [`ROUND_TRIP`] and [`BYTES_PER_SECOND`].
    pub distant: bool,
}

impl Store {
    pub fn name(self) -> &'static str {
        match (self.real, self.distant) {
            (false, false) => "sink",
            (false, true) => "distant sink",
            (true, false) => "S3",
            (true, true) => "distant S3",
        }
    }
}

/// How a bed is made, the same for all.
#[derive(Clone)]
pub struct Making {
    pub blobgate: PathBuf,
    /// Below it each bed has a directory.
    pub scratch: PathBuf,
    /// Of blobgate's config: dotted path and value, over what the bench sets.
    pub settings: Vec<(String, serde_yaml::Value)>,
}

impl Making {
    /// With one more setting.
    pub fn with(&self, (key, value): (&str, u64)) -> Self {
        let mut making = self.clone();
        making.settings.push((key.to_owned(), value.into()));
        making
    }
}

pub struct Bed {
    // Dropped in this order: who asks before who answers.
    pub blobgate: Blobgate,
    pub registry: Registry,
    pub spool: Program,
    pub relay: Option<Program>,
    shaper: Option<Program>,
    sink: Option<Program>,
    s3: Program,
    pub store: Store,
    /// Of the store that blobs are put into.
    pub control: Control,
    pub uploader: Uploader,
    pub runtime: Runtime,
    /// The authority to trust, where blobgate serves TLS.
    pub ca: Option<PathBuf>,
    layout: Layout,
    _dir: TempDir,
}

impl Bed {
    pub fn new(making: &Making, store: Store) -> Result<Self> {
        Self::make(making, store, false)
    }

    /// With blobgate behind TLS.
    pub fn with_tls(making: &Making, store: Store) -> Result<Self> {
        Self::make(making, store, true)
    }

    fn make(making: &Making, store: Store, tls: bool) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("bed-")
            .tempdir_in(&making.scratch)?;
        let path = dir.path();
        let s3_options = S3Options::new(path.join("s3"));
        let s3 = server(path, "real", &[text(&s3_options.root)?])?;
        let sink = match store.real {
            true => None,
            false => Some(server(path, "sink", &[])?),
        };
        let place = sink.as_ref().unwrap_or(&s3);
        let control = control(place)?;
        let shaper = match store.distant {
            false => None,
            true => Some(shaper(path, place.address())?),
        };
        let near = place.url();
        let endpoint = shaper.as_ref().map_or(near, Program::url);
        let registry_endpoint = match store.real {
            true => endpoint.clone(),
            // No bench of the registry, which only says who may push.
            false => s3.url(),
        };
        let registry = RegistryOptions::over(path.join("registry"), &s3_options, registry_endpoint);
        let registry = Registry::start(&registry)?;

        let bucket = &s3_options.buckets[0];
        let mut yaml = process::Config::new(&registry.url(), &endpoint, bucket)
            .set(
                "bucket.credentials.access_key_id",
                s3_options.access_key.as_str(),
            )
            .set(
                "bucket.credentials.secret_access_key",
                s3_options.secret_key.as_str(),
            )
            // Many clients wait for their turn, and that is measured.
            .set("upload.admission_timeout", "1h");
        let mut ca = None;
        if tls {
            let files = Identity::new(&["localhost", "127.0.0.1"]).save(path)?;
            yaml = yaml
                .set("listen.tls.certificate", text(&files.certificate)?)
                .set("listen.tls.key", text(&files.key)?);
            ca = Some(files.ca);
        }
        for (key, value) in &making.settings {
            yaml = yaml.set(key, value.clone());
        }
        let options = BlobgateOptions {
            binary: making.blobgate.clone(),
            config: yaml,
            dir: path.join("blobgate"),
            environment: Vec::new(),
        };
        let blobgate = Blobgate::start(&options)?;
        let file = options.write_config()?;
        let config = Config::load(&file)?;
        let spool = server(path, "spool", &[text(&file)?, text(path)?])?;
        let relay = match &sink {
            None => None,
            Some(sink) => Some(server(
                path,
                "relay",
                &[&sink.address().to_string(), bucket],
            )?),
        };
        Ok(Self {
            layout: Layout::new(config.bucket.layout, &config.bucket.root_directory),
            uploader: Uploader::new(&config)?,
            runtime: Runtime::new()?,
            blobgate,
            registry,
            spool,
            relay,
            shaper,
            sink,
            s3,
            store,
            control,
            ca,
            _dir: dir,
        })
    }

    /// Every process by its name, the bench itself, which is the client, among them.
    pub fn processes(&self) -> BTreeMap<&'static str, Usage> {
        let mut processes = BTreeMap::from([
            ("client", Usage::of(std::process::id())),
            ("blobgate", Usage::of(self.blobgate.pid())),
            ("registry", Usage::of(self.registry.pid())),
            ("spool", Usage::of(self.spool.pid())),
        ]);
        let mut add = |name, program: Option<&Program>| {
            if let Some(program) = program {
                processes.insert(name, Usage::of(program.pid()));
            }
        };
        add("relay", self.relay.as_ref());
        add("shaper", self.shaper.as_ref());
        match &self.sink {
            Some(sink) => {
                add("store", Some(sink));
                add("registry's store", Some(&self.s3));
            }
            None => add("store", Some(&self.s3)),
        }
        processes
    }

    /// Fails unless the bucket has this blob, in its whole length.
    pub fn verify(&self, digest: &Digest, size: u64) -> Result<()> {
        self.verify_key(&self.layout.data_key(digest), size)
    }

    pub fn verify_key(&self, key: &str, size: u64) -> Result<()> {
        match self.control.size(key)? {
            Some(found) if found == size => Ok(()),
            found => Err(format!("of {size} bytes, the store has {found:?} at {key}").into()),
        }
    }
}

/// This program again, as one of the servers.
fn server(dir: &Path, name: &str, arguments: &[&str]) -> Result<Program> {
    let this = std::env::current_exe()?;
    let arguments = ["serve", name].into_iter().chain(arguments.iter().copied());
    Ok(Program::start(name, &this, arguments, dir)?)
}

fn shaper(dir: &Path, to: SocketAddr) -> Result<Program> {
    let (to, round_trip) = (to.to_string(), ROUND_TRIP.as_millis().to_string());
    server(
        dir,
        "shaper",
        &[&to, &round_trip, &BYTES_PER_SECOND.to_string()],
    )
}

fn control(store: &Program) -> Result<Control> {
    let said = store.ready_line().split_once(" control ");
    let (_, address) = said.ok_or("a store that names no control address")?;
    Ok(Control(address.trim().parse()?))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .ok_or_else(|| format!("{path:?} is not UTF-8").into())
}

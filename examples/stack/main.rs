//! blobgate with everything around it, on this machine: an S3 server, the real registry, blobgate;
//! then a sample blob pushed and pulled back. Serves until Ctrl-C.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use blobgate_testkit::process::{Blobgate, BlobgateOptions};
use blobgate_testkit::registry::{self, Registry, RegistryOptions};
use blobgate_testkit::s3::{S3Options, S3Server};
use blobgate_testkit::stack::credentials;
use bytesize::ByteSize;
use clap::Parser;
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};

mod plan;
mod sample;

use plan::Plan;

/// How long blobgate may finish what is in flight at the end. Its own grace period is made for
/// production.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// Run blobgate with a registry and an S3 server on this machine.
#[derive(Debug, Parser)]
#[command(name = "stack")]
struct Options {
    /// blobgate's port [default: the config's]
    #[arg(long)]
    port: Option<u16>,
    /// The registry's port [default: the config's, in upstream.url]
    #[arg(long)]
    registry_port: Option<u16>,
    /// The S3 server's port [default: the config's, in bucket.endpoint]
    #[arg(long)]
    s3_port: Option<u16>,
    /// The port of blobgate's metrics [default: the config's]
    #[arg(long)]
    admin_port: Option<u16>,
    /// Keep the data here [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The registry's program
    #[arg(long, value_name = "PATH", default_value = "docker-registry")]
    registry: PathBuf,
    /// blobgate's program [default: the one built along with this]
    #[arg(long, value_name = "PATH")]
    blobgate: Option<PathBuf>,
    /// blobgate's config
    #[arg(long, value_name = "FILE", default_value = "proxy.yaml")]
    config: PathBuf,
    /// Size of the sample to push and pull; 0 for none
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    sample: ByteSize,
    /// Stop after the sample; the exit code tells how it went
    #[arg(long)]
    once: bool,
}

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match Signals::new() {
        Ok(signals) => run(&options, signals).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stack: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options, mut signals: Signals) -> Result<()> {
    let plan = Plan::new(options)?;
    // Everything that can be known to fail is named before anything starts.
    registry::find(&options.registry).map_err(|error| format!("{error}: --registry PATH"))?;
    plan.check_ports()?;
    let data = Data::new(options.data.as_deref())?;

    let stack = Stack::start(options, &plan, data.path())?;
    stack.introduce(&plan, &data);
    let outcome = tokio::select! {
        outcome = serve(options, &plan, &data, &stack) => outcome,
        error = stack.blobgate.unexpected_end() => Err(error.into()),
        error = stack.registry.unexpected_end() => Err(error.into()),
        () = signals.wait() => Ok(()),
    };
    stack.stop();
    outcome
}

/// The sample's round trip; then, unless it was only for that, it never ends.
async fn serve(options: &Options, plan: &Plan, data: &Data, stack: &Stack) -> Result<()> {
    let mut digest = None;
    if options.sample.as_u64() > 0 {
        let url = stack.blobgate.url();
        let sample = sample::round_trip(&url, data.path(), options.sample.as_u64());
        digest = Some(sample.await?);
    }
    if options.once {
        return Ok(());
    }
    advise(plan, &stack.blobgate, digest.as_deref());
    std::future::pending().await
}

/// What runs.
struct Stack {
    blobgate: Blobgate,
    /// The file that blobgate was started with.
    config: PathBuf,
    registry: Registry,
    s3: S3Server,
}

impl Stack {
    fn start(options: &Options, plan: &Plan, data: &Path) -> Result<Self> {
        let mut s3 = S3Options::new(data.join("s3"));
        s3.address = plan.s3;
        s3.buckets = vec![plan.bucket.clone()];
        let s3 = S3Server::start(s3)?;

        let mut registry = RegistryOptions::new(data.join("registry"), &s3);
        registry.binary.clone_from(&options.registry);
        registry.address = plan.registry;
        registry.root_directory.clone_from(&plan.root_directory);
        let registry = Registry::start(&registry)?;

        let blobgate = BlobgateOptions {
            binary: match &options.blobgate {
                Some(path) => path.clone(),
                None => beside_this("../blobgate")?,
            },
            config: plan.config.clone(),
            dir: data.join("blobgate"),
            environment: credentials(s3.options()),
        };
        let config = match plan.edited {
            true => blobgate.write_config()?,
            false => options.config.clone(),
        };
        Ok(Self {
            blobgate: Blobgate::start_with(&blobgate, &config)?,
            config,
            registry,
            s3,
        })
    }

    fn introduce(&self, plan: &Plan, data: &Data) {
        let keys = self.s3.options();
        println!("S3 server  {}  bucket {}", self.s3.url(), plan.bucket);
        println!("           keys {} {}", keys.access_key, keys.secret_key);
        println!("registry   {}", self.registry.url());
        println!("blobgate   {}", self.blobgate.url());
        println!("           config {}", self.config.display());
        if plan.admin.is_some() {
            println!("metrics    {}/metrics", self.blobgate.admin_url());
        }
        match data {
            Data::Kept(path) => println!("data       {}", path.display()),
            Data::Temporary(dir) => {
                println!("data       {}, removed at the end", dir.path().display());
            }
        }
        println!();
    }

    /// Stops every part, those in front first.
    fn stop(self) {
        println!("\nstopping");
        self.blobgate.terminate();
        if self.blobgate.wait(STOPS_WITHIN).is_none() {
            println!("blobgate takes longer than {STOPS_WITHIN:?}: killed");
        }
        drop(self.blobgate);
        self.registry.stop();
        self.s3.shutdown();
    }
}

/// Where the data lies.
enum Data {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Data {
    fn new(kept: Option<&Path>) -> Result<Self> {
        match kept {
            None => Ok(Self::Temporary(
                tempfile::Builder::new().prefix("blobgate-").tempdir()?,
            )),
            Some(path) => {
                fs::create_dir_all(path)
                    .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
                // The registry has another working directory in mind than a relative path's.
                Ok(Self::Kept(path.canonicalize()?))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

/// Ctrl-C, SIGTERM, and the end of the terminal.
struct Signals([Signal; 3]);

impl Signals {
    /// From now on a signal waits for [`Signals::wait`] instead of ending the process, so that no
    /// part is left behind whenever it comes.
    fn new() -> Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// A program that was built along with this one.
fn beside_this(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let path = this.parent().unwrap_or(Path::new("")).join(name);
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) => Err(format!("{}: {error} (make run builds it)", path.display()).into()),
    }
}

fn advise(plan: &Plan, blobgate: &Blobgate, digest: Option<&str>) {
    let (url, host) = (blobgate.url(), blobgate.address());
    println!("\nTry next, in another terminal:\n");
    println!("  # push any file by its digest, in one request");
    println!("  file=Cargo.lock; digest=sha256:$(sha256sum $file | cut -d' ' -f1)");
    println!("  curl -i -T $file {url}/v2/my/files/blobs/$digest");
    println!("  curl -s {url}/v2/my/files/blobs/$digest | sha256sum\n");
    println!("  # a wrong digest leaves nothing behind");
    println!("  curl -i -T $file {url}/v2/my/files/blobs/sha256:$(printf %064d 0)\n");
    if let Some(digest) = digest {
        println!("  # the sample is there, in its repository and in no other");
        println!("  curl -sI {url}/v2/{}/blobs/{digest}", sample::REPOSITORY);
        println!("  curl -sI {url}/v2/elsewhere/blobs/{digest}\n");
    }
    println!("  # an image's usual way still works");
    println!("  skopeo copy --dest-tls-verify=false oci:IMAGE docker://{host}/my/image:1\n");
    if plan.admin.is_some() {
        println!("  # what blobgate counts");
        println!("  curl -s {}/metrics\n", blobgate.admin_url());
    }
    println!("Serving until Ctrl-C.");
}

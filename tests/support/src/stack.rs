//! Everything together: S3 server, registry, blobgate, and a fault-injecting proxy on either side
//! of blobgate.
//!
//! The registry talks to the S3 server directly: faults between blobgate and S3 are blobgate's
//! alone.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_yaml::Value;
use tempfile::TempDir;

use crate::faults::{Dialect, FaultProxy};
use crate::process::{Blobgate, BlobgateOptions, Config};
use crate::registry::{Registry, RegistryOptions};
use crate::s3::{S3Options, S3Server};

type Edit<T> = Box<dyn FnOnce(&mut T)>;

/// Says what a [`Stack`] is to be like.
#[derive(Default)]
pub struct StackBuilder {
    binary: Option<PathBuf>,
    config: Vec<(String, Value)>,
    environment: Vec<(String, String)>,
    s3: Vec<Edit<S3Options>>,
    registry: Vec<Edit<RegistryOptions>>,
    s3_faults: bool,
    registry_faults: bool,
}

/// A running stack; everything in it stops when it is dropped, blobgate first.
#[derive(Debug)]
pub struct Stack {
    // Fields are dropped in this order.
    blobgate: Option<Blobgate>,
    options: Option<BlobgateOptions>,
    registry_faults: Option<FaultProxy>,
    s3_faults: Option<FaultProxy>,
    /// None while it is stopped.
    registry: Option<Registry>,
    registry_options: RegistryOptions,
    s3: S3Server,
    dir: TempDir,
}

impl StackBuilder {
    /// Starts blobgate too, from this program; without it the stack is a registry on S3.
    pub fn blobgate(mut self, binary: impl Into<PathBuf>) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// Sets a value in blobgate's config, by its dotted path.
    pub fn config(mut self, path: &str, value: impl Into<Value>) -> Self {
        self.config.push((path.to_owned(), value.into()));
        self
    }

    /// Adds to blobgate's environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Edits the S3 server's options.
    pub fn s3(mut self, edit: impl FnOnce(&mut S3Options) + 'static) -> Self {
        self.s3.push(Box::new(edit));
        self
    }

    /// Edits the registry's options.
    pub fn registry(mut self, edit: impl FnOnce(&mut RegistryOptions) + 'static) -> Self {
        self.registry.push(Box::new(edit));
        self
    }

    /// Puts a fault-injecting proxy between blobgate and S3.
    pub fn s3_faults(mut self) -> Self {
        self.s3_faults = true;
        self
    }

    /// Puts a fault-injecting proxy between blobgate and the registry.
    pub fn registry_faults(mut self) -> Self {
        self.registry_faults = true;
        self
    }

    /// Starts everything; it serves when this returns.
    pub fn start(self) -> io::Result<Stack> {
        let dir = tempfile::tempdir()?;
        let mut s3_options = S3Options::new(dir.path().join("s3"));
        self.s3.into_iter().for_each(|edit| edit(&mut s3_options));
        let s3 = S3Server::start(s3_options)?;

        let mut registry_options = RegistryOptions::new(dir.path().join("registry"), &s3);
        for edit in self.registry {
            edit(&mut registry_options);
        }
        let registry = Registry::start(&registry_options)?;

        let proxy = |wanted: bool, upstream, dialect| {
            wanted
                .then(|| FaultProxy::start(upstream, dialect))
                .transpose()
        };
        let s3_faults = proxy(self.s3_faults, s3.address(), Dialect::S3)?;
        let registry_faults = proxy(self.registry_faults, registry.address(), Dialect::Http)?;

        let s3_url = s3_faults.as_ref().map_or(s3.url(), FaultProxy::url);
        let upstream = registry_faults
            .as_ref()
            .map_or(registry.url(), FaultProxy::url);
        let mut config = Config::new(&upstream, &s3_url, &registry_options.bucket);
        if let Some(root) = &registry_options.root_directory {
            config = config.set("bucket.root_directory", root.as_str());
        }
        for (path, value) in self.config {
            config = config.set(&path, value);
        }
        let mut environment = credentials(s3.options());
        environment.extend(self.environment);
        let options = self.binary.map(|binary| BlobgateOptions {
            binary,
            config,
            dir: dir.path().join("blobgate"),
            environment,
        });
        let blobgate = options.as_ref().map(Blobgate::start).transpose()?;
        Ok(Stack {
            blobgate,
            options,
            registry_faults,
            s3_faults,
            registry: Some(registry),
            registry_options,
            s3,
            dir,
        })
    }
}

impl Stack {
    /// A registry on an S3 server, to which the builder adds.
    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    /// The S3 server.
    pub fn s3(&self) -> &S3Server {
        &self.s3
    }

    /// The registry, without blobgate before it. Panics while it is stopped.
    pub fn registry(&self) -> &Registry {
        self.registry.as_ref().expect("the registry is stopped")
    }

    /// Kills the registry. Its connections break, and nobody listens any more.
    pub fn kill_registry(&mut self) {
        self.registry = None;
    }

    /// Starts the registry again, at another address: blobgate must reach it through the proxy
    /// before it, which is told.
    pub fn restart_registry(&mut self) -> io::Result<()> {
        let registry = Registry::start(&self.registry_options)?;
        self.registry_faults().set_upstream(registry.address());
        self.registry = Some(registry);
        Ok(())
    }

    /// blobgate. Panics when the stack was built without.
    pub fn blobgate(&self) -> &Blobgate {
        self.blobgate.as_ref().expect("a stack without blobgate")
    }

    /// How blobgate was started. Panics when the stack was built without.
    pub fn blobgate_options(&self) -> &BlobgateOptions {
        self.options.as_ref().expect("a stack without blobgate")
    }

    /// The faults between blobgate and S3. Panics when the stack was built without.
    pub fn s3_faults(&self) -> &FaultProxy {
        self.s3_faults.as_ref().expect("a stack without S3 faults")
    }

    /// The faults between blobgate and the registry. Panics when the stack was built without.
    pub fn registry_faults(&self) -> &FaultProxy {
        let faults = self.registry_faults.as_ref();
        faults.expect("a stack without registry faults")
    }

    /// The stack's own directory, gone with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts another blobgate with the same config, as replicas have it. It must not outlive the
    /// stack.
    pub fn replica(&self) -> io::Result<Blobgate> {
        let options = self.options.as_ref().expect("a stack without blobgate");
        Blobgate::start(&BlobgateOptions {
            dir: self.dir.path().join("replica"),
            ..options.clone()
        })
    }

    /// Starts blobgate again with its config edited; the one that runs is killed first.
    pub fn restart_blobgate(&mut self, edit: impl FnOnce(Config) -> Config) -> io::Result<()> {
        let options = self.options.as_mut().expect("a stack without blobgate");
        options.config = edit(options.config.clone());
        if let Some(old) = self.blobgate.take() {
            old.kill();
            old.wait(Duration::from_secs(10));
        }
        self.blobgate = Some(Blobgate::start(options)?);
        Ok(())
    }
}

/// The S3 server's keys as the environment that S3 clients read.
pub fn credentials(s3: &S3Options) -> Vec<(String, String)> {
    vec![
        ("AWS_ACCESS_KEY_ID".to_owned(), s3.access_key.clone()),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), s3.secret_key.clone()),
    ]
}

//! The commands beside serving: their arguments, their output and their exit codes.

use blobgate::config::from_registry::{self, Source};
use blobgate::doctor::{self, Login};
use blobgate::registry::RepositoryName;
use clap::{Args, Subcommand};
use std::io::{Read, Write, stdin, stdout};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use url::Url;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

/// Holds the password for `--username`.
const PASSWORD: &str = "BLOBGATE_PASSWORD";

#[derive(Subcommand)]
pub enum Command {
    /// Look at everything blobgate relies on, and say what to do
    ///
    /// Prints a line for each check: the way to the registry and to the bucket, certificates,
    /// clocks, credentials, each permission in the bucket, where Location URLs lead, and, with
    /// --repository, whether a blob written to the bucket is seen through the registry. What it
    /// writes is harmless and removed again. Exits with 0 only if all is well; 1 otherwise.
    Doctor(Doctor),
    /// Work with configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Args)]
pub struct Doctor {
    /// The configuration, a YAML file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,

    /// One JSON document instead of lines
    #[arg(long)]
    json: bool,

    /// A repository to push a test blob to, and to ask about
    #[arg(long, value_name = "NAME")]
    repository: Option<RepositoryName>,

    /// A user of the registry; the password is taken from BLOBGATE_PASSWORD
    ///
    /// Without it, docker's own login for the registry or for --host is used, where there is one.
    #[arg(long, value_name = "USER")]
    username: Option<String>,

    /// Read the password from standard input instead
    #[arg(long, requires = "username")]
    password_stdin: bool,

    /// The host (and port) by which clients know blobgate, such as registry.example.com
    #[arg(long, value_name = "HOST", value_parser = host)]
    host: Option<String>,

    /// Exit with 0 also where there are warnings
    #[arg(long)]
    allow_warnings: bool,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Write a blobgate configuration out of distribution's own
    ///
    /// Reads distribution's config.yml and, as the registry does, overrides from the environment
    /// (REGISTRY_STORAGE_S3_BUCKET and so on). What blobgate has no counterpart for is said on
    /// standard error and in the file's comments.
    FromRegistry(FromRegistry),
}

#[derive(Args)]
pub struct FromRegistry {
    /// distribution's configuration, such as /etc/docker/registry/config.yml
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Where to write; must not exist yet. Default: standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Take REGISTRY_* variables from this file of NAME=value lines, instead of the environment
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// Where blobgate reaches the registry. Default: http.addr on this machine
    #[arg(long, value_name = "URL")]
    upstream: Option<Url>,

    /// Where blobgate listens. Default: port 5000, or another if the registry has that
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// Copy the access key and its secret into the file, instead of naming variables for them
    #[arg(long)]
    with_secrets: bool,
}

impl Command {
    pub fn run(self) -> ExitCode {
        match self {
            Self::Doctor(arguments) => arguments.run(),
            Self::Config(ConfigCommand::FromRegistry(arguments)) => arguments.run(),
        }
    }
}

impl Doctor {
    fn run(self) -> ExitCode {
        let login = match self.login() {
            Ok(login) => login,
            Err(reason) => return misused(&reason),
        };
        let options = doctor::Options {
            repository: self.repository,
            login,
            host: self.host,
        };
        let runtime = match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => return failed(&format!("cannot start the runtime: {error}")),
        };
        let diagnosis = runtime.block_on(doctor::examine(&self.config, &options));
        let output = match self.json {
            true => diagnosis.json(&self.config).map(|json| format!("{json}\n")),
            false => Ok(diagnosis.text()),
        };
        match output {
            // A reader that closes the pipe early (`| head`) is no failure.
            Ok(output) => drop(stdout().write_all(output.as_bytes())),
            Err(error) => return failed(&format!("cannot write JSON: {error}")),
        }
        match diagnosis.is_healthy(self.allow_warnings) {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(FAILED),
        }
    }

    fn login(&self) -> Result<Option<Login>, String> {
        let Some(user) = &self.username else {
            return Ok(None);
        };
        let password = if self.password_stdin {
            let mut text = String::new();
            stdin()
                .read_to_string(&mut text)
                .map_err(|error| format!("cannot read the password: {error}"))?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        } else {
            std::env::var(PASSWORD).unwrap_or_default()
        };
        if password.is_empty() {
            return Err(format!(
                "--username without a password: set {PASSWORD}, or pipe it in with --password-stdin"
            ));
        }
        Ok(Some(Login {
            user: user.clone(),
            password,
        }))
    }
}

impl FromRegistry {
    fn run(self) -> ExitCode {
        let source = match self.source() {
            Ok(source) => source,
            Err(reason) => return failed(&reason),
        };
        let translation = match from_registry::translate(&source) {
            Ok(translation) => translation,
            Err(refusal) => {
                eprintln!(
                    "error: no configuration can be made of {}",
                    self.file.display()
                );
                eprintln!("{refusal}");
                return ExitCode::from(FAILED);
            }
        };
        for warning in &translation.warnings {
            eprintln!("warning: {warning}");
        }
        let Some(path) = &self.output else {
            let _ = stdout().write_all(translation.yaml.as_bytes());
            return ExitCode::SUCCESS;
        };
        match write_new(path, &translation.yaml) {
            Ok(()) => {
                eprintln!("written: {}", path.display());
                ExitCode::SUCCESS
            }
            Err(error) => failed(&format!("cannot write {}: {error}", path.display())),
        }
    }

    fn source(&self) -> Result<Source, String> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))
        };
        let environment = match &self.env_file {
            Some(path) => from_registry::variables(&read(path)?),
            // Names and values that are no text are none of distribution's.
            None => std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
        };
        Ok(Source {
            name: self.file.display().to_string(),
            text: read(&self.file)?,
            environment,
            upstream: self.upstream.clone(),
            listen: self.listen,
            with_secrets: self.with_secrets,
        })
    }
}

/// Readable by its owner alone: it may hold a secret, now or once it is edited.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

fn host(text: &str) -> Result<String, String> {
    let url = Url::parse(&format!("http://{text}/")).map_err(|error| error.to_string())?;
    let bare = url.path() == "/" && url.query().is_none() && url.username().is_empty();
    match bare && !text.ends_with('/') {
        true => Ok(text.to_owned()),
        false => Err("write a host and perhaps a port, without scheme and path".to_owned()),
    }
}

fn failed(reason: &str) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::from(FAILED)
}

fn misused(reason: &str) -> ExitCode {
    eprintln!("error: {reason}");
    ExitCode::from(MISUSED)
}

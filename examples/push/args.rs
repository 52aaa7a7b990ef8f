//! The command line.

use crate::auth::{Credentials, Token};
use crate::endpoint::Endpoint;
use crate::progress::Progress;
use blobgate::registry::{
    Algorithm, DockerLogin, RepositoryName, docker_config_path, docker_login,
};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

const PASSWORD_VARIABLE: &str = "BLOBGATE_PASSWORD";
const TOKEN_VARIABLE: &str = "BLOBGATE_TOKEN";

/// Push files into a registry as blobs, each under its digest, or a whole OCI image layout.
///
/// A blobgate takes each blob in one request (PUT …/blobs/<digest>). A registry without it gets the
/// same blobs through upload sessions. A blob that the repository already has is not sent again.
#[derive(Parser, Debug)]
#[command(name = "push", version, after_long_help = AFTER_HELP)]
pub struct Args {
    /// The registry: [http[s]://]HOST[:PORT]. Without a scheme: https, on loopback http
    #[arg(value_name = "REGISTRY-URL")]
    pub registry: String,

    /// The repository in it, such as team/models
    pub repository: RepositoryName,

    /// Files to push, each as one blob
    #[arg(value_name = "FILE", required_unless_present = "layout")]
    pub files: Vec<PathBuf>,

    /// Push the OCI image layout in this directory instead: every blob, then every manifest by its
    /// digest, then the tags. REF picks one image by its ref name
    #[arg(long, value_name = "DIR[:REF]", conflicts_with = "files")]
    pub layout: Option<String>,

    /// Tag for the image [default: the ref name it has in the layout]
    #[arg(long, value_parser = tag)]
    pub tag: Option<String>,

    /// Digest algorithm for files
    #[arg(long, value_enum, default_value_t = DigestName::Sha256)]
    pub digest: DigestName,

    /// Blobs pushed at the same time
    #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: u16,

    /// Further attempts for a blob after a lost connection or an answer of 408, 429 or 5xx
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub retries: u32,

    /// Give an attempt up when nothing has moved for so long. A busy registry may let a push wait,
    /// and needs time to complete a large blob
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub stall_timeout: Duration,

    /// Use upload sessions (POST, then PUT)
    #[arg(long, value_enum, default_value_t = Fallback::Auto, value_name = "WHEN")]
    pub fallback: Fallback,

    /// Log in with this name; the password comes by --password-stdin or from BLOBGATE_PASSWORD
    #[arg(long, value_name = "NAME", conflicts_with = "token_file")]
    pub user: Option<String>,

    /// Read the password from standard input
    #[arg(long, requires = "user")]
    pub password_stdin: bool,

    /// Send the bearer token in this file, which is read again when the registry refuses it
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Trust the certificate authorities in this file, beside the system's
    #[arg(long, value_name = "PEM")]
    pub ca_file: Option<PathBuf>,

    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,

    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

const AFTER_HELP: &str = "\
Credentials, the first that is there:
  1. --token-file
  2. --user with --password-stdin or the variable BLOBGATE_PASSWORD
  3. the variable BLOBGATE_TOKEN, a bearer token
  4. the login in docker's configuration ($DOCKER_CONFIG/config.json or ~/.docker/config.json).
     Credential helpers are not run
They are sent only to the registry, and name and password also to the token service it names;
never over a redirect, never to another host.

Proxy variables of the environment (http_proxy and the like) are ignored.

Exit status: 0 everything is in the registry, 1 something is not, 2 wrong usage.

Examples:
  Two files, side by side:
    push https://registry.example team/models model-1.safetensors model-2.safetensors

  An image built by a tool that writes OCI layouts, under its own tag and under another:
    push https://registry.example team/app --layout ./image:v1
    push https://registry.example team/app --layout ./image:v1 --tag stable

  With a password, and a summary for a script:
    push --user ci --password-stdin --json https://registry.example team/app data.bin < password

  A registry on this machine, with its own authority:
    push --ca-file ca.pem https://localhost:5000 team/app data.bin";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DigestName {
    Sha256,
    Sha512,
}

impl From<DigestName> for Algorithm {
    fn from(name: DigestName) -> Self {
        match name {
            DigestName::Sha256 => Self::Sha256,
            DigestName::Sha512 => Self::Sha512,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fallback {
    /// Where the registry takes no push by digest
    Auto,
    /// From the start
    Always,
    /// Not at all: fail instead
    Never,
}

impl Args {
    /// Ends the program as clap does for arguments it can't parse.
    pub fn usage_error(message: &str) -> ! {
        Self::command()
            .error(ErrorKind::ValueValidation, message)
            .exit()
    }

    /// What clap can't check.
    pub fn check(&self) -> Result<Endpoint, String> {
        // Where an argument has a conflict, clap forgets what others require of it.
        if self.tag.is_some() && self.layout.is_none() {
            return Err("--tag needs --layout".into());
        }
        // clap would print the value, and there may be a password in it.
        self.registry
            .parse()
            .map_err(|error| format!("<REGISTRY-URL>: {error}"))
    }

    pub fn authorities(&self) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = &self.ca_file else {
            return Ok(None);
        };
        let pem = std::fs::read(path);
        pem.map(Some)
            .map_err(|error| format!("cannot read --ca-file {}: {error}", path.display()))
    }

    pub fn credentials(
        &self,
        endpoint: &Endpoint,
        progress: &Progress,
    ) -> Result<Credentials, String> {
        if let Some(path) = &self.token_file {
            return Token::from_file(path).map(Credentials::Token);
        }
        if let Some(user) = &self.user {
            if user.contains(':') {
                return Err("a user name has no colon".into());
            }
            return Ok(Credentials::Basic {
                user: user.clone(),
                password: self.password()?,
            });
        }
        if let Some(value) = variable(TOKEN_VARIABLE)? {
            return Ok(Credentials::Token(Token { value, file: None }));
        }
        docker_credentials(endpoint, progress)
    }

    fn password(&self) -> Result<String, String> {
        if !self.password_stdin {
            return variable(PASSWORD_VARIABLE)?.ok_or_else(|| {
                format!("--user needs its password: --password-stdin or {PASSWORD_VARIABLE}")
            });
        }
        let mut password = String::new();
        std::io::stdin()
            .read_to_string(&mut password)
            .map_err(|error| format!("cannot read the password: {error}"))?;
        // What `echo` adds. Other white space may belong to it.
        let password = password.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err("the password on standard input is empty".into());
        }
        Ok(password.to_owned())
    }
}

fn docker_credentials(endpoint: &Endpoint, progress: &Progress) -> Result<Credentials, String> {
    let Some(path) = docker_config_path() else {
        return Ok(Credentials::None);
    };
    let json = match std::fs::read_to_string(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Credentials::None);
        }
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let login = docker_login(&json, &endpoint.authority())
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(match login {
        DockerLogin::None => Credentials::None,
        DockerLogin::Basic { user, password } => Credentials::Basic { user, password },
        DockerLogin::Token(value) => Credentials::Token(Token { value, file: None }),
        DockerLogin::Helper(name) => {
            progress.warn(&format!(
                "docker keeps the login for this registry with its helper {name:?}, which is \
                     not run: going on without; --user gives one"
            ));
            Credentials::None
        }
    })
}

fn variable(name: &str) -> Result<Option<String>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}

/// [OCI distribution specification, "Pulling
/// manifests"](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests)
pub fn tag(text: &str) -> Result<String, String> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let valid = text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if valid {
        Ok(text.to_owned())
    } else {
        Err(
            "a tag has up to 128 letters, digits, '_', '.' and '-', none of the last two first"
                .into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        for arguments in [
            "push registry.test a/b f",
            "push registry.test a/b --layout d:r --tag t",
            "push registry.test a/b f --user ann --password-stdin",
        ] {
            assert!(
                Args::try_parse_from(arguments.split(' ')).is_ok(),
                "{arguments}"
            );
        }
        for arguments in [
            "push registry.test a/b",
            "push registry.test A/b f",
            "push registry.test a/b f --layout d",
            "push registry.test a/b f --password-stdin",
            "push registry.test a/b f --jobs 0",
            "push registry.test a/b --layout d --tag -x",
        ] {
            assert!(
                Args::try_parse_from(arguments.split(' ')).is_err(),
                "{arguments}"
            );
        }
    }

    #[test]
    fn tags_follow_the_specification() {
        for text in ["a", "_", "v1.0-rc_2", &"x".repeat(128)] {
            assert!(tag(text).is_ok(), "{text}");
        }
        for text in ["", ".a", "-a", "a:b", "a/b", "ä", &"x".repeat(129)] {
            assert!(tag(text).is_err(), "{text}");
        }
    }
}

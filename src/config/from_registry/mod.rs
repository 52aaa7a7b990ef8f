//! Makes a blobgate configuration out of distribution's own, so that bucket, region, endpoint, root
//! directory, encryption and storage class are those of the registry.
//!
//! What distribution's settings mean is read in its `configuration/` and
//! `registry/storage/driver/s3-aws/s3.go`, of 2.8 and 3.x.

mod document;
mod http;
mod storage;
mod tree;

use super::{Config, ConfigErrors, Fault};
use document::{Document, comment};
use std::net::SocketAddr;
use tree::Tree;
use url::Url;

/// The variables that stand for the registry's key in the file.
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// What a configuration is made of. No `Debug`: it holds the registry's secrets.
pub struct Source {
    /// Of the file, for comments.
    pub name: String,
    /// distribution's YAML.
    pub text: String,
    /// Where `REGISTRY_*` overrides are looked for.
    pub environment: Vec<(String, String)>,
    /// Where blobgate reaches the registry, if not by `http.addr`.
    pub upstream: Option<Url>,
    pub listen: Option<SocketAddr>,
    /// Copy the access key and its secret, instead of naming variables for them.
    pub with_secrets: bool,
}

/// A configuration that blobgate's own reader takes.
pub struct Translation {
    pub yaml: String,
    /// What has no counterpart, or needs a hand. They stand in the YAML's comments as well.
    pub warnings: Vec<String>,
}

/// What was found while translating.
#[derive(Default)]
struct Notes {
    warnings: Vec<String>,
    faults: Vec<Fault>,
}

impl Notes {
    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Something with which there can be no blobgate before this registry.
    fn refuse(&mut self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(Fault {
            key: key.to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }
}

/// # Errors
/// Every reason why blobgate cannot stand before this registry, with the registry's key and what to
/// do.
pub fn translate(source: &Source) -> Result<Translation, ConfigErrors> {
    let mut notes = Notes::default();
    let tree = Tree::read(&source.text, &source.environment)?;
    refuse_what_takes_no_pushes(&tree, &mut notes);
    let mut body = Document::default();
    http::listen_and_upstream(&tree, source, &mut body, &mut notes);
    storage::bucket(&tree, source, &mut body, &mut notes);
    warn_of_what_is_passed_by(&tree, &mut notes);
    if !notes.faults.is_empty() {
        return Err(ConfigErrors::new(notes.faults));
    }
    let yaml = format!("{}{}", header(&tree, source, &notes.warnings), body.text());
    // Whatever was overlooked above must not become a file that blobgate refuses.
    Config::parse(&yaml, |name| {
        [ACCESS_KEY, SECRET_KEY]
            .contains(&name)
            .then(|| "set-later".to_owned())
    })?;
    Ok(Translation {
        yaml,
        warnings: notes.warnings,
    })
}

/// The lines of an environment file, as docker's `--env-file` and systemd's `EnvironmentFile=` read
/// them: `NAME=value`, comments, and nothing that a shell would expand.
pub fn variables(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| {
            let value = value.trim();
            let quoted = ['"', '\''].iter().find_map(|quote| {
                value
                    .strip_prefix(*quote)
                    .and_then(|rest| rest.strip_suffix(*quote))
            });
            let name = name.trim().trim_start_matches("export ");
            (name.to_owned(), quoted.unwrap_or(value).to_owned())
        })
        .collect()
}

fn refuse_what_takes_no_pushes(tree: &Tree, notes: &mut Notes) {
    if tree.text("proxy.remoteurl").is_some() {
        notes.refuse(
            "proxy.remoteurl",
            "this registry is a pull-through cache, which takes no pushes",
            "put blobgate before the registry that takes them",
        );
    }
    if tree.flag("storage.maintenance.readonly.enabled", false, notes) {
        notes.warn(
            "storage.maintenance.readonly: the registry is read-only, and blobgate passes its \
             refusal of every push on until that is over",
        );
    }
}

/// What works as before for all that goes through the registry, and does not see blobs that go past
/// it.
fn warn_of_what_is_passed_by(tree: &Tree, notes: &mut Notes) {
    if tree.has_entries("notifications.endpoints") {
        notes.warn(
            "notifications: blobs pushed by digest go past the registry and raise no event; \
             manifests, and all other pushes, still do",
        );
    }
    for kind in ["registry", "repository"] {
        if tree.has_entries(&format!("middleware.{kind}")) {
            notes.warn(format!(
                "middleware.{kind}: it does not see blobs pushed by digest, which go past the \
                 registry"
            ));
        }
    }
}

fn header(tree: &Tree, source: &Source, warnings: &[String]) -> String {
    let mut lines = vec![
        format!("blobgate's configuration, made from {}", source.name),
        "by `blobgate config from-registry`. Every other key has its default;".to_owned(),
        "docs/CONFIGURATION.md describes them all.".to_owned(),
        String::new(),
        "Next: `blobgate --config FILE --check`, and `blobgate doctor --config FILE`.".to_owned(),
    ];
    if !tree.overrides.is_empty() {
        lines.push(String::new());
        lines.push("Taken from the environment, as the registry does:".to_owned());
        lines.extend(tree.overrides.iter().map(|name| format!("- {name}")));
    }
    if !warnings.is_empty() {
        lines.push(String::new());
        lines.push("To look at:".to_owned());
        lines.extend(warnings.iter().map(|warning| format!("- {warning}")));
    }
    comment("", &lines)
}

#[cfg(test)]
mod tests;

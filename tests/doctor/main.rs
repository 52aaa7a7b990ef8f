//! `blobgate doctor` before real stacks, healthy and broken: the right line, what to do, the exit
//! code, nothing left in the bucket, and no secret in any output.

#[path = "../common/mod.rs"]
mod common;

mod broken;
mod logins;
mod permissions;
mod registries;

use blobgate_testkit::process::{BlobgateOptions, Config};
use blobgate_testkit::stack::{Stack, StackBuilder};
use common::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

/// What must never be seen: the bucket's secret, the registry users' passwords, and both as the
/// headers carry them.
const SECRETS: [&str; 5] = [
    "testkit-secret",
    "hunter2-right",
    "hunter2-wrong",
    "YWxpY2U6aHVudGVyMi1yaWdodA",
    "X-Amz-Signature",
];

fn healthy() -> StackBuilder {
    stack().registry_faults()
}

/// The doctor's command for a stack, with blobgate's own configuration as `edit` leaves it.
struct Visit {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    config: PathBuf,
    _home: tempfile::TempDir,
}

/// What a program reads of it.
struct Diagnosis {
    code: i32,
    checks: BTreeMap<String, Value>,
    document: Value,
}

impl Visit {
    fn new(stack: &Stack, edit: impl FnOnce(Config) -> Config) -> Self {
        let home = tempfile::tempdir().unwrap();
        let options = stack.blobgate_options();
        let config = options
            .config
            .clone()
            // The doctor listens nowhere; clients are taken to know blobgate by this.
            .set("listen.address", "127.0.0.1:5000")
            .set("admin.address", "off");
        let options = BlobgateOptions {
            config: edit(config),
            dir: home.path().to_owned(),
            ..options.clone()
        };
        let config = options.write_config().unwrap();
        Self {
            arguments: Vec::new(),
            environment: options.environment,
            config,
            _home: home,
        }
    }

    fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|a| a.to_string()));
        self
    }

    fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn home(&self) -> PathBuf {
        self.config.parent().unwrap().to_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blobgate"));
        command
            .env_clear()
            .env("HOME", self.home())
            .envs(self.environment.iter().cloned())
            .arg("doctor")
            .arg("--config")
            .arg(&self.config)
            .args(&self.arguments);
        command
    }

    /// As a person calls it.
    fn text(&self) -> (i32, String) {
        let output = self.command().output().unwrap();
        assert_no_secret(&output);
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    }

    /// As a program calls it.
    fn json(&self) -> Diagnosis {
        let output = self.command().arg("--json").output().unwrap();
        assert_no_secret(&output);
        diagnosis(&output)
    }
}

fn diagnosis(output: &Output) -> Diagnosis {
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        panic!("{error}:\n{stdout}\n{stderr}")
    });
    let checks = document["checks"].as_array().unwrap().iter();
    Diagnosis {
        code: output.status.code().unwrap(),
        checks: checks
            .map(|check| (check["id"].as_str().unwrap().to_owned(), check.clone()))
            .collect(),
        document,
    }
}

fn assert_no_secret(output: &Output) {
    for bytes in [&output.stdout, &output.stderr] {
        let text = String::from_utf8_lossy(bytes);
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} is in\n{text}");
        }
    }
}

impl Diagnosis {
    fn status(&self, id: &str) -> &str {
        self.checks[id]["status"].as_str().unwrap()
    }

    fn with_status(&self, status: &str) -> Vec<&str> {
        let ids = self.checks.keys().map(String::as_str);
        ids.filter(|id| self.status(id) == status).collect()
    }

    /// These checks, and no others, failed or are warned of; this one says so and what to do.
    fn assert_only(&self, status: &str, ids: &[&str], found: &str, remedy: &str) {
        let mut unwell = self.with_status("fail");
        unwell.extend(self.with_status("warn"));
        unwell.sort_unstable();
        let mut expected = ids.to_vec();
        expected.sort_unstable();
        assert_eq!(unwell, expected, "{:#}", self.document);
        let check = &self.checks[ids[0]];
        assert_eq!(check["status"], status, "{check:#}");
        for (field, part) in [("found", found), ("remedy", remedy)] {
            let text = check[field].as_str().unwrap_or_default();
            assert!(text.contains(part), "no {part:?} in {field} of {check:#}");
        }
        assert_eq!(self.document["healthy"], false);
        assert_eq!(self.code, 1);
    }

    /// Everything is well; of what was not looked at, exactly these.
    fn assert_well(&self, skipped: &[&str]) {
        assert_eq!(self.with_status("fail"), [""; 0], "{:#}", self.document);
        assert_eq!(self.with_status("warn"), [""; 0], "{:#}", self.document);
        assert_eq!(self.with_status("skip"), skipped, "{:#}", self.document);
        assert_eq!(self.document["healthy"], true);
        assert_eq!(self.code, 0);
    }
}

/// What the bucket holds, but for what the registry itself leaves of a cancelled session.
fn objects(stack: &Stack, bucket: &str) -> Vec<String> {
    let keys = stack.s3().objects(bucket).into_iter().map(|(key, _)| key);
    keys.filter(|key| !key.contains("/hashstates/")).collect()
}

/// Nothing of the doctor's, also where the bucket could not be asked to remove what the registry
/// leaves.
fn assert_untouched(stack: &Stack) {
    assert_eq!(objects(stack, BUCKET), [""; 0]);
    assert_no_uploads(stack);
}

fn as_it_is(config: Config) -> Config {
    config
}

#[tokio::test]
async fn a_healthy_stack_is_all_green_and_left_as_it_was() {
    let stack = healthy().start().unwrap();
    let visit = Visit::new(&stack, as_it_is).with(&["--repository", "team/app"]);
    let diagnosis = visit.json();
    diagnosis.assert_well(&[]);
    assert_eq!(diagnosis.document["schema"], 1);
    assert_eq!(
        diagnosis.document["summary"]["passed"],
        diagnosis.checks.len()
    );
    assert_bucket_empty(&stack);

    let (code, text) = visit.text();
    assert_eq!(code, 0);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), diagnosis.checks.len() + 2, "{text}");
    assert!(lines[0].starts_with("ok    config "), "{text}");
    assert!(lines.last().unwrap().starts_with("all is well: "), "{text}");
    assert_bucket_empty(&stack);
    // Also no session of an upload, and no repository.
    let catalog = format!("{}/v2/_catalog", stack.registry().url());
    let catalog: Value = client()
        .get(catalog)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(catalog["repositories"], serde_json::json!([]));
}

#[tokio::test]
async fn what_was_not_asked_for_is_skipped_and_said_so() {
    let stack = healthy().start().unwrap();
    let visit = Visit::new(&stack, as_it_is);
    let diagnosis = visit.json();
    diagnosis.assert_well(&["canary"]);
    let canary = &diagnosis.checks["canary"];
    let remedy = canary["remedy"].as_str().unwrap();
    assert!(remedy.contains("--repository"), "{canary:#}");
    assert!(visit.text().1.contains("1 skipped"));
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn the_layouts_and_root_directories_are_blobgates() {
    let stack = healthy()
        .registry(|registry| registry.root_directory = Some("/some/root".to_owned()))
        .start()
        .unwrap();
    let visit = Visit::new(&stack, as_it_is).with(&["--repository", "team/app"]);
    let diagnosis = visit.json();
    diagnosis.assert_well(&[]);
    for (id, prefix) in [
        ("blobs.put", "some/root/docker/registry/v2/blobs/"),
        ("links.put", "some/root/docker/registry/v2/repositories/"),
    ] {
        let found = diagnosis.checks[id]["found"].as_str().unwrap();
        assert!(found.contains(prefix), "{found}");
    }
    assert_bucket_empty(&stack);
    // The registry does not look where the flat layout writes.
    let flat = Visit::new(&stack, |config| config.set("bucket.layout", "flat"))
        .with(&["--repository", "team/app"]);
    flat.json()
        .assert_only("fail", &["canary"], "does not see", "bucket.layout");
    assert_bucket_empty(&stack);
}

/// An interrupted doctor takes away what it has begun.
#[tokio::test]
async fn nothing_stays_of_one_that_is_broken_off() {
    use blobgate_testkit::faults::{Fault, Gate, Rule};
    let stack = healthy().start().unwrap();
    let gate = Gate::new();
    let held = Rule::on("UploadPart", Fault::HoldBefore(gate.clone()));
    stack.s3_faults().add(held);
    let visit = Visit::new(&stack, as_it_is);
    let mut command = visit.command();
    command.arg("--json").stdout(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    gate.reached(1).await;
    assert_eq!(stack.s3().open_uploads(BUCKET).len(), 1);
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupt.success());
    let output = child.wait_with_output().unwrap();
    let diagnosis = diagnosis(&output);
    assert_eq!(diagnosis.code, 1);
    let part = &diagnosis.checks["blobs.part"];
    assert!(
        part["found"].as_str().unwrap().contains("broken off"),
        "{part:#}"
    );
    assert_eq!(diagnosis.status("cleanup"), "pass");
    assert_bucket_empty(&stack);
}

/// `docs/OPERATIONS.md` has a row for each check, in their order, and no other.
#[tokio::test]
async fn the_manual_lists_every_check() {
    let manual = include_str!("../../docs/OPERATIONS.md");
    let table = manual
        .lines()
        .skip_while(|line| !line.starts_with("| Check |"));
    let documented: Vec<&str> = table
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('`').nth(1).expect("a check's name"))
        .collect();
    let checks: Vec<&str> = blobgate::doctor::Check::ALL
        .iter()
        .map(|check| check.id())
        .collect();
    assert_eq!(documented, checks);
}

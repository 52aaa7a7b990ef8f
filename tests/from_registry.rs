//! `blobgate config from-registry`: from a real registry's configuration to a stack that works, and
//! the command's files, output and exit codes.

mod common;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::process::{Blobgate, Config};
use blobgate_testkit::registry::RegistryOptions;
use blobgate_testkit::stack::Stack;
use common::*;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const BLOBGATE: &str = env!("CARGO_BIN_EXE_blobgate");

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn blobgate(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(BLOBGATE)
        .env_clear()
        .envs(environment.iter().copied())
        .args(arguments)
        .output()
        .unwrap()
}

fn translate(file: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut all = vec!["config", "from-registry", text(file)];
    all.extend(arguments);
    blobgate(&all, environment)
}

/// A registry as its own configuration says, blobgate as that became, and a push through one that is
/// read through the other.
async fn lead_to_a_working_stack(edit: impl FnOnce(&mut RegistryOptions) + 'static, listen: &str) {
    let registry_alone = Stack::builder().registry(edit).start().unwrap();
    let stack = registry_alone;
    let file = stack.dir().join("registry/registry.yml");
    let output = stack.dir().join("proxy.yaml");
    // The registry chose a free port itself; its configuration says 0.
    let address = stack.registry().address().to_string();
    let made = translate(
        &file,
        &["--output", text(&output), "--listen", listen],
        &[("REGISTRY_HTTP_ADDR", &address)],
    );
    assert!(made.status.success(), "{}", said(&made.stderr));
    let mode = std::fs::metadata(&output).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let yaml = std::fs::read_to_string(&output).unwrap();
    assert!(!yaml.contains("testkit-secret"), "{yaml}");
    assert!(!said(&made.stderr).contains("testkit-secret"));

    let credentials = blobgate_testkit::stack::credentials(stack.s3().options());
    let environment: Vec<(&str, &str)> = credentials
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let check = blobgate(&["--config", text(&output), "--check"], &environment);
    assert!(check.status.success(), "{}", said(&check.stderr));

    // Only the admin listener is moved, so that tests can run side by side.
    let config = Config::parse(&yaml).unwrap().set("admin.address", "off");
    let options = blobgate_testkit::process::BlobgateOptions {
        binary: BLOBGATE.into(),
        config,
        dir: stack.dir().join("blobgate"),
        environment: credentials.clone(),
    };
    let running = Blobgate::start(&options).unwrap();
    for (seed, size) in [(1, 1000), (2, 20 * MIB)] {
        let blob = Blob::new(seed, size);
        let digest = blob.sha256();
        let pushed = client()
            .put(format!("{}/v2/team/app/blobs/{digest}", running.url()))
            .body(blob.bytes())
            .send()
            .await
            .unwrap();
        assert_eq!(pushed.status(), 201, "{}", pushed.text().await.unwrap());
        let url = format!("{}/v2/team/app/blobs/{digest}", stack.registry().url());
        let pulled = client().get(url).send().await.unwrap();
        assert_eq!(pulled.status(), 200);
        assert!(pulled.bytes().await.unwrap() == blob.bytes());
    }
    // And the doctor agrees.
    let config = options.write_config().unwrap();
    let doctor = blobgate(
        &[
            "doctor",
            "--config",
            text(&config),
            "--repository",
            "team/app",
        ],
        &environment,
    );
    assert!(doctor.status.success(), "{}", said(&doctor.stdout));
}

#[tokio::test]
async fn a_plain_registrys_configuration_works() {
    lead_to_a_working_stack(|_| {}, "127.0.0.1:0").await;
}

#[tokio::test]
async fn one_with_a_root_directory_and_a_storage_class_works() {
    lead_to_a_working_stack(
        |registry| {
            registry.root_directory = Some("/deep/root/".to_owned());
            registry.config = serde_json::json!({"storage": {"s3": {
                "storageclass": "REDUCED_REDUNDANCY",
                "encrypt": true,
                "chunksize": 5_242_880,
            }}});
        },
        "127.0.0.1:0",
    )
    .await;
}

const CONFIG: &str = "\
version: 0.1
storage:
  s3:
    bucket: blobs
    region: eu-west-1
    accesskey: AKIAKEY
    secretkey: hunter2
http:
  addr: :5000
  host: https://registry.example
";

#[test]
fn the_file_goes_to_standard_output_and_warnings_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.yml");
    std::fs::write(&file, CONFIG).unwrap();
    let made = translate(&file, &[], &[]);
    assert!(made.status.success());
    let (yaml, warnings) = (said(&made.stdout), said(&made.stderr));
    assert!(yaml.contains("\nbucket:\n  name: \"blobs\"\n"), "{yaml}");
    let warnings: Vec<&str> = warnings.lines().collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|line| line.starts_with("warning: ")));
    assert!(!format!("{yaml}{warnings:?}").contains("hunter2"));

    let copied = translate(&file, &["--with-secrets"], &[]);
    assert!(said(&copied.stdout).contains("secret_access_key: \"hunter2\""));
    assert!(!said(&copied.stderr).contains("hunter2"));
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let (file, output) = (dir.path().join("config.yml"), dir.path().join("proxy.yaml"));
    std::fs::write(&file, CONFIG).unwrap();
    std::fs::write(&output, "mine").unwrap();
    let made = translate(&file, &["--output", text(&output)], &[]);
    assert_eq!(made.status.code(), Some(1));
    assert!(
        said(&made.stderr).contains("File exists"),
        "{}",
        said(&made.stderr)
    );
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "mine");
}

#[test]
fn the_environment_is_that_of_the_process_or_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (file, variables) = (
        dir.path().join("config.yml"),
        dir.path().join("environment"),
    );
    std::fs::write(&file, CONFIG).unwrap();
    std::fs::write(&variables, "REGISTRY_STORAGE_S3_BUCKET=of-file\n").unwrap();
    let environment = [("REGISTRY_STORAGE_S3_BUCKET", "of-process")];
    let by_process = translate(&file, &[], &environment);
    assert!(said(&by_process.stdout).contains("name: \"of-process\""));
    let by_file = translate(&file, &["--env-file", text(&variables)], &environment);
    assert!(said(&by_file.stdout).contains("name: \"of-file\""));
}

#[test]
fn refusals_say_why_and_write_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, output) = (dir.path().join("config.yml"), dir.path().join("proxy.yaml"));
    std::fs::write(&file, CONFIG.replace("s3:", "filesystem:")).unwrap();
    let refused = translate(&file, &["--output", text(&output)], &[]);
    assert_eq!(refused.status.code(), Some(1));
    let reason = said(&refused.stderr);
    assert!(
        reason.contains("storage.filesystem: ") && reason.contains("storage.s3"),
        "{reason}"
    );
    assert!(refused.stdout.is_empty() && !output.exists());

    let missing = translate(&dir.path().join("none.yml"), &[], &[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(said(&missing.stderr).contains("cannot be read"));
}

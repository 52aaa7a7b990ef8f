//! The command line: what is printed where, and the exit code.

use assert_cmd::Command;
use std::path::Path;

struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

fn blobgate(arguments: &[&str]) -> Outcome {
    let output = Command::cargo_bin("blobgate")
        .unwrap()
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .env("SECRET", "hunter2")
        .args(arguments)
        .output()
        .unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn check(text: &str) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blobgate.yaml");
    std::fs::write(&path, text).unwrap();
    blobgate(&["--check", "--config", path_text(&path)])
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn help_says_what_it_is_and_how_to_begin() {
    let long = blobgate(&["--help"]);
    assert_eq!(long.code, 0);
    let expected = [
        "PUT /v2/<name>/blobs/<digest>",
        "--config <FILE>",
        "--check",
        "blobgate doctor --config <FILE>",
        "blobgate config from-registry <FILE>",
        "blobgate --config proxy.yaml",
        "docs/CONFIGURATION.md",
        "RUST_LOG",
        "Exit codes:",
    ];
    for part in expected {
        assert!(
            long.stdout.contains(part),
            "{part:?} is not in\n{}",
            long.stdout
        );
    }
    assert!(long.stderr.is_empty());
}

#[test]
fn version_is_the_package_version() {
    let outcome = blobgate(&["--version"]);
    assert_eq!(outcome.code, 0);
    assert_eq!(
        outcome.stdout,
        format!("blobgate {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn wrong_arguments_exit_with_2_and_say_what_to_do() {
    let cases: [(&[&str], &str); 11] = [
        (&[], "blobgate --config proxy.yaml"),
        (&["--check"], "blobgate --config proxy.yaml"),
        (&["--config"], "a value is required"),
        (&["doctor"], "--config <FILE>"),
        (
            &["--check", "doctor", "--config", "proxy.yaml"],
            "cannot be used with",
        ),
        (
            &["doctor", "--config", "proxy.yaml", "--repository", "Team"],
            "a repository name is made of",
        ),
        (
            &["doctor", "--config", "proxy.yaml", "--host", "https://a/"],
            "without scheme and path",
        ),
        (&["config", "from-registry"], "<FILE>"),
        (&["--confg", "proxy.yaml"], "'--config'"),
        (&["proxy.yaml"], "unrecognized subcommand 'proxy.yaml'"),
        (
            &["--config", "nonexistent.yaml"],
            "1 fault in nonexistent.yaml\nthe file cannot be read: No such file",
        ),
    ];
    for (arguments, expected) in cases {
        let outcome = blobgate(arguments);
        assert_eq!(outcome.code, 2, "of {arguments:?}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(expected),
            "of {arguments:?}: {}",
            outcome.stderr
        );
        assert!(
            outcome.stdout.is_empty(),
            "of {arguments:?}: {}",
            outcome.stdout
        );
    }
}

#[test]
fn the_shipped_configuration_is_valid() {
    let outcome = blobgate(&["--config", "proxy.yaml", "--check"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert!(
        outcome.stdout.starts_with("configuration is valid\n"),
        "{}",
        outcome.stdout
    );
    for line in [
        "  url: \"http://127.0.0.1:5001/\"",
        "  part_size: 16MiB",
        "grace_period: 5m",
    ] {
        assert!(
            outcome.stdout.lines().any(|shown| shown == line),
            "{}",
            outcome.stdout
        );
    }
}

#[test]
fn check_takes_the_environment_and_shows_no_secret() {
    let outcome = check(
        "upstream: {url: 'http://127.0.0.1:5001'}\n\
         bucket: {name: registry, credentials: {access_key_id: id, secret_access_key: '${SECRET}'}}\n",
    );
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert!(
        outcome.stdout.contains("secret_access_key: \"***\""),
        "{}",
        outcome.stdout
    );
    assert!(!outcome.stdout.contains("hunter2"), "{}", outcome.stdout);
}

#[test]
fn every_fault_is_a_line_on_stderr() {
    let outcome = check("upload: {part_size: 1MiB}\nbucket: {nam: registry}\n");
    assert_eq!(outcome.code, 2);
    assert!(outcome.stdout.is_empty(), "{}", outcome.stdout);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 5, "{}", outcome.stderr);
    assert!(lines[0].starts_with("error: 4 faults in "), "{}", lines[0]);
    for (line, key) in lines[1..].iter().zip([
        "upstream.url",
        "bucket.name",
        "upload.part_size",
        "bucket.nam",
    ]) {
        assert!(line.starts_with(&format!("{key}: ")), "{line}");
    }
}

//! Starting and stopping processes, with a shell script in blobgate's place, and the S3 server's
//! front door.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::program::Program;
use blobgate_testkit::s3::{S3Options, S3Server};
use blobgate_testkit::stack::Stack;
use blobgate_testkit::tls::Identity;
use blobgate_testkit::usage::Usage;

const SOON: Duration = Duration::from_secs(20);

fn script(dir: &Path, lines: &str) -> PathBuf {
    let path = dir.join("blobgate.sh");
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Answers one request with a metrics page.
fn metrics_page() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1000];
        let _ = stream.read(&mut request).unwrap();
        let page = "# HELP a b\nuploads_total{result=\"created\"} 3\nbytes 1.5e3\n";
        write!(stream, "HTTP/1.0 200 OK\r\n\r\n{page}").unwrap();
    });
    port
}

#[test]
fn a_program_says_where_it_listens_or_why_it_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "echo \"listening on http://127.0.0.1:7 with $1\"; exec sleep 1000";
    let binary = script(dir.path(), lines);
    let program = Program::start("server", &binary, ["more"], dir.path()).unwrap();
    assert_eq!(program.url(), "http://127.0.0.1:7");
    assert_eq!(
        program.ready_line(),
        "listening on http://127.0.0.1:7 with more"
    );
    assert!(Usage::of(program.pid()).rss_bytes().unwrap() > 0);

    let binary = script(dir.path(), "echo no room; exit 3");
    let error = Program::start("server", &binary, [], dir.path()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("no room") && error.contains("server"),
        "{error}"
    );
}

#[test]
fn blobgate_is_found_watched_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let admin = metrics_page();
    let binary = script(
        dir.path(),
        &format!(
            "cat \"$2\"; echo \"keys: $AWS_ACCESS_KEY_ID, proxy: $https_proxy\"
             echo '[INFO] listening on http://127.0.0.1:7' >&2
             echo '[INFO] admin listening on http://127.0.0.1:{admin}' >&2
             exec sleep 1000"
        ),
    );
    let mut stack = Stack::builder()
        .blobgate(binary)
        .config("upload.part_size", "5MiB")
        .environment("SOME", "thing")
        .s3_faults()
        .registry_faults()
        .start()
        .unwrap();
    let blobgate = stack.blobgate();
    assert_eq!(blobgate.url(), "http://127.0.0.1:7");
    let log = blobgate.log();
    assert!(log.contains("keys: testkit, proxy: \n"), "{log}");
    assert!(log.contains("part_size: 5MiB"), "{log}");
    assert!(log.contains(&stack.s3_faults().url()), "{log}");
    assert!(log.contains(&stack.registry_faults().url()), "{log}");

    let metrics = blobgate.metrics().unwrap();
    assert_eq!(metrics["uploads_total{result=\"created\"}"], 3.0);
    assert_eq!(metrics["bytes"], 1500.0);
    assert!(blobgate.rss_bytes().unwrap() <= blobgate.peak_rss_bytes().unwrap());
    assert!(blobgate.cpu_seconds().unwrap() < 10.0);

    assert_eq!(blobgate.wait(Duration::ZERO), None);
    blobgate.terminate();
    assert_eq!(blobgate.wait(SOON).unwrap().signal(), Some(15));
    // Harmless once it has ended.
    blobgate.kill();

    let edit = |config: blobgate_testkit::process::Config| config.set("threads", 3);
    stack.restart_blobgate(edit).unwrap();
    assert!(stack.blobgate().log().contains("threads: 3"));
    let process = PathBuf::from(format!("/proc/{}", stack.blobgate().pid()));
    assert!(process.exists());
    drop(stack);
    assert!(!process.exists());
}

#[test]
fn a_blobgate_that_ends_at_once_shows_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let binary = script(dir.path(), "echo 'no such key: uplaod'; exit 7");
    let error = Stack::builder().blobgate(binary).start().unwrap_err();
    let error = error.to_string();
    assert!(error.contains("no such key: uplaod"), "{error}");
}

#[tokio::test]
async fn s3_speaks_tls_and_wants_signatures() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::new(&["localhost", "127.0.0.1"]);
    let mut options = S3Options::new(dir.path());
    options.tls = Some(identity.clone());
    let s3 = S3Server::start(options).unwrap();
    s3.put_object("registry", "a", Blob::new(1, 10).bytes());

    let ca = reqwest::Certificate::from_pem(identity.ca.as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .add_root_certificate(ca);
    let client = client.build().unwrap();
    for url in [s3.url(), format!("{}/registry/a", s3.url())] {
        let answer = client.get(url).send().await.unwrap();
        assert_eq!(answer.status(), 403);
        assert!(
            answer
                .text()
                .await
                .unwrap()
                .contains("<Code>AccessDenied</Code>")
        );
    }
    let address = s3.address();
    s3.shutdown();
    assert!(std::net::TcpStream::connect(address).is_err());
}

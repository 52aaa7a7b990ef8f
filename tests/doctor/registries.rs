//! Registries that are not what blobgate needs, or not its own.

use super::*;
use blobgate_testkit::faults::{Fault, Rule};
use bytes::Bytes;
use http::Method;

#[tokio::test]
async fn locations_that_lead_elsewhere_are_warned_of() {
    let stack = healthy()
        .registry(|registry| registry.host = Some("https://elsewhere.example:5443".to_owned()))
        .start()
        .unwrap();
    let diagnosis = Visit::new(&stack, as_it_is).json();
    let (found, remedy) = ("sends clients to elsewhere.example:5443", "http.host");
    diagnosis.assert_only("warn", &["upstream.location"], found, remedy);
    // Unless it is blobgate that clients know by that name.
    let known = Visit::new(&stack, as_it_is).with(&["--host", "elsewhere.example:5443"]);
    known.json().assert_well(&["canary"]);
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn relative_locations_are_good() {
    let stack = healthy()
        .registry(|registry| {
            registry.config = serde_json::json!({"http": {"relativeurls": true}});
        })
        .start()
        .unwrap();
    let diagnosis = Visit::new(&stack, as_it_is).json();
    diagnosis.assert_well(&["canary"]);
    let found = diagnosis.checks["upstream.location"]["found"]
        .as_str()
        .unwrap();
    assert!(found.contains("relative"), "{found}");
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn a_session_that_cannot_be_cancelled_is_told() {
    let stack = healthy().start().unwrap();
    let refused = Fault::Answer {
        status: 403,
        headers: Vec::new(),
        body: Bytes::new(),
    };
    stack
        .registry_faults()
        .add(Rule::new(refused).method(Method::DELETE));
    let diagnosis = Visit::new(&stack, as_it_is).json();
    diagnosis.assert_well(&["canary"]);
    let found = diagnosis.checks["upstream.location"]["found"]
        .as_str()
        .unwrap();
    assert!(found.contains("could not be cancelled: 403"), "{found}");
    // It is there as said, and nothing else.
    for (key, _) in stack.s3().objects(BUCKET) {
        assert!(key.contains("/blobgate/doctor/_uploads/"), "{key}");
    }
}

#[tokio::test]
async fn a_registry_on_another_bucket_does_not_see_the_canary() {
    let stack = healthy()
        .s3(|s3| s3.buckets.push("another".to_owned()))
        .registry(|registry| registry.root_directory = Some("other/root".to_owned()))
        .start()
        .unwrap();
    for (key, value) in [("bucket.name", "another"), ("bucket.root_directory", "")] {
        let visit = Visit::new(&stack, |config| config.set(key, value));
        let diagnosis = visit.with(&["--repository", "team/app"]).json();
        let (found, remedy) = ("does not see a blob", "bucket.root_directory");
        diagnosis.assert_only("fail", &["canary"], found, remedy);
        for bucket in [BUCKET, "another"] {
            assert_eq!(objects(&stack, bucket), [""; 0], "{bucket}");
        }
        assert_no_uploads(&stack);
        assert_eq!(stack.s3().open_uploads("another"), []);
    }
}

/// A registry that redirects to the bucket is followed there; the signature is not shown.
#[tokio::test]
async fn a_canary_behind_a_redirect_is_seen() {
    let stack = healthy()
        .registry(|registry| registry.redirect = true)
        .start()
        .unwrap();
    let visit = Visit::new(&stack, as_it_is).with(&["--repository", "team/app"]);
    let diagnosis = visit.json();
    diagnosis.assert_well(&[]);
    let found = diagnosis.checks["canary"]["found"].as_str().unwrap();
    assert!(found.contains("redirect"), "{found}");
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn a_read_only_registry_is_warned_of() {
    let stack = healthy()
        .registry(|registry| registry.read_only = true)
        .start()
        .unwrap();
    let diagnosis = Visit::new(&stack, as_it_is).json();
    diagnosis.assert_only(
        "warn",
        &["upstream.push"],
        "read-only",
        "maintenance.readonly",
    );
    assert_eq!(diagnosis.status("upstream.location"), "skip");
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn what_is_no_registry_is_told() {
    let stack = healthy().start().unwrap();
    let page = |status: u16| Fault::Answer {
        status,
        headers: Vec::new(),
        body: Bytes::from_static(b"<html>"),
    };
    for (fault, method, status, check, found, remedy) in [
        (
            page(404),
            Method::GET,
            "fail",
            "upstream.api",
            "404",
            "upstream.url",
        ),
        (
            page(200),
            Method::GET,
            "warn",
            "upstream.api",
            "without Docker-",
            "distribution",
        ),
        (
            page(200),
            Method::PUT,
            "fail",
            "upstream.push",
            "neither yes nor no",
            "503",
        ),
        (
            page(405),
            Method::POST,
            "fail",
            "upstream.location",
            "405",
            "pull-through",
        ),
        (
            Fault::CutAnswer,
            Method::GET,
            "fail",
            "upstream.api",
            "could not be asked",
            "upstream",
        ),
    ] {
        stack.registry_faults().clear();
        stack.registry_faults().add(Rule::new(fault).method(method));
        let diagnosis = Visit::new(&stack, as_it_is).json();
        diagnosis.assert_only(status, &[check], found, remedy);
    }
}

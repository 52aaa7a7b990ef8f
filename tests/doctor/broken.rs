//! One thing wrong at a time with the configuration, the network or a clock.

use super::*;
use blobgate_testkit::faults::{Fault, Rule};
use blobgate_testkit::tls::Identity;
use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use std::net::TcpListener;
use std::time::{Duration, SystemTime};

/// An address at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// One broken setting a row: key, value, the failed check, part of what is found, part of the remedy.
#[tokio::test]
async fn a_wrong_setting_is_told_with_its_remedy() {
    let stack = healthy().start().unwrap();
    let gone = nobody();
    for (key, value, check, found, remedy) in [
        (
            "bucket.endpoint",
            gone.as_str(),
            "bucket.connect",
            "refused",
            "bucket.endpoint",
        ),
        (
            "bucket.endpoint",
            "http://nowhere.invalid:9000",
            "bucket.dns",
            "nowhere.invalid cannot be looked up",
            "bucket.endpoint",
        ),
        (
            "bucket.name",
            "another",
            "bucket.exists",
            "no such bucket",
            "bucket.name",
        ),
        (
            "upstream.url",
            gone.as_str(),
            "upstream.connect",
            "refused",
            "upstream.url",
        ),
        (
            "upstream.url",
            "http://nowhere.invalid:5001",
            "upstream.dns",
            "nowhere.invalid cannot be looked up",
            "upstream.url",
        ),
    ] {
        let visit = Visit::new(&stack, |config| config.set(key, value));
        let diagnosis = visit.with(&["--repository", "team/app"]).json();
        diagnosis.assert_only("fail", &[check], found, remedy);
        assert_untouched(&stack);
    }
}

#[tokio::test]
async fn what_hangs_on_a_failed_check_says_so() {
    let stack = healthy().start().unwrap();
    let visit = Visit::new(&stack, |config| config.set("bucket.endpoint", nobody()));
    let diagnosis = visit.with(&["--repository", "team/app"]).json();
    for id in [
        "bucket.tls",
        "bucket.exists",
        "blobs.part",
        "links.put",
        "canary",
        "cleanup",
    ] {
        assert_eq!(diagnosis.status(id), "skip", "{id}");
        assert_eq!(diagnosis.checks[id]["because"], "bucket.connect", "{id}");
    }
    // The other side is looked at all the same.
    assert_eq!(diagnosis.status("upstream.location"), "pass");
}

#[tokio::test]
async fn a_configuration_with_faults_is_reported_whole() {
    let stack = healthy().start().unwrap();
    let visit = Visit::new(&stack, |config| {
        config
            .set("upload.part_size", "1MiB")
            .set("bucket.nam", "x")
    });
    let diagnosis = visit.json();
    diagnosis.assert_only(
        "fail",
        &["config"],
        "upload.part_size",
        "docs/CONFIGURATION.md",
    );
    diagnosis.assert_only("fail", &["config"], "bucket.nam", "");
    assert_eq!(
        diagnosis.with_status("skip").len(),
        diagnosis.checks.len() - 1
    );
}

#[tokio::test]
async fn more_slots_than_memory_are_warned_of() {
    let stack = healthy().start().unwrap();
    let visit = Visit::new(&stack, |config| config.set("upload.max_streaming", 200));
    let diagnosis = visit.json();
    diagnosis.assert_only("warn", &["config.parts"], "200", "upload.memory_budget");
}

#[tokio::test]
async fn a_wrong_key_is_told_from_a_wrong_secret() {
    let stack = healthy().start().unwrap();
    for (name, value, found, remedy) in [
        ("AWS_ACCESS_KEY_ID", "nobody", "NotSignedUp", "access key"),
        (
            "AWS_SECRET_ACCESS_KEY",
            "hunter2-wrong",
            "SignatureDoesNotMatch",
            "does not belong",
        ),
    ] {
        let visit = Visit::new(&stack, as_it_is).environment(name, value);
        visit
            .json()
            .assert_only("fail", &["bucket.signature"], found, remedy);
    }
    let mut visit = Visit::new(&stack, as_it_is);
    visit.environment.clear();
    // An instance's metadata service is asked last: on a machine that has one with a role, this
    // fails, and names it as the source.
    let diagnosis = visit.json();
    diagnosis.assert_only(
        "fail",
        &["bucket.credentials"],
        "environment: ",
        "AWS_ACCESS_KEY_ID",
    );
    assert_untouched(&stack);
}

#[tokio::test]
async fn the_source_of_the_credentials_is_named() {
    let stack = healthy().start().unwrap();
    let environment = Visit::new(&stack, as_it_is);
    let file = Visit::new(&stack, |config| {
        config
            .set("bucket.credentials.access_key_id", "testkit")
            .set("bucket.credentials.secret_access_key", "testkit-secret")
    });
    let profile = Visit::new(&stack, |config| {
        config.set("bucket.credentials.profile", "special")
    });
    let path = profile.home().join(".aws");
    std::fs::create_dir(&path).unwrap();
    let keys = "[special]\naws_access_key_id=testkit\naws_secret_access_key=testkit-secret\n";
    std::fs::write(path.join("credentials"), keys).unwrap();
    for (visit, source) in [
        (environment, "environment"),
        (file, "bucket.credentials"),
        (profile, "profile special in "),
    ] {
        let diagnosis = visit.json();
        diagnosis.assert_well(&["canary"]);
        let found = diagnosis.checks["bucket.credentials"]["found"]
            .as_str()
            .unwrap();
        assert!(found.contains(source), "{found}");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_by_how_much() {
    let stack = healthy().start().unwrap();
    // A running blobgate looks for the bucket, too, and would take the first answer for itself.
    stack.blobgate().kill();
    assert!(stack.blobgate().wait(PATIENCE).is_some());
    for (off, status) in [(5 * 60, "warn"), (20 * 60, "fail")] {
        let date = SystemTime::now() - Duration::from_secs(off);
        let answer = Fault::Answer {
            status: 403,
            headers: vec![("date".into(), httpdate::fmt_http_date(date))],
            body: Bytes::new(),
        };
        stack.s3_faults().clear();
        // The clock is asked for first, and without a bucket.
        stack.s3_faults().add(Rule::on("HeadBucket", answer).nth(1));
        let diagnosis = Visit::new(&stack, as_it_is).json();
        diagnosis.assert_only(status, &["bucket.clock"], "ahead of", "NTP");
        assert_untouched(&stack);
    }
}

/// A certificate of its own authority that ends this many days from now.
fn lasting(days: u64) -> Identity {
    let mut identity = Identity::new(&["localhost"]);
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let end = SystemTime::now() + Duration::from_secs(days * 24 * 3600 + 3600);
    params.not_after = end.into();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    identity.certificate = certificate.pem();
    identity.key = key.serialize_pem();
    identity.ca = certificate.pem();
    identity
}

fn secure(identity: Identity) -> Stack {
    Stack::builder()
        .blobgate(env!("CARGO_BIN_EXE_blobgate"))
        .registry(|registry| {
            registry.config = serde_json::json!({"storage": {"s3": {"skipverify": true}}})
        })
        .s3(move |s3| s3.tls = Some(identity))
        .start()
        .unwrap()
}

#[tokio::test]
async fn certificates_are_judged_by_their_authority_and_end() {
    let dir = tempfile::tempdir().unwrap();
    let save = |name: &str, identity: &Identity| {
        identity
            .save(&dir.path().join(name))
            .unwrap()
            .ca
            .to_str()
            .unwrap()
            .to_owned()
    };
    let stranger = save("stranger", &Identity::new(&["localhost"]));
    for (identity, trusted, outcome) in [
        (Identity::new(&["localhost"]), true, None),
        (
            lasting(10),
            true,
            Some(("warn", "expires in 10 days", "renewed")),
        ),
        (
            lasting(100),
            false,
            Some(("fail", "does not pass", "bucket.ca_file")),
        ),
        (
            Identity::new(&["elsewhere"]),
            true,
            Some(("fail", "for elsewhere", "host name")),
        ),
    ] {
        let own = save("own", &identity);
        let stack = secure(identity);
        let ca = if trusted { own } else { stranger.clone() };
        let diagnosis = Visit::new(&stack, |config| config.set("bucket.ca_file", ca)).json();
        match outcome {
            None => diagnosis.assert_well(&["canary"]),
            Some((status, found, remedy)) => {
                diagnosis.assert_only(status, &["bucket.tls"], found, remedy)
            }
        }
        assert_untouched(&stack);
    }
}

#[tokio::test]
async fn the_listeners_own_certificate_is_looked_at() {
    let stack = healthy().start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = lasting(3).save(dir.path()).unwrap();
    let visit = Visit::new(&stack, |config| {
        config
            .set(
                "listen.tls.certificate",
                files.certificate.to_str().unwrap(),
            )
            .set("listen.tls.key", files.key.to_str().unwrap())
    });
    let diagnosis = visit.json();
    diagnosis.assert_only(
        "warn",
        &["listen.tls"],
        "expires in 3 days",
        "new one issued",
    );
}

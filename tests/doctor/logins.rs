//! A registry that asks who is there.

use super::*;
use base64::Engine;
use blobgate_testkit::faults::{Fault, Rule};
use bytes::Bytes;
use http::Method;

fn guarded() -> Stack {
    healthy()
        .registry(|registry| registry.users = vec![("alice".into(), "hunter2-right".into())])
        .start()
        .unwrap()
}

const NEEDS_LOGIN: [&str; 4] = [
    "canary",
    "upstream.location",
    "upstream.login",
    "upstream.push",
];

#[tokio::test]
async fn without_a_login_it_says_what_was_not_checked() {
    let stack = guarded();
    let visit = Visit::new(&stack, as_it_is).with(&["--repository", "team/app"]);
    let diagnosis = visit.json();
    diagnosis.assert_well(&NEEDS_LOGIN);
    let remedy = diagnosis.checks["upstream.login"]["remedy"]
        .as_str()
        .unwrap();
    assert!(remedy.contains("--username"), "{remedy}");
    assert_eq!(diagnosis.checks["canary"]["because"], "upstream.login");
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn a_user_and_a_repository_let_it_see_all() {
    let stack = guarded();
    let arguments = ["--repository", "team/app", "--username", "alice"];
    let by_variable = Visit::new(&stack, as_it_is)
        .with(&arguments)
        .environment("BLOBGATE_PASSWORD", "hunter2-right")
        .environment("RUST_LOG", "trace");
    by_variable.json().assert_well(&[]);
    assert_bucket_empty(&stack);

    // Without a repository there is nothing to ask about.
    let nowhere = Visit::new(&stack, as_it_is)
        .with(&["--username", "alice"])
        .environment("BLOBGATE_PASSWORD", "hunter2-right");
    nowhere
        .json()
        .assert_well(&["canary", "upstream.location", "upstream.push"]);
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn the_password_can_come_by_standard_input() {
    let stack = guarded();
    let visit = Visit::new(&stack, as_it_is).with(&[
        "--repository",
        "team/app",
        "--username",
        "alice",
        "--password-stdin",
        "--json",
    ]);
    let mut command = assert_cmd::Command::from_std(visit.command());
    let output = command.write_stdin("hunter2-right\n").output().unwrap();
    assert_no_secret(&output);
    diagnosis(&output).assert_well(&[]);
}

#[tokio::test]
async fn dockers_own_login_is_taken() {
    let stack = guarded();
    let login = base64::engine::general_purpose::STANDARD.encode("alice:hunter2-right");
    let address = stack.registry_faults().address().to_string();
    for (key, arguments) in [
        (address.as_str(), &[][..]),
        ("registry.example", &["--host", "registry.example"]),
    ] {
        let visit = Visit::new(&stack, as_it_is)
            .with(&["--repository", "team/app"])
            .with(arguments);
        let docker = visit.home().join(".docker");
        std::fs::create_dir(&docker).unwrap();
        let config = serde_json::json!({"auths": {key: {"auth": login}}});
        std::fs::write(docker.join("config.json"), config.to_string()).unwrap();
        visit.json().assert_well(&[]);
    }
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn a_wrong_password_is_told() {
    let stack = guarded();
    let visit = Visit::new(&stack, as_it_is)
        .with(&["--repository", "team/app", "--username", "alice"])
        .environment("BLOBGATE_PASSWORD", "hunter2-wrong");
    let diagnosis = visit.json();
    diagnosis.assert_only("fail", &["upstream.push"], "401", "credentials of a user");
    assert_eq!(diagnosis.checks["canary"]["because"], "upstream.push");
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn a_user_without_a_password_is_a_wrong_argument() {
    let stack = guarded();
    let visit = Visit::new(&stack, as_it_is).with(&["--username", "alice"]);
    let output = visit.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("BLOBGATE_PASSWORD"), "{said}");
}

/// The registry names a token service, which is asked with the password; the registry is then asked
/// with the token alone.
#[tokio::test]
async fn a_token_is_fetched_where_the_registry_wants_one() {
    let stack = healthy().start().unwrap();
    let faults = stack.registry_faults();
    let realm = format!("{}/token", faults.url());
    let answer = |status: u16, header: (&str, String), body: &'static str| Fault::Answer {
        status,
        headers: vec![(header.0.to_owned(), header.1)],
        body: Bytes::from_static(body.as_bytes()),
    };
    let challenge = format!("Bearer realm=\"{realm}\",service=\"registry.test\"");
    let json = || ("content-type", "application/json".to_owned());
    let visit = Visit::new(&stack, as_it_is)
        .with(&["--repository", "team/app", "--username", "alice"])
        .environment("BLOBGATE_PASSWORD", "hunter2-right");
    for (status, body, outcome) in [
        (200, "{\"token\": \"hunter2-wrong\"}", None),
        (
            401,
            "{\"details\": \"hunter2-wrong\"}",
            Some("answered 401"),
        ),
        (
            200,
            "{\"tokens\": \"hunter2-wrong\"}",
            Some("gave no token"),
        ),
    ] {
        faults.clear();
        faults.add(Rule::new(answer(status, json(), body)).target("/token?"));
        let refusal = answer(401, ("www-authenticate", challenge.clone()), "{}");
        faults.add(Rule::new(refusal).method(Method::GET).target("/v2/").nth(1));
        let diagnosis = visit.json();
        match outcome {
            None => {
                // The stand-in for a registry's 401 lacks the registry's own header.
                assert_eq!(diagnosis.with_status("warn"), ["upstream.api"]);
                assert_eq!(
                    diagnosis.with_status("fail"),
                    [""; 0],
                    "{:#}",
                    diagnosis.document
                );
                assert_eq!(diagnosis.status("canary"), "pass");
            }
            Some(found) => {
                let login = &diagnosis.checks["upstream.login"];
                assert_eq!(login["status"], "fail");
                assert!(
                    login["found"].as_str().unwrap().contains(found),
                    "{login:#}"
                );
                assert_eq!(diagnosis.status("canary"), "skip");
            }
        }
    }
    let records = faults.records();
    let asked = records
        .iter()
        .find(|record| record.target.starts_with("/token?"))
        .unwrap();
    for part in [
        "service=registry.test",
        "scope=repository%3Ateam%2Fapp%3Apull%2Cpush",
    ] {
        assert!(asked.target.contains(part), "{}", asked.target);
    }
    assert_bucket_empty(&stack);
}

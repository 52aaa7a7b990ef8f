//! Credentials: answered challenges, and who never gets to see them.

use crate::server::{Plan, Seen, Server, generous, reply};
use crate::{Files, Run, pattern, run, tool};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const PASSWORD: &str = "s3cr:t";
/// `ann:s3cr:t`
const BASIC: &str = "Basic YW5uOnMzY3I6dA==";

fn with_password(command: &mut Command) -> &mut Command {
    command
        .args(["--user", "ann"])
        .env("BLOBGATE_PASSWORD", PASSWORD)
}

fn push(server: &Server, files: &Files, command: &mut Command) -> Run {
    let file = files.write("f", pattern(1_000_000));
    run(command.args(["--json", &server.url(), "a/b"]).arg(file))
}

/// Wants a name and a password.
fn guarded(seen: &Seen) -> Plan {
    match seen.header("authorization") {
        Some(BASIC) => generous(seen),
        _ => Plan::Early(reply(401).header("WWW-Authenticate", r#"Basic realm="r""#)),
    }
}

/// A registry and its token service. The registry wants the token issued last, and forgets it when
/// the first push comes if `forgetful`.
fn guarded_by_tokens(lifetime: u32, forgetful: bool) -> (Server, Server) {
    let issued = Arc::new(AtomicUsize::new(0));
    let counter = issued.clone();
    let service = Server::start(move |seen| match seen.header("authorization") {
        Some(BASIC) => {
            let token = counter.fetch_add(1, Ordering::SeqCst) + 1;
            let answer = format!(r#"{{"token": "t{token}", "expires_in": {lifetime}}}"#);
            Plan::Answer(reply(200).body(answer))
        }
        _ => Plan::Answer(reply(401)),
    });
    let challenge = format!(
        r#"Bearer realm="{}/token",service="reg istry",scope="repository:a/b:pull""#,
        service.url()
    );
    let registry = Server::start(move |seen| {
        let wanted = format!("Bearer t{}", issued.load(Ordering::SeqCst));
        let forgotten = forgetful && seen.method == "PUT" && seen.nth == 0;
        if seen.header("authorization") == Some(&*wanted) && !forgotten {
            generous(seen)
        } else {
            Plan::Early(reply(401).header("WWW-Authenticate", &challenge))
        }
    });
    (registry, service)
}

#[test]
fn answers_a_basic_challenge_and_then_needs_no_more() {
    let files = Files::new();
    let server = Server::start(guarded);
    push(&server, &files, with_password(&mut tool())).expect(0);
    let refused = |seen: &&Seen| seen.header("authorization").is_none();
    assert_eq!(server.seen().iter().filter(refused).count(), 1);
}

#[test]
fn fetches_a_token_for_pull_and_push() {
    let files = Files::new();
    let (registry, service) = guarded_by_tokens(300, false);
    let run = push(&registry, &files, with_password(&mut tool())).expect(0);
    assert!(!format!("{}{}", run.stdout, run.stderr).contains(PASSWORD));
    let asked = service.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0].target,
        "/token?service=reg+istry&scope=repository%3Aa%2Fb%3Apull%2Cpush&account=ann"
    );
    // The registry sees tokens only.
    assert!(
        registry
            .seen()
            .iter()
            .all(|seen| seen.header("authorization") != Some(BASIC))
    );
}

#[test]
fn fetches_another_token_when_one_expires() {
    let files = Files::new();
    // By its own lifetime, at once: renewed before each request.
    let (registry, service) = guarded_by_tokens(0, false);
    push(&registry, &files, with_password(&mut tool())).expect(0);
    assert!(service.seen().len() >= 3, "{}", service.seen().len());
    assert_eq!(registry.of("PUT").len(), 1);

    // Unexpectedly, when the push has begun.
    let (registry, service) = guarded_by_tokens(300, true);
    push(&registry, &files, with_password(&mut tool())).expect(0);
    assert_eq!(service.seen().len(), 2);
    let puts = registry.of("PUT");
    assert_eq!(puts.len(), 2);
    assert!(puts[0].body.is_empty());
    assert_eq!(puts[1].header("authorization"), Some("Bearer t2"));
}

#[test]
fn a_login_that_is_refused_is_named_and_not_repeated() {
    let files = Files::new();
    let server = Server::start(guarded);
    let mut wrong = tool();
    wrong
        .args(["--user", "bob"])
        .env("BLOBGATE_PASSWORD", PASSWORD);
    let run = push(&server, &files, &mut wrong).expect(1);
    assert!(
        run.stderr.contains("does not accept the login of bob"),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains(PASSWORD));
    assert_eq!(server.seen().len(), 2);

    let (registry, service) = guarded_by_tokens(300, false);
    let mut wrong = tool();
    wrong
        .args(["--user", "bob"])
        .env("BLOBGATE_PASSWORD", PASSWORD);
    let run = push(&registry, &files, &mut wrong).expect(1);
    assert_eq!(run.json()["error"]["kind"], "credentials");
    assert_eq!(service.seen().len(), 1);
}

#[test]
fn the_password_may_come_by_standard_input() {
    let files = Files::new();
    let server = Server::start(guarded);
    let file = files.write("f", "x");
    let mut child = tool()
        .args([&server.url(), "a/b", "--user=ann", "--password-stdin", "-q"])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{PASSWORD}").unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn takes_the_login_from_dockers_configuration() {
    let files = Files::new();
    let server = Server::start(guarded);
    let host = server.url().replace("http://", "");
    let auth = BASIC.trim_start_matches("Basic ");
    let config = format!(r#"{{"auths": {{"{host}": {{"auth": "{auth}"}}}}}}"#);
    let path = files.write("config.json", config);
    push(
        &server,
        &files,
        tool().env("DOCKER_CONFIG", path.parent().unwrap()),
    )
    .expect(0);

    // Another registry's login is none.
    files.write(
        "config.json",
        r#"{"auths": {"127.0.0.1:1": {"auth": "YTpi"}}}"#,
    );
    push(
        &server,
        &files,
        tool().env("DOCKER_CONFIG", path.parent().unwrap()),
    )
    .expect(1);
    let leaked = |seen: &Seen| seen.header("authorization") == Some("Basic YTpi");
    assert!(!server.seen().iter().any(leaked));
}

#[test]
fn a_token_file_is_read_again_when_its_token_is_refused() {
    let files = Files::new();
    let token = files.write("token", "old\n");
    let path = token.clone();
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some("Bearer new") => generous(seen),
        Some("Bearer old") => {
            std::fs::write(&path, "new").unwrap();
            Plan::Early(reply(401))
        }
        _ => Plan::Early(reply(401)),
    });
    push(&server, &files, tool().arg("--token-file").arg(token)).expect(0);

    let server = Server::start(|seen| match seen.header("authorization") {
        Some("Bearer fixed") => generous(seen),
        _ => Plan::Early(reply(401)),
    });
    push(&server, &files, tool().env("BLOBGATE_TOKEN", "fixed")).expect(0);
    let run = push(&server, &files, tool().env("BLOBGATE_TOKEN", "wrong")).expect(1);
    assert!(
        run.stderr.contains("does not accept the token"),
        "{}",
        run.stderr
    );
}

#[test]
fn credentials_stay_with_the_registry() {
    let files = Files::new();
    let elsewhere = Arc::new(Server::generous());
    let url = elsewhere.url();
    // Readers are sent to an object store, and sessions to another host.
    let server = Server::start(move |seen| {
        if seen.header("authorization") != Some(BASIC) {
            return guarded(seen);
        }
        Plan::Early(match seen.method.as_str() {
            "HEAD" => reply(307).header("Location", format!("{url}/store")),
            "POST" => reply(202).header("Location", format!("{url}/session")),
            "PUT" => reply(405),
            _ => reply(200),
        })
    });
    push(&server, &files, with_password(&mut tool())).expect(0);
    assert_eq!(elsewhere.of("HEAD").len(), 1);
    assert_eq!(elsewhere.of("PUT").len(), 1);
    let bare = |seen: &Seen| seen.header("authorization").is_none();
    assert!(elsewhere.seen().iter().all(bare));

    // A push is not redirected at all, and another host's challenge gets no answer.
    let elsewhere = Server::start(guarded);
    let url = elsewhere.url();
    let server = Server::start(move |seen| match seen.method.as_str() {
        "PUT" => Plan::Early(reply(307).header("Location", format!("{url}/blob"))),
        "HEAD" => Plan::Early(reply(307).header("Location", format!("{url}/store"))),
        _ => guarded(seen),
    });
    let run = push(&server, &files, with_password(&mut tool())).expect(1);
    let error = run.json()["blobs"][0]["error"].clone();
    assert!(
        error["message"].as_str().unwrap().contains("redirects"),
        "{error}"
    );
    assert!(elsewhere.of("PUT").is_empty());
    assert!(elsewhere.seen().iter().all(bare));
}

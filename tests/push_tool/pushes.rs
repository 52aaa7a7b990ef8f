//! Blobs: by digest, by upload session, again, and not at all.

use crate::server::{Plan, Seen, Server, generous, reply};
use crate::{Files, pattern, push, run, sha256, tool};
use std::time::Duration;

/// Large enough to be held back until the server asks for it, and to take several chunks.
const LARGE: usize = 3_000_001;

fn on_put(plan: impl Fn(&Seen) -> Plan + Send + Sync + 'static) -> Server {
    Server::start(move |seen| match seen.method.as_str() {
        "PUT" => plan(seen),
        _ => generous(seen),
    })
}

#[test]
fn pushes_by_digest_what_is_not_there() {
    let files = Files::new();
    for len in [0, 10, LARGE] {
        let bytes = pattern(len);
        let server = Server::generous();
        let report = push(&server, &[&files.write("f", &bytes)], &[])
            .expect(0)
            .json();
        assert_eq!(report["ok"], true);
        assert_eq!(report["blobs"][0]["outcome"], "pushed");
        assert_eq!(report["blobs"][0]["digest"], sha256(&bytes));
        assert_eq!(report["total"]["pushed_bytes"], len);

        let put = &server.of("PUT")[0];
        assert_eq!(put.target, format!("/v2/a/b/blobs/{}", sha256(&bytes)));
        assert_eq!(put.header("content-length"), Some(&*len.to_string()));
        assert!(put.body == bytes, "{len}");
        assert!(server.of("POST").is_empty());
    }
}

#[test]
fn pushes_by_sha512_and_once_where_files_are_the_same() {
    let files = Files::new();
    let (one, two) = (files.write("1", "same"), files.write("2", "same"));
    let server = Server::start(|seen| match (seen.method.as_str(), seen.nth) {
        ("HEAD", 1..) => Plan::Answer(reply(200)),
        _ => generous(seen),
    });
    let report = push(&server, &[&one, &two], &["--digest=sha512"])
        .expect(0)
        .json();
    assert!(
        report["blobs"][0]["digest"]
            .as_str()
            .unwrap()
            .starts_with("sha512:")
    );
    assert_eq!(server.of("PUT").len(), 1);
    assert_eq!(report["total"]["pushed"], 1);
    assert_eq!(report["total"]["already_there"], 1);
}

#[test]
fn a_blob_that_is_there_costs_no_transfer() {
    let files = Files::new();
    let file = files.write("f", pattern(LARGE));
    let server = Server::start(|_| Plan::Answer(reply(200)));
    let report = push(&server, &[&file], &[]).expect(0).json();
    assert_eq!(report["blobs"][0]["outcome"], "already_there");
    assert!(server.of("PUT").is_empty());

    // Known only once it is pushed: the server accepts instead of asking for the body.
    let server = on_put(|_| Plan::Early(reply(201)));
    let report = push(&server, &[&file], &[]).expect(0).json();
    assert_eq!(report["blobs"][0]["outcome"], "already_there");
    assert_eq!(server.of("PUT")[0].header("expect"), Some("100-continue"));
}

#[test]
fn a_server_that_never_asks_for_the_body_gets_it_all_the_same() {
    let files = Files::new();
    let bytes = pattern(LARGE);
    let server = on_put(|_| Plan::Silent(reply(201)));
    push(&server, &[&files.write("f", &bytes)], &[]).expect(0);
    assert!(server.of("PUT")[0].body == bytes);

    let server = on_put(|seen| match seen.header("expect") {
        Some(_) => Plan::Early(reply(417)),
        None => Plan::Answer(reply(201)),
    });
    push(&server, &[&files.write("f", &bytes)], &[]).expect(0);
    assert!(server.of("PUT")[1].body == bytes);
}

#[test]
fn comes_back_when_the_server_says_so() {
    let files = Files::new();
    let bytes = pattern(LARGE);
    let server = on_put(|seen| match seen.nth {
        0 => Plan::Early(reply(503).header("Retry-After", "1")),
        1 => Plan::Answer(reply(429).header("Retry-After", "1")),
        _ => Plan::Answer(reply(201)),
    });
    let run = push(&server, &[&files.write("f", &bytes)], &[]).expect(0);
    assert!(run.took >= Duration::from_secs(2), "{:?}", run.took);
    assert!(run.stderr.contains("retrying"), "{}", run.stderr);
    assert_eq!(server.of("PUT").len(), 3);
    assert!(server.of("PUT")[2].body == bytes);
}

#[test]
fn begins_again_after_a_reset_in_mid_body() {
    let files = Files::new();
    let bytes = pattern(20 * LARGE);
    let server = on_put(|seen| match (seen.nth, seen.header("content-length")) {
        (0, _) => Plan::Reset,
        // Whether the server takes pushes by digest at all: it does, but not this one.
        (_, Some("0")) => Plan::Answer(reply(400).error("DIGEST_INVALID", "no match")),
        _ => Plan::Answer(reply(201)),
    });
    let report = push(&server, &[&files.write("f", &bytes)], &[])
        .expect(0)
        .json();
    assert_eq!(report["blobs"][0]["outcome"], "pushed");
    assert!(server.of("PUT").last().unwrap().body == bytes);
    assert!(server.of("POST").is_empty());
}

#[test]
fn gives_up_after_its_retries() {
    let files = Files::new();
    let file = files.write("f", "x");
    let server = on_put(|_| Plan::Answer(reply(500).error("UNKNOWN", "bucket on fire")));
    let report = push(&server, &[&file], &["--retries=1"]).expect(1).json();
    assert_eq!(server.of("PUT").len(), 2);
    let error = &report["blobs"][0]["error"];
    assert_eq!(error["status"], 500);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("gave up after 2 attempts"), "{message}");
    assert!(message.contains("bucket on fire"), "{message}");
}

#[test]
fn what_will_never_succeed_is_tried_once_and_explained() {
    let files = Files::new();
    let file = files.write("f", pattern(LARGE));
    for (status, code, advice) in [
        (400, "DIGEST_INVALID", "alters the data"),
        (401, "UNAUTHORIZED", "log in"),
        (403, "DENIED", "may not push"),
        (404, "NAME_UNKNOWN", "no such repository"),
        (405, "UNSUPPORTED", "read-only"),
        (413, "SIZE_INVALID", "limits the size"),
    ] {
        let server = on_put(move |_| Plan::Early(reply(status).error(code, "the\u{1b} reason")));
        let run = push(&server, &[&file], &["--fallback=never"]).expect(1);
        let error = run.json()["blobs"][0]["error"].clone();
        assert_eq!(error["status"], status);
        assert_eq!(error["codes"][0], code);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(advice), "{message}");
        assert!(message.contains("the  reason"), "{message:?}");
        assert_eq!(server.of("PUT").len(), 1, "{status}");
    }
}

#[test]
fn a_file_that_changes_is_named_as_the_cause() {
    let files = Files::new();
    let file = files.write("f", pattern(LARGE));
    let path = file.clone();
    // The body is held back until the server asks: the change comes in between.
    let server = on_put(move |_| {
        std::fs::write(&path, pattern(LARGE + 1)).unwrap();
        Plan::Answer(reply(201))
    });
    let report = push(&server, &[&file], &[]).expect(1).json();
    assert_eq!(report["blobs"][0]["error"]["kind"], "changed");
    assert_eq!(server.of("PUT").len(), 1);
}

#[test]
fn one_failure_does_not_stop_the_others() {
    let files = Files::new();
    let missing = files.0.path().join("missing");
    let server = Server::generous();
    let report = push(&server, &[&missing, &files.write("f", "x")], &[])
        .expect(1)
        .json();
    assert_eq!(report["blobs"][0]["error"]["kind"], "file");
    assert_eq!(report["blobs"][1]["outcome"], "pushed");
    assert_eq!(report["ok"], false);
}

/// A registry without push by digest.
fn plain(seen: &Seen) -> Plan {
    match (seen.method.as_str(), seen.target.as_str()) {
        ("POST", _) => {
            let location = "/v2/a/b/blobs/uploads/1?_state=x%2By%3D";
            Plan::Answer(reply(202).header("Location", location))
        }
        ("PUT", target) if !target.contains("/uploads/") => Plan::Early(reply(405)),
        _ => generous(seen),
    }
}

#[test]
fn falls_back_to_upload_sessions_and_says_so_once() {
    let files = Files::new();
    let bytes = [pattern(LARGE), pattern(5), pattern(LARGE + 1)];
    let paths = [0, 1, 2].map(|i| files.write(&i.to_string(), &bytes[i]));
    let server = Server::start(plain);
    let run = push(
        &server,
        &paths.each_ref().map(|p| p.as_path()),
        &["--jobs=2"],
    )
    .expect(0);
    assert_eq!(
        run.stderr.matches("no blobgate").count(),
        1,
        "{}",
        run.stderr
    );
    let puts = server.of("PUT");
    for bytes in &bytes {
        let digest = sha256(bytes).replace(':', "%3A");
        let target = format!("/v2/a/b/blobs/uploads/1?_state=x%2By%3D&digest={digest}");
        let put = puts.iter().find(|put| put.target == target).unwrap();
        assert!(put.body == *bytes);
    }
}

#[test]
fn recognises_a_plain_registry_that_resets_instead_of_answering() {
    let files = Files::new();
    let bytes = pattern(20 * LARGE);
    let server = Server::start(|seen| match seen.method.as_str() {
        "PUT" if seen.target.contains("/uploads/") => Plan::Answer(reply(201)),
        "PUT" if seen.header("content-length") != Some("0") => Plan::Reset,
        _ => plain(seen),
    });
    push(&server, &[&files.write("f", &bytes)], &["--retries=0"]).expect(0);
    assert!(server.of("PUT").last().unwrap().body == bytes);
}

#[test]
fn always_and_never_fall_back_on_demand() {
    let files = Files::new();
    let file = files.write("f", "x");
    let server = Server::start(plain);
    push(&server, &[&file], &["--fallback=always"]).expect(0);
    assert_eq!(server.of("PUT").len(), 1);
    push(&server, &[&file], &["--fallback=never"]).expect(1);
    assert_eq!(server.of("POST").len(), 1);
}

#[test]
fn a_stalled_server_is_given_up() {
    let files = Files::new();
    let server = on_put(|_| {
        std::thread::sleep(Duration::from_secs(60));
        Plan::Early(reply(201))
    });
    let options = ["--stall-timeout=1s", "--retries=0"];
    let run = push(&server, &[&files.write("f", "x")], &options).expect(1);
    assert_eq!(run.json()["blobs"][0]["error"]["kind"], "stalled");
}

#[test]
fn the_summary_for_people_names_what_happened() {
    let files = Files::new();
    let server = Server::generous();
    let file = files.write("f", "x");
    let run = run(tool().args([&server.url(), "a/b"]).arg(&file)).expect(0);
    assert!(run.stdout.starts_with("pushed "), "{}", run.stdout);
    assert!(run.stdout.contains(&sha256(b"x")), "{}", run.stdout);
    assert!(
        run.stdout
            .contains("total: 1 pushed (1 B), 0 already there"),
        "{}",
        run.stdout
    );
}

#[test]
fn wrong_usage_is_told_apart_from_failure() {
    for arguments in [
        &["http://127.0.0.1:1", "a/b"][..],
        &["http://127.0.0.1:1", "A", "f"],
        &["http://ann:secret@127.0.0.1:1", "a", "f"],
        &["http://127.0.0.1:1", "a", "f", "--tag=x"],
        &["http://127.0.0.1:1", "a", "f", "--user=ann"],
        &["http://127.0.0.1:1", "a", "f", "--ca-file=/none"],
        &["http://127.0.0.1:1", "a", "f", "--token-file=/none"],
    ] {
        let run = run(tool().args(arguments)).expect(2);
        assert!(!run.stderr.contains("secret"), "{}", run.stderr);
    }
    let nobody = ["http://127.0.0.1:1", "a", "f", "--retries=0", "--json"];
    let report = run(tool().args(nobody)).expect(1).json();
    assert_eq!(report["error"]["kind"], "connection");
}

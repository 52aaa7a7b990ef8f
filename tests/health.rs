//! Health as a supervisor and a load balancer see it.
#![forbid(unsafe_code)]

mod common;

use blobgate_testkit::faults::{Fault, Gate, Rule};
use blobgate_testkit::stack::Stack;
use common::*;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn ready(stack: &Stack) -> (u16, Value) {
    let url = format!("{}/readyz", stack.blobgate().admin_url());
    let answer = client().get(url).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Waits until the reasons are about these, and returns the first.
async fn until_unready(stack: &Stack, about: &[&str]) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, said) = ready(stack).await;
        let reasons = said["reasons"].as_array().unwrap();
        let what: Vec<&str> = reasons
            .iter()
            .filter_map(|it| it["what"].as_str())
            .collect();
        assert_eq!(status == 200, what.is_empty(), "{said}");
        assert_eq!(said["ready"], what.is_empty());
        let why = reasons.first().and_then(|it| it["why"].as_str());
        if what == about && why != Some("not checked yet") {
            return why.unwrap_or_default().to_owned();
        }
        assert!(Instant::now() < deadline, "{about:?}: {said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn readiness_follows_upstream_and_bucket() {
    let mut stack = stack()
        .registry_faults()
        .config("admin.check_interval", "1s")
        .start()
        .unwrap();
    until_unready(&stack, &[]).await;

    let gate = Gate::new();
    let held = Fault::HoldBefore(gate.clone());
    stack.s3_faults().add(Rule::on("HeadBucket", held));
    gate.reached(1).await;
    // Not asked in line: the check under way is not waited for.
    assert_eq!(
        ready(&stack).await,
        (200, json!({"ready": true, "reasons": []}))
    );
    stack.s3_faults().clear();
    let denied = Fault::Status {
        status: 403,
        code: "AccessDenied".to_owned(),
    };
    stack.s3_faults().add(Rule::on("HeadBucket", denied));
    gate.release();
    let why = until_unready(&stack, &["bucket"]).await;
    assert!(why.contains("s3:ListBucket"), "{why}");
    let log = stack.blobgate().log();
    assert!(
        log.contains("the bucket cannot be used, so pushes will fail"),
        "{log}"
    );
    stack.s3_faults().clear();
    until_unready(&stack, &[]).await;

    stack.kill_registry();
    until_unready(&stack, &["upstream"]).await;
    let alive = format!("{}/livez", stack.blobgate().admin_url());
    assert_eq!(client().get(alive).send().await.unwrap().status(), 200);
    stack.restart_registry().unwrap();
    until_unready(&stack, &[]).await;
}

#[tokio::test]
async fn unchecked_it_is_ready_at_once() {
    let stack = stack()
        .config("admin.check_interval", "off")
        .start()
        .unwrap();
    assert_eq!(ready(&stack).await.0, 200);
}

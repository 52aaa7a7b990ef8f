//! The metrics as promtool and a real Prometheus server see them.
#![forbid(unsafe_code)]

mod common;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::faults::{Fault, Gate, Rule};
use blobgate_testkit::prometheus::{Prometheus, promtool};
use blobgate_testkit::stack::Stack;
use common::*;
use serde_json::Value;
use std::time::Instant;

/// One push of each kind that needs no waiting: stored, existing, linked, and of another body.
async fn push_all_kinds(stack: &Stack) {
    let blob = Blob::new(1, 2 * PART + 1);
    assert_eq!(push(stack, "a", blob).await.status(), 201);
    assert_eq!(push(stack, "a", blob).await.status(), 201);
    assert_eq!(push(stack, "b", blob).await.status(), 201);
    let wrong = Blob::new(2, 1000).sha256();
    let refused = put(stack, "a", &wrong, Blob::new(3, 1000).bytes()).await;
    assert_eq!(refused.status(), 400);
}

#[tokio::test]
async fn promtool_has_nothing_to_say() {
    let stack = stack().start().unwrap();
    push_all_kinds(&stack).await;
    assert_served(
        &stack,
        "a",
        &Blob::new(1, 2 * PART + 1).sha256(),
        &Blob::new(1, 2 * PART + 1).bytes(),
    )
    .await;
    let page = stack.blobgate().metrics_page().unwrap();
    let (content, said) = promtool(&["check", "metrics"], &page).unwrap();
    assert!(content && said.is_empty(), "{said}");

    // It would have said so.
    let (content, said) =
        promtool(&["check", "metrics"], "# TYPE a_total gauge\na_total 1\n").unwrap();
    assert!(!content && !said.is_empty());
}

#[tokio::test]
async fn bytes_and_time_are_counted_where_they_belong() {
    let stack = stack().start().unwrap();
    push_all_kinds(&stack).await;
    let metrics = stack.blobgate().metrics().unwrap();
    let size = (2 * PART + 1) as f64;
    assert_eq!(metrics["blobgate_uploaded_bytes_total"], size);
    assert_eq!(metrics["blobgate_deduplicated_bytes_total"], 2.0 * size);
    assert_eq!(
        metrics["blobgate_received_bytes_total"],
        3.0 * size + 1000.0
    );

    let phase = |name: &str| {
        metrics[&format!("blobgate_push_phase_duration_seconds_count{{phase=\"{name}\"}}")]
    };
    assert_eq!(phase("authorise"), 4.0);
    // What is in the bucket takes no slot.
    assert_eq!(phase("admission"), 2.0);
    assert_eq!(phase("client"), 4.0);
    assert_eq!(phase("store"), 1.0);
    // The one that exists has nothing to commit, the one that is wrong must not.
    assert_eq!(phase("commit"), 2.0);
    assert_eq!(phase("answer"), 4.0);
    assert_eq!(metrics["blobgate_push_duration_seconds_count"], 4.0);

    assert_eq!(metrics["blobgate_part_uploads_total{outcome=\"ok\"}"], 3.0);
    assert_eq!(metrics["blobgate_part_upload_attempts_sum"], 3.0);
    assert_eq!(metrics["blobgate_part_upload_duration_seconds_count"], 3.0);
    let completed = "{operation=\"CompleteMultipartUpload\",outcome=\"ok\"}";
    assert_eq!(
        metrics[&format!("blobgate_store_call_duration_seconds_count{completed}")],
        1.0
    );
}

#[tokio::test]
async fn a_part_that_is_sent_again_counts_its_attempts() {
    let stack = stack().start().unwrap();
    stack
        .s3_faults()
        .add(Rule::on("UploadPart", Fault::ResetAfter(1000)).nth(1));
    assert_eq!(
        push(&stack, "a", Blob::new(1, 2 * PART)).await.status(),
        201
    );
    let metrics = stack.blobgate().metrics().unwrap();
    assert_eq!(metrics["blobgate_part_uploads_total{outcome=\"ok\"}"], 2.0);
    assert_eq!(metrics["blobgate_part_upload_attempts_sum"], 3.0);
    let failed = "{operation=\"UploadPart\",outcome=\"failed\"}";
    assert_eq!(
        metrics[&format!("blobgate_store_call_duration_seconds_count{failed}")],
        1.0
    );
}

#[tokio::test]
async fn forwarded_requests_are_counted_by_method() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 1000);
    assert_eq!(push(&stack, "a", blob).await.status(), 201);
    assert_served(&stack, "a", &blob.sha256(), &blob.bytes()).await;
    let answer = client()
        .request("WHATEVER".parse().unwrap(), stack.blobgate().url() + "/v2/")
        .send()
        .await
        .unwrap();
    assert!(!answer.status().is_server_error(), "{}", answer.status());
    let blobgate = stack.blobgate();
    // Counted once the answer is gone, which its reader may notice first.
    until_metric(
        blobgate,
        "blobgate_forwarded_request_duration_seconds_count{method=\"other\"}",
        |count| count == 1.0,
    )
    .await;
    let read = "blobgate_forwarded_requests_total{method=\"read\",status=\"2xx\"}";
    assert_eq!(metric(blobgate, read), 1.0);
    until_metric(
        blobgate,
        "blobgate_forwarded_sent_bytes_total{method=\"read\"}",
        |bytes| bytes == 1000.0,
    )
    .await;
    assert_eq!(
        metric(
            blobgate,
            "blobgate_forwarded_received_bytes_total{method=\"read\"}"
        ),
        0.0
    );
}

/// The value of the one series that the query gives.
async fn query(prometheus: &Prometheus, query: &str) -> Option<f64> {
    let url = reqwest::Url::parse_with_params(
        &format!("{}/api/v1/query", prometheus.url()),
        [("query", query)],
    );
    let answer: Value = client()
        .get(url.unwrap())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    let series = answer["data"]["result"].as_array().unwrap();
    assert!(series.len() < 2, "{query}: {answer}");
    series.first()?["value"][1].as_str()?.parse().ok()
}

/// Waits until the next scrape makes it so.
async fn until(prometheus: &Prometheus, expression: &str) {
    let deadline = Instant::now() + PATIENCE;
    while query(prometheus, expression).await.is_none() {
        assert!(Instant::now() < deadline, "never: {expression}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn prometheus_scrapes_a_running_blobgate() {
    let stack = stack().config("upload.max_streaming", 1).start().unwrap();
    let target = stack.blobgate().admin_address();
    let prometheus = Prometheus::start(&stack.dir().join("prometheus"), target).unwrap();
    push_all_kinds(&stack).await;

    let gate = Gate::new();
    stack
        .s3_faults()
        .add(Rule::on("UploadPart", Fault::HoldBefore(gate.clone())));
    let pushes = async {
        tokio::join!(
            push(&stack, "a", Blob::new(10, 2 * PART)),
            push(&stack, "a", Blob::new(11, 2 * PART)),
        )
    };
    let watching = async {
        until(&prometheus, "blobgate_uploads_streaming == 1").await;
        until(&prometheus, "blobgate_uploads_waiting == 1").await;
        until(&prometheus, "blobgate_memory_budget_used_bytes > 0").await;
        gate.release();
    };
    let ((first, second), ()) = tokio::join!(pushes, watching);
    assert_eq!([first.status(), second.status()], [201, 201]);

    for (outcome, count) in [
        ("stored", 3),
        ("existing", 1),
        ("linked", 1),
        ("digest_mismatch", 1),
    ] {
        until(
            &prometheus,
            &format!("blobgate_pushes_total{{outcome=\"{outcome}\"}} == {count}"),
        )
        .await;
    }
    for expression in [
        "up{job=\"blobgate\"} == 1",
        "blobgate_build_info == 1",
        "blobgate_push_client_wait_seconds_total > 0",
        "blobgate_push_store_wait_seconds_total > 0",
        "blobgate_push_phase_duration_seconds_count{phase=\"admission\"} == 4",
        "histogram_quantile(0.9, blobgate_push_phase_duration_seconds_bucket{phase=\"commit\"}) > 0",
        "blobgate_uploads_streaming == 0",
        "blobgate_memory_budget_used_bytes == 0",
    ] {
        until(&prometheus, expression).await;
    }

    let url = format!("{}/api/v1/label/__name__/values", prometheus.url());
    let names: Value = client()
        .get(url)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let known: Vec<&str> = names["data"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut documented = 0;
    for row in include_str!("../docs/METRICS.md").lines() {
        let Some((name, rest)) = row
            .strip_prefix("| `")
            .and_then(|row| row.split_once("` | "))
        else {
            continue;
        };
        if !name.starts_with("blobgate_") {
            continue;
        }
        let suffix = if rest.starts_with("histogram") {
            "_bucket"
        } else {
            ""
        };
        let series = format!("{name}{suffix}");
        assert!(known.contains(&series.as_str()), "{series}");
        documented += 1;
    }
    assert!(documented > 25, "{documented}");
}

//! A store that asks for less gets less.

use super::*;
use blobgate_testkit::faults::Gate;

#[tokio::test]
async fn slow_down_halves_the_parts_in_flight() {
    let stack = stack()
        .config("upload.part_concurrency", 4)
        .config("upload.max_part_concurrency", 4)
        .start()
        .unwrap();
    let blob = Blob::new(1, 6 * PART);
    let gate = Gate::new();
    stack
        .s3_faults()
        .add(FIRST_PART.rule(status(503, "SlowDown")).nth(1));
    stack
        .s3_faults()
        .add(Rule::on("UploadPart", Fault::HoldBefore(gate.clone())));

    let mut connection = connect(&stack).await;
    let head = announced_head("a", &blob.sha256(), blob.size);
    connection.send(head).await.unwrap();
    let content = blob.bytes();
    // Past the first part, so that it is known not to be the last and goes out.
    let (before, after) = content.split_at(PART as usize + 1);
    connection.send(before).await.unwrap();
    stack
        .blobgate()
        .wait_for_log("UploadPart of", PATIENCE)
        .unwrap();

    // From here on two parts may be in flight: the first, which waits to be sent again, and the
    // second, which waits at the gate.
    let parts = |calls: &[blobgate_testkit::faults::Record]| -> Vec<char> {
        let parts = calls.iter().filter(|call| call.operation == "UploadPart");
        let number = |target: &str| target.split("partNumber=").nth(1)?.chars().next();
        parts.filter_map(|part| number(&part.target)).collect()
    };
    let answer = async {
        connection.send(after).await.unwrap();
        connection.response().await.unwrap()
    };
    let watch = async {
        gate.reached(2).await;
        let seen = parts(&stack.s3_faults().records());
        assert!(
            seen == ['1', '2', '1'] || seen == ['1', '1', '2'],
            "{seen:?}"
        );
        gate.release();
    };
    let (answer, ()) = tokio::join!(answer, watch);
    assert_eq!(answer.status, 201);
    assert_all_free(&stack);
    assert_whole(&stack, blob).await;
    let metrics = stack.blobgate().metrics().unwrap();
    let name = "blobgate_store_retries_total{fault=\"throttled\",operation=\"UploadPart\"}";
    assert_eq!(metrics[name], 1.0);
}

/// The wish to be left alone is granted where it fits into the budget, else the push fails at once.
#[tokio::test]
async fn a_wish_that_does_not_fit_is_an_answer_at_once() {
    let stack = stack()
        .config("bucket.retry_budget", "30s")
        .start()
        .unwrap();
    let blob = Blob::new(1, LARGE);
    stack.s3_faults().add(MIDDLE_PART.rule(come_in_an_hour()));
    let (status, code, _) = error_of(push(&stack, "a", blob).await).await;
    assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"));
    assert_eq!(MIDDLE_PART.calls(&stack, blob), 1);
    stack.s3_faults().finished("AbortMultipartUpload", 1).await;
    assert_bucket_empty(&stack);
    assert_all_free(&stack);
}

/// A store that throttles for a while delays a push, whatever number of attempts it takes.
#[tokio::test]
async fn a_push_outlasts_a_store_that_asks_for_less() {
    const REFUSALS: u64 = 3;
    let stack = stack().config("bucket.max_attempts", 2).start().unwrap();
    let blob = Blob::new(1, LARGE);
    for nth in 1..=REFUSALS {
        stack
            .s3_faults()
            .add(MIDDLE_PART.rule(status(503, "SlowDown")).nth(nth));
    }
    assert_eq!(push(&stack, "a", blob).await.status(), 201);
    assert_eq!(MIDDLE_PART.calls(&stack, blob), REFUSALS as usize + 1);
    assert_whole(&stack, blob).await;
    assert_all_free(&stack);
}

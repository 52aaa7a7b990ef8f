//! Calls that are never answered end at a bound in time, and are made again.

use super::*;
use blobgate_testkit::stack::StackBuilder;

/// Bounds short enough for a test. A call that a busy machine makes pass them is made again, like
/// those that are meant to.
fn impatient() -> StackBuilder {
    stack()
        .config("bucket.idle_timeout", "1s")
        .config("bucket.call_timeout", "20s")
        .config("bucket.max_attempts", 3)
        .config("upstream.probe_timeout", "60s")
}

fn hanging() -> [Fault; 3] {
    [
        Fault::Hang { effect: false },
        Fault::Hang { effect: true },
        Fault::HangBody,
    ]
}

async fn hangs_once(points: &[Point]) {
    let stack = impatient().start().unwrap();
    let cases = points
        .iter()
        .flat_map(|&point| hanging().map(|fault| (point, fault)));
    for (seed, (point, fault)) in cases.enumerate() {
        let blob = Blob::new(seed as u64, point.size);
        stack.s3_faults().clear();
        stack.s3_faults().add(point.rule(fault.clone()).nth(1));
        let answer = push(&stack, "a", blob).await;
        assert_eq!(answer.status(), 201, "{point:?} {fault:?}");
        assert_all_free(&stack);
        assert_served(&stack, "a", &blob.sha256(), &blob.bytes()).await;
        let lost = point.operation == "CreateMultipartUpload"
            && matches!(fault, Fault::Hang { effect: true });
        assert_eq!(open_uploads_of(&stack, blob).len(), usize::from(lost));
    }
}

#[tokio::test]
async fn questions_and_openings_that_hang_once() {
    hangs_once(&[HEAD, CREATE, COMPLETE]).await;
}

#[tokio::test]
async fn parts_that_hang_once() {
    hangs_once(&[FIRST_PART, MIDDLE_PART, LAST_PART]).await;
}

#[tokio::test]
async fn objects_that_hang_once() {
    hangs_once(&[LINK, SMALL_DATA, SMALL_LINK]).await;
}

#[tokio::test]
async fn calls_that_hang_for_good() {
    let stack = impatient()
        .config("bucket.max_attempts", 2)
        .start()
        .unwrap();
    let mut aborts = 0;
    for (seed, (point, expected, aborted)) in [
        (HEAD, 503, false),
        (CREATE, 500, false),
        (MIDDLE_PART, 500, true),
        (COMPLETE, 500, true),
        (LINK, 500, false),
        (SMALL_DATA, 500, false),
    ]
    .into_iter()
    .enumerate()
    {
        let blob = Blob::new(seed as u64, point.size);
        stack.s3_faults().clear();
        stack
            .s3_faults()
            .add(point.rule(Fault::Hang { effect: false }));
        let (status, _, _) = error_of(push(&stack, "a", blob).await).await;
        assert_eq!(status, expected, "{point:?}");
        assert_all_free(&stack);
        if aborted {
            aborts += 1;
            stack
                .s3_faults()
                .finished("AbortMultipartUpload", aborts)
                .await;
        }
        assert_eq!(open_uploads_of(&stack, blob), [], "{point:?}");
        assert_absent(&stack, "a", &blob.sha256()).await;
    }
}

/// A call that goes on and on, but slowly, is bounded as a whole.
#[tokio::test]
async fn a_slow_call_is_bounded_as_a_whole() {
    let stack = stack()
        .config("bucket.call_timeout", "2s")
        .config("bucket.max_attempts", 5)
        .start()
        .unwrap();
    let blob = Blob::new(1, LARGE);
    let fault = Fault::Delay(std::time::Duration::from_secs(3600));
    stack.s3_faults().add(MIDDLE_PART.rule(fault).nth(1));
    assert_eq!(push(&stack, "a", blob).await.status(), 201);
    assert_whole(&stack, blob).await;
}

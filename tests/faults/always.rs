//! A call that fails for good: the client hears so, nothing is left, and the next push succeeds.

use super::*;

const ATTEMPTS: usize = 2;

struct Lasting {
    fault: Fault,
    status: u16,
    code: &'static str,
    attempts: usize,
}

/// Faults without effect, what the client hears of them, and how often the call is made.
fn lasting(point: Point) -> Vec<Lasting> {
    let lasting = |fault, status, code, attempts| Lasting {
        fault,
        status,
        code,
        attempts,
    };
    let failed = |fault, attempts| lasting(fault, 500, "UNKNOWN", attempts);
    let mut all = vec![
        failed(status(500, "InternalError"), ATTEMPTS),
        failed(Fault::ResetAfter(0), ATTEMPTS),
        // Asked to come later, a call is bounded by time alone; and for this there is none.
        lasting(come_in_an_hour(), 503, "UNAVAILABLE", 1),
        failed(status(403, "AccessDenied"), 1),
        failed(status(400, "EntityTooSmall"), 1),
        failed(status(404, "NoSuchBucket"), 1),
    ];
    if point.operation == "HeadObject" {
        // A HEAD's answer has no body to say NoSuchBucket.
        all.truncate(5);
        for one in &mut all {
            (one.status, one.code) = (503, "UNAVAILABLE");
        }
    } else {
        all.push(failed(bare_ok(), ATTEMPTS));
        let lie = Fault::OkWithErrorBody {
            code: "InternalError".into(),
            effect: false,
        };
        all.push(failed(lie, ATTEMPTS));
    }
    all
}

/// `aborted`: whether a multipart upload is open when the call fails. `left`: the most that may lie
/// in the bucket afterwards.
async fn fails(point: Point, aborted: bool, left: &[fn(&str) -> String]) {
    let stack = stack()
        .config("bucket.max_attempts", ATTEMPTS as u64)
        .start()
        .unwrap();
    for (nth, case) in lasting(point).into_iter().enumerate() {
        let blob = Blob::new(nth as u64, point.size);
        let digest = blob.sha256();
        let what = format!("{point:?} {:?}", case.fault);
        stack.s3_faults().clear();
        stack.s3_faults().add(point.rule(case.fault));

        let answer = push(&stack, "a", blob).await;
        assert_all_free(&stack);
        let again = answer.headers().contains_key("retry-after");
        let (status, code, _) = error_of(answer).await;
        assert_eq!((status, code.as_str()), (case.status, case.code), "{what}");
        assert_eq!(again, status == 503, "{what}");
        assert_eq!(point.calls(&stack, blob), case.attempts, "{what}");

        if aborted {
            let aborts = stack
                .s3_faults()
                .finished("AbortMultipartUpload", nth as u64 + 1);
            aborts.await;
        }
        assert_eq!(open_uploads_of(&stack, blob), [], "{what}");
        let allowed: Vec<String> = left.iter().map(|key| key(&digest)).collect();
        let found = objects_of(&stack, &digest);
        assert!(
            found.iter().all(|key| allowed.contains(key)),
            "{what}: {found:?}"
        );
        assert_absent(&stack, "a", &digest).await;

        stack.s3_faults().clear();
        assert_eq!(push(&stack, "a", blob).await.status(), 201, "{what}");
        assert_whole(&stack, blob).await;
    }
    let failures = if point.operation == "HeadObject" {
        pushes(&stack, "unauthorisable")
    } else {
        pushes(&stack, "store_failed")
    };
    assert_eq!(failures, lasting(point).len() as f64);
    assert_eq!(
        metric(stack.blobgate(), "blobgate_multipart_aborts_failed_total"),
        0.0
    );
}

fn link_in_a(digest: &str) -> String {
    link_key("a", digest)
}

#[tokio::test]
async fn head_fails() {
    fails(HEAD, false, &[]).await;
}

#[tokio::test]
async fn create_fails() {
    fails(CREATE, false, &[]).await;
}

#[tokio::test]
async fn the_first_part_fails() {
    fails(FIRST_PART, true, &[]).await;
}

#[tokio::test]
async fn a_middle_part_fails() {
    fails(MIDDLE_PART, true, &[]).await;
}

#[tokio::test]
async fn the_last_part_fails() {
    fails(LAST_PART, true, &[]).await;
}

#[tokio::test]
async fn complete_fails() {
    fails(COMPLETE, true, &[]).await;
}

/// The data is verified and there; the next push proves to have it and writes the link.
#[tokio::test]
async fn the_link_fails() {
    fails(LINK, false, &[data_key]).await;
}

#[tokio::test]
async fn a_small_blobs_data_fails() {
    fails(SMALL_DATA, false, &[link_in_a]).await;
}

#[tokio::test]
async fn a_small_blobs_link_fails() {
    fails(SMALL_LINK, false, &[data_key]).await;
}

/// Broken data under the digest is not to be opened by the link of a push that failed to replace it.
#[tokio::test]
async fn no_link_is_written_to_data_that_was_not_replaced() {
    let stack = stack().start().unwrap();
    for point in [SMALL_DATA, COMPLETE] {
        let blob = Blob::new(1, point.size);
        let digest = blob.sha256();
        let key = data_key(&digest);
        stack.s3().put_object(BUCKET, &key, &b"broken"[..]);
        stack.s3_faults().clear();
        stack
            .s3_faults()
            .add(point.rule(status(403, "AccessDenied")));
        assert_eq!(push(&stack, "a", blob).await.status(), 500, "{point:?}");
        assert_eq!(LINK.calls(&stack, blob), 0, "{point:?}");
        assert_eq!(objects_of(&stack, &digest), [key]);
        assert_absent(&stack, "a", &digest).await;

        stack.s3_faults().clear();
        assert_eq!(push(&stack, "a", blob).await.status(), 201, "{point:?}");
        assert_served(&stack, "a", &digest, &blob.bytes()).await;
    }
}

/// An ETag that is not the part's: S3 takes no such list of parts.
#[tokio::test]
async fn a_wrong_etag_of_a_part_fails() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, LARGE);
    for e_tag in ["\"0123456789abcdef\"", "\"ü\"", "<&>"] {
        let lie = Fault::Answer {
            status: 200,
            headers: vec![("ETag".into(), e_tag.into())],
            body: Bytes::new(),
        };
        stack.s3_faults().clear();
        stack.s3_faults().add(MIDDLE_PART.rule(lie));
        let (status, code, error) = error_of(push(&stack, "a", blob).await).await;
        assert_eq!((status, code.as_str()), (500, "UNKNOWN"), "{e_tag}");
        assert_eq!(error["detail"]["operation"], "CompleteMultipartUpload");
    }
    stack.s3_faults().finished("AbortMultipartUpload", 3).await;
    assert_bucket_empty(&stack);
}

//! An abort that fails never hides why the push failed.

use super::*;

/// A push whose middle part is refused, and what its client hears.
async fn refused_push(stack: &Stack, blob: Blob) {
    stack
        .s3_faults()
        .add(MIDDLE_PART.rule(status(403, "AccessDenied")));
    let (status, code, error) = error_of(push(stack, "a", blob).await).await;
    assert_eq!((status, code.as_str()), (500, "UNKNOWN"));
    assert_eq!(error["detail"]["operation"], "UploadPart");
    assert_eq!(error["detail"]["fault"], "denied");
    assert_all_free(stack);
}

#[tokio::test]
async fn an_abort_that_fails_once_is_made_again() {
    let stack = stack().config("bucket.idle_timeout", "1s").start().unwrap();
    let passing = [
        status(500, "InternalError"),
        status(503, "SlowDown"),
        Fault::ResetAfter(0),
        Fault::CutAnswer,
        Fault::Garbage,
        Fault::Hang { effect: false },
        Fault::Hang { effect: true },
    ];
    for (nth, fault) in passing.into_iter().enumerate() {
        let aborts = 2 * nth as u64;
        let what = format!("{fault:?}");
        stack.s3_faults().clear();
        stack
            .s3_faults()
            .add(Rule::on("AbortMultipartUpload", fault).nth(1));
        refused_push(&stack, Blob::new(nth as u64, LARGE)).await;
        stack
            .s3_faults()
            .finished("AbortMultipartUpload", aborts + 2)
            .await;
        assert_eq!(stack.s3().open_uploads(BUCKET), [], "{what}");
    }
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn an_abort_that_fails_for_good_is_logged_and_counted() {
    // Attempts do not bound an abort, time does.
    let stack = stack()
        .config("bucket.max_attempts", 2)
        .config("bucket.retry_budget", "2s")
        .start()
        .unwrap();
    let lasting = [
        status(500, "InternalError"),
        status(403, "AccessDenied"),
        Fault::ResetAfter(0),
    ];
    for (nth, fault) in lasting.into_iter().enumerate() {
        let blob = Blob::new(nth as u64, LARGE);
        stack.s3_faults().clear();
        stack
            .s3_faults()
            .add(Rule::on("AbortMultipartUpload", fault));
        refused_push(&stack, blob).await;
        let line = stack
            .blobgate()
            .wait_for_log("could not be aborted", PATIENCE)
            .unwrap();
        let left = open_uploads_of(&stack, blob);
        assert_eq!(left.len(), 1);
        assert!(line.contains("ERROR"), "{line}");
        assert!(line.contains(&left[0].upload_id), "{line}");
        assert!(line.contains(&left[0].key), "{line}");
        let metric = |name| metric(stack.blobgate(), name);
        let count = nth as f64 + 1.0;
        assert_eq!(metric("blobgate_multipart_aborts_total"), count);
        assert_eq!(metric("blobgate_multipart_aborts_failed_total"), count);
        assert_all_free(&stack);
        assert_eq!(objects_of(&stack, &blob.sha256()), [""; 0]);
    }
}

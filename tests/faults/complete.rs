//! CompleteMultipartUpload can take effect without saying so, and say so without effect.

use super::*;

/// Whatever the store said, for however long: the object is there, and a HEAD tells.
#[tokio::test]
async fn a_completion_that_took_effect_is_a_success() {
    let stack = stack().config("bucket.idle_timeout", "2s").start().unwrap();
    let error = || "InternalError".to_owned();
    let effective = [
        Fault::StatusAfter {
            status: 500,
            code: error(),
        },
        Fault::OkWithErrorBody {
            code: error(),
            effect: true,
        },
        Fault::OkEmptyBody,
        Fault::CutAnswer,
        Fault::CutBody(10),
        Fault::Garbage,
        Fault::Hang { effect: true },
    ];
    for (seed, fault) in effective.into_iter().enumerate() {
        let blob = Blob::new(seed as u64, LARGE);
        stack.s3_faults().clear();
        stack.s3_faults().add(COMPLETE.rule(fault.clone()));
        assert_eq!(push(&stack, "a", blob).await.status(), 201, "{fault:?}");
        assert_eq!(
            COMPLETE.calls(&stack, blob),
            1,
            "{fault:?}: a HEAD settles it"
        );
        assert_all_free(&stack);
        assert_whole(&stack, blob).await;
    }
}

/// The same, where the HEAD fails too: only the repetition's `NoSuchUpload` leads to the answer.
#[tokio::test]
async fn a_repeated_completion_finds_what_the_first_one_did() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, LARGE);
    stack
        .s3_faults()
        .add(COMPLETE.rule(Fault::CutAnswer).nth(1));
    // The first HEAD is the question before the push, the second asks for the completion.
    stack
        .s3_faults()
        .add(HEAD.rule(status(403, "AccessDenied")).nth(2));
    assert_eq!(push(&stack, "a", blob).await.status(), 201);
    assert_eq!(COMPLETE.calls(&stack, blob), 2);
    assert_eq!(HEAD.calls(&stack, blob), 3);
    assert_whole(&stack, blob).await;
}

/// Nothing is taken for a success that was not proven to be one.
#[tokio::test]
async fn a_completion_of_unknown_outcome_fails_and_the_next_push_settles_it() {
    let stack = stack().config("bucket.max_attempts", 2).start().unwrap();
    let blob = Blob::new(1, LARGE);
    stack.s3_faults().add(COMPLETE.rule(Fault::CutAnswer));
    stack
        .s3_faults()
        .add(HEAD.rule(status(500, "InternalError")).calls(2..=u64::MAX));
    let (status, code, _) = error_of(push(&stack, "a", blob).await).await;
    assert_eq!((status, code.as_str()), (500, "UNKNOWN"));
    assert_all_free(&stack);
    // Verified data, without a link.
    assert_eq!(
        objects_of(&stack, &blob.sha256()),
        [data_key(&blob.sha256())]
    );
    assert_absent(&stack, "a", &blob.sha256()).await;

    stack.s3_faults().clear();
    assert_eq!(push(&stack, "a", blob).await.status(), 201);
    assert_eq!(pushes(&stack, "linked"), 1.0);
    assert_whole(&stack, blob).await;
}

/// An object of another size at the key is not the blob.
#[tokio::test]
async fn what_lies_at_the_key_must_have_the_blobs_size() {
    let stack = stack().config("bucket.max_attempts", 2).start().unwrap();
    let blob = Blob::new(1, LARGE);
    let key = data_key(&blob.sha256());
    stack.s3().put_object(BUCKET, &key, &b"broken"[..]);
    stack.s3_faults().add(COMPLETE.rule(Fault::ResetAfter(0)));
    let (status, _, _) = error_of(push(&stack, "a", blob).await).await;
    assert_eq!(status, 500);
    stack.s3_faults().finished("AbortMultipartUpload", 1).await;
    assert_no_uploads(&stack);
    assert_eq!(stack.s3().objects(BUCKET), [(key, 6)]);

    stack.s3_faults().clear();
    assert_eq!(push(&stack, "a", blob).await.status(), 201);
    assert_whole(&stack, blob).await;
}

//! Each case plays a store that says too little, and checks both the verdict and what was asked.

use super::*;
use crate::test_server::{Server, Step, answer, error};

const SIZE: u64 = 40_000_000;

fn parts() -> Vec<PartReceipt> {
    let part = |number, e_tag: &str| PartReceipt {
        number,
        e_tag: e_tag.to_owned(),
    };
    vec![part(1, "\"one\""), part(2, "\"two\""), part(3, "\"three\"")]
}

fn completed() -> Step {
    answer(
        200,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n  \n<CompleteMultipartUploadResult>\
         <Bucket>b</Bucket><Key>k</Key><ETag>&quot;whole-3&quot;</ETag>\
         </CompleteMultipartUploadResult>",
    )
}

/// The object is there with this size.
fn there(size: u64) -> Step {
    answer(200, "").header("content-length", size.to_string())
}

fn absent() -> Step {
    answer(404, "")
}

async fn complete(
    script: impl IntoIterator<Item = Step>,
) -> (Result<Completion, StoreError>, String) {
    let (store, server) = scripted(script).await;
    let result = store.complete_upload(&upload(), &parts(), SIZE).await;
    server.assert_played();
    (result, methods(&server))
}

/// The requests' methods: POST completes, HEAD asks.
fn methods(server: &Server) -> String {
    let requests = server.requests();
    let methods: Vec<_> = requests.iter().map(|request| &*request.method).collect();
    methods.join(" ")
}

/// Everything after which nobody knows what became of the completion.
fn riddles() -> Vec<Step> {
    vec![
        Step::Hang,
        Step::Reset,
        Step::Close,
        Step::CutShort,
        answer(200, ""),
        answer(200, "     "),
        answer(200, "<CompleteMultipartUploadResult><ETag>cut off"),
        error(200, "InternalError"),
        error(500, "InternalError"),
        answer(502, "<html>"),
        answer(504, ""),
    ]
}

#[tokio::test(start_paused = true)]
async fn an_etag_is_success() {
    let (store, server) = scripted([completed()]).await;
    store
        .complete_upload(&upload(), &parts(), SIZE)
        .await
        .unwrap();
    let requests = server.requests();
    assert_eq!(
        requests[0].line(),
        format!("POST /blobs-bucket/{}?uploadId=an%2Fupload%2Bid%3D", key())
    );
    let body = String::from_utf8(requests[0].body.clone()).unwrap();
    let at = |text: &str| {
        body.find(text)
            .unwrap_or_else(|| panic!("{text} in {body}"))
    };
    assert!(at("<PartNumber>1<") < at("<PartNumber>2<"));
    assert!(at("<PartNumber>2<") < at("<PartNumber>3<"));
    assert!(body.contains("one") && body.contains("three"));
    assert_eq!(requests.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_took_effect_unseen_is_success() {
    for riddle in riddles() {
        let (result, methods) = complete([riddle.clone(), there(SIZE)]).await;
        result.unwrap_or_else(|error| panic!("{riddle:?}: {error}"));
        assert_eq!(methods, "POST HEAD", "{riddle:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_took_no_effect_is_completed_anew() {
    for riddle in riddles() {
        let (result, methods) = complete([riddle.clone(), absent(), completed()]).await;
        result.unwrap_or_else(|error| panic!("{riddle:?}: {error}"));
        assert_eq!(methods, "POST HEAD POST", "{riddle:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_never_takes_effect_fails() {
    for riddle in riddles() {
        let once = [riddle.clone(), absent()];
        let script = once.iter().cloned().cycle().take(6);
        let (result, methods) = complete(script).await;
        let error = result.expect_err(&format!("{riddle:?}"));
        assert_eq!(error.attempts, 3);
        assert!(
            error.message.ends_with("the blob is not at its key"),
            "{error}"
        );
        assert_eq!(methods, "POST HEAD POST HEAD POST HEAD", "{riddle:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_gone_after_a_hang_was_completed_by_it() {
    let (result, methods) = complete([
        Step::Hang,
        absent(),
        error(404, "NoSuchUpload"),
        there(SIZE),
    ])
    .await;
    result.unwrap();
    assert_eq!(methods, "POST HEAD POST HEAD", "nothing is left to abort");
}

#[tokio::test(start_paused = true)]
async fn a_completion_still_at_work_is_waited_for() {
    // The store has the upload in hand and knows it no longer, but the object is not yet there.
    let (result, methods) = complete([
        Step::Hang,
        absent(),
        error(404, "NoSuchUpload"),
        absent(),
        error(404, "NoSuchUpload"),
        there(SIZE),
    ])
    .await;
    result.unwrap();
    assert_eq!(methods, "POST HEAD POST HEAD POST HEAD");
}

#[tokio::test(start_paused = true)]
async fn a_completion_that_vanished_fails() {
    let (result, _) = complete([
        Step::Hang,
        absent(),
        error(404, "NoSuchUpload"),
        absent(),
        error(404, "NoSuchUpload"),
        absent(),
    ])
    .await;
    let error = result.unwrap_err();
    assert_eq!((error.class, error.attempts), (FaultClass::NotFound, 3));
}

#[tokio::test(start_paused = true)]
async fn an_upload_gone_from_the_start_fails_at_once_unless_the_blob_is_there() {
    let (result, methods) = complete([error(404, "NoSuchUpload"), absent()]).await;
    assert_eq!(result.unwrap_err().class, FaultClass::NotFound);
    assert_eq!(methods, "POST HEAD");

    let (result, methods) = complete([error(404, "NoSuchUpload"), there(SIZE)]).await;
    result.unwrap();
    assert_eq!(methods, "POST HEAD");
}

#[tokio::test(start_paused = true)]
async fn an_object_of_another_size_is_not_the_blob() {
    let (result, methods) = complete([
        Step::Reset,
        there(SIZE - 1),
        Step::Reset,
        there(0),
        Step::Reset,
        there(SIZE + 1),
    ])
    .await;
    assert_eq!(result.unwrap_err().class, FaultClass::Connection);
    assert_eq!(methods, "POST HEAD POST HEAD POST HEAD");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final_without_a_question() {
    for (fault, class) in [
        (error(400, "InvalidPart"), FaultClass::Rejected),
        (error(400, "EntityTooSmall"), FaultClass::Rejected),
        (error(200, "InvalidPart"), FaultClass::Rejected),
        (error(403, "AccessDenied"), FaultClass::Denied),
        (error(404, "NoSuchBucket"), FaultClass::NotFound),
    ] {
        let (result, methods) = complete([fault.clone()]).await;
        assert_eq!(result.unwrap_err().class, class, "{fault:?}");
        assert_eq!(methods, "POST", "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_a_riddle_is_settled_first() {
    // Some stores answer so when an earlier completion has taken the parts.
    let (result, methods) =
        complete([Step::Hang, absent(), error(400, "InvalidPart"), there(SIZE)]).await;
    result.unwrap();
    assert_eq!(methods, "POST HEAD POST HEAD");

    let (result, methods) =
        complete([Step::Hang, absent(), error(400, "InvalidPart"), absent()]).await;
    assert_eq!(result.unwrap_err().class, FaultClass::Rejected);
    assert_eq!(methods, "POST HEAD POST HEAD");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_completion_is_only_settled_at_the_end() {
    let slow = || error(503, "SlowDown");
    let (result, methods) = complete([slow(), slow(), completed()]).await;
    result.unwrap();
    assert_eq!(methods, "POST POST POST");

    // Longer than there is time for.
    let last = || slow().header("retry-after", "1000");
    let (result, methods) = complete([slow(), slow(), last(), there(SIZE)]).await;
    result.unwrap();
    assert_eq!(methods, "POST POST POST HEAD");

    let (result, methods) = complete([slow(), slow(), last(), absent()]).await;
    assert_eq!(result.unwrap_err().class, FaultClass::Throttled);
    assert_eq!(methods, "POST POST POST HEAD");
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_question_is_no_success() {
    // The question has attempts of its own; that it was refused says nothing about the object.
    let (result, methods) = complete([
        Step::Reset,
        answer(403, ""),
        Step::Reset,
        answer(403, ""),
        Step::Reset,
        answer(403, ""),
    ])
    .await;
    assert_eq!(result.unwrap_err().class, FaultClass::Connection);
    assert_eq!(methods, "POST HEAD POST HEAD POST HEAD");

    let (result, methods) = complete([Step::Reset, answer(500, ""), there(SIZE)]).await;
    result.unwrap();
    assert_eq!(methods, "POST HEAD HEAD");
}

#[tokio::test(start_paused = true)]
async fn the_question_is_asked_even_when_the_time_is_used_up() {
    let server = Server::start([Step::Hang, there(SIZE)]).await;
    let config = config::Bucket {
        idle_timeout: Duration::from_secs(1000),
        call_timeout: Duration::from_secs(60),
        retry_budget: Duration::from_secs(60),
        ..config(&server)
    };
    let store = S3Store::new(&config, Arc::new(())).unwrap();
    store
        .complete_upload(&upload(), &parts(), SIZE)
        .await
        .unwrap();
    server.assert_played();
}

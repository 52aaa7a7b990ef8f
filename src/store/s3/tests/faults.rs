use super::*;
use crate::test_server::{Server, Step, answer, error};
use tokio::time::Instant;

fn part() -> Part {
    let mut part = Part::default();
    part.push(Bytes::from_static(b"exactly "));
    part.push(Bytes::from_static(b"these bytes"));
    part
}

fn stored() -> Step {
    answer(200, "").header("etag", "\"x\"")
}

/// Puts one part against the script. The clock is paused, so that no wait takes time.
async fn put_part(script: impl IntoIterator<Item = Step>) -> (Result<(), StoreError>, Server) {
    let (store, server) = scripted(script).await;
    let result = store.put_part(&upload(), 1, part()).await;
    (result.map(drop), server)
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_with_the_same_bytes() {
    for fault in [
        error(503, "SlowDown"),
        answer(503, "<html>busy</html>"),
        answer(429, ""),
        error(500, "InternalError"),
        answer(502, "<html>bad gateway</html>"),
        answer(504, ""),
        error(400, "RequestTimeout"),
        Step::Reset,
        Step::Close,
        Step::CutShort,
        Step::Hang,
    ] {
        let (result, server) = put_part([fault.clone(), fault.clone(), stored()]).await;
        result.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        server.assert_played();
        let requests = server.requests();
        assert_eq!(requests.len(), 3, "{fault:?}");
        for request in requests {
            assert_eq!(request.body, b"exactly these bytes", "{fault:?}");
            assert_eq!(request.header("content-length"), Some("19"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_final_is_not_tried_again() {
    for (fault, class, status) in [
        (error(403, "AccessDenied"), FaultClass::Denied, 403),
        (error(403, "SignatureDoesNotMatch"), FaultClass::Denied, 403),
        (error(400, "ExpiredToken"), FaultClass::Denied, 400),
        (error(404, "NoSuchUpload"), FaultClass::NotFound, 404),
        (error(400, "InvalidArgument"), FaultClass::Rejected, 400),
        (error(501, "NotImplemented"), FaultClass::Rejected, 501),
        (answer(411, ""), FaultClass::Rejected, 411),
        (answer(307, ""), FaultClass::Rejected, 307),
    ] {
        let (result, server) = put_part([fault.clone()]).await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.class, error.status, error.attempts),
            (class, Some(status), 1),
            "{error}"
        );
        assert_eq!(server.requests().len(), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_end() {
    let (result, server) = put_part(vec![error(500, "InternalError"); 3]).await;
    let error = result.unwrap_err();
    assert_eq!(
        (error.operation, error.class, error.attempts),
        (StoreOperation::UploadPart, FaultClass::Unavailable, 3)
    );
    assert_eq!(error.code.as_deref(), Some("InternalError"));
    assert_eq!(error.message, "InternalError: scripted");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn time_ends() {
    let server = Server::start(vec![Step::Hang; 3]).await;
    let config = config::Bucket {
        max_attempts: 100,
        idle_timeout: Duration::from_secs(1000),
        call_timeout: Duration::from_secs(30),
        retry_budget: Duration::from_secs(70),
        ..config(&server)
    };
    let store = S3Store::new(&config, Arc::new(())).unwrap();
    let started = Instant::now();
    let error = store.put_part(&upload(), 1, part()).await.unwrap_err();
    assert_eq!((error.class, error.attempts), (FaultClass::Timeout, 3));
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(69) && took <= Duration::from_secs(71),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wish_to_be_left_alone_is_heeded() {
    let (store, server) = scripted([
        error(503, "SlowDown").header("retry-after", "40"),
        answer(404, ""),
        error(503, "SlowDown").header("retry-after", "4000"),
    ])
    .await;
    let started = Instant::now();
    assert_eq!(store.blob_size(&digest()).await.unwrap(), None);
    assert!(started.elapsed() >= Duration::from_secs(40));

    let error = store.blob_size(&digest()).await.unwrap_err();
    assert_eq!((error.class, error.attempts), (FaultClass::Throttled, 1));
    server.assert_played();
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up_after_the_idle_timeout() {
    let server = Server::start([Step::Hang, stored()]).await;
    let config = config::Bucket {
        idle_timeout: Duration::from_secs(7),
        call_timeout: Duration::from_secs(1000),
        retry_budget: Duration::from_secs(2000),
        ..config(&server)
    };
    let store = S3Store::new(&config, Arc::new(())).unwrap();
    let started = Instant::now();
    store.put_part(&upload(), 1, part()).await.unwrap();
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(7) && took < Duration::from_secs(9),
        "{took:?}"
    );
    server.assert_played();
}

/// More than the sockets' buffers hold. Moving it takes real time, which a paused clock would jump.
fn large_part() -> Part {
    let mut part = Part::default();
    for _ in 0..512 {
        part.push(Bytes::from(vec![7; 65536]));
    }
    part
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_given_up_after_the_idle_timeout() {
    let server = Server::start([Step::TakeNothing]).await;
    let config = config::Bucket {
        idle_timeout: Duration::from_millis(500),
        call_timeout: Duration::from_secs(1000),
        retry_budget: Duration::from_secs(2000),
        max_attempts: 1,
        ..config(&server)
    };
    let store = S3Store::new(&config, Arc::new(())).unwrap();
    let error = store
        .put_part(&upload(), 1, large_part())
        .await
        .unwrap_err();
    assert_eq!(error.class, FaultClass::Timeout, "{error}");
}

#[tokio::test(start_paused = true)]
async fn nobody_listening_is_a_connection_fault() {
    let server = Server::nowhere();
    let store = S3Store::new(&config(&server), Arc::new(())).unwrap();
    let error = store.blob_size(&digest()).await.unwrap_err();
    assert_eq!((error.class, error.attempts), (FaultClass::Connection, 3));
    assert!(error.message.contains("refused"), "{error}");
}

#[tokio::test]
async fn an_endless_answer_is_refused() {
    let body = "x".repeat(2 * 1024 * 1024);
    let (store, _server) = scripted([answer(200, &body)]).await;
    let error = store.create_upload(&digest()).await.unwrap_err();
    assert_eq!((error.class, error.attempts), (FaultClass::Rejected, 1));
}

#[tokio::test]
async fn a_refusal_before_the_body_was_taken_is_tried_again() {
    // S3 answers SlowDown at once and closes: the answer, or the broken connection, is seen.
    let (store, server) = scripted([Step::Refuse(503), stored()]).await;
    store.put_part(&upload(), 1, large_part()).await.unwrap();
    server.assert_played();
}

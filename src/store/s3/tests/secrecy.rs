//! A bucket's credentials reach neither the log nor an error, however much is logged.

use super::*;
use crate::test_server::{Step, answer, error};
use std::sync::OnceLock;

/// Keeps every line that any target logs at any level.
struct Log(Mutex<Vec<(String, String)>>);

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = (record.target().to_owned(), record.args().to_string());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

/// The one logger of the test process, so that other tests' lines are among its own.
fn captured() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    let log = LOG.get_or_init(|| Log(Mutex::default()));
    if log::set_logger(log).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
    log
}

#[tokio::test(start_paused = true)]
async fn secrets_are_never_logged() {
    let log = captured();
    let server = Server::start([
        answer(200, "").header("etag", "\"x\""),
        error(500, "InternalError"),
        error(403, "SignatureDoesNotMatch"),
        Step::Reset,
        answer(200, "").header("content-length", "12"),
        answer(204, ""),
    ])
    .await;
    let token = "FwoGZXIvYXdzEJrToken";
    let config = config::Bucket {
        credentials: Credentials::Static {
            access_key_id: "AKIDSECRECY".to_owned(),
            secret_access_key: Secret::new(SECRET.to_owned()),
            session_token: Some(Secret::new(token.to_owned())),
        },
        ..config(&server)
    };
    let store = S3Store::new(&config, Arc::new(())).unwrap();
    let part = Part::from(Bytes::from_static(b"twelve bytes"));
    store.put_part(&upload(), 1, part.clone()).await.unwrap();
    let refused = store.put_blob(&digest(), part).await.unwrap_err();
    store.complete_upload(&upload(), &[], 12).await.unwrap();
    store.abort_upload(&upload()).await.unwrap();
    server.assert_played();
    for request in server.requests() {
        assert_eq!(request.header("x-amz-security-token"), Some(token));
    }

    let lines = log.0.lock().unwrap().clone();
    let ours = |words: &str| {
        lines
            .iter()
            .any(|(target, line)| target.starts_with("blobgate") && line.contains(words))
    };
    assert!(ours("trying again"), "the retry was logged: {lines:#?}");
    for (target, line) in &lines {
        for secret in [SECRET, "Signature=", token, "AKIDSECRECY", "AWS4-HMAC"] {
            assert!(!line.contains(secret), "{target}: {line}");
        }
    }
    for text in [format!("{refused:?}"), refused.to_string()] {
        assert!(
            !text.contains(SECRET) && !text.contains("Signature="),
            "{text}"
        );
    }
    assert!(!format!("{config:?}").contains(SECRET));
}

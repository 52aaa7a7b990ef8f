//! The upstream decides who may push, and no answer is a no.

mod common;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::faults::{Fault, Rule};
use blobgate_testkit::stack::Stack;
use bytes::Bytes;
use common::*;
use http::Method;

async fn push_as(stack: &Stack, blob: Blob, user: Option<(&str, &str)>) -> reqwest::Response {
    let mut request = client()
        .put(blob_url(stack, "a", &blob.sha256()))
        .body(blob.bytes());
    if let Some((name, password)) = user {
        request = request.basic_auth(name, Some(password));
    }
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn the_registrys_users_are_ours() {
    let stack = stack()
        .registry(|registry| registry.users = vec![("alice".into(), "right".into())])
        .start()
        .unwrap();
    let blob = Blob::new(1, 2 * PART);
    for user in [None, Some(("alice", "wrong")), Some(("bob", "right"))] {
        let answer = push_as(&stack, blob, user).await;
        let challenge = answer.headers()["www-authenticate"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
        let (status, code, _) = error_of(answer).await;
        assert_eq!((status, code.as_str()), (401, "UNAUTHORIZED"), "{user:?}");
    }
    assert_bucket_empty(&stack);
    assert_eq!(
        push_as(&stack, blob, Some(("alice", "right")))
            .await
            .status(),
        201
    );
    // Also where it is all there already.
    assert_eq!(push_as(&stack, blob, None).await.status(), 401);
    assert_eq!(
        push_as(&stack, blob, Some(("alice", "right")))
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn read_only_maintenance_is_respected() {
    let stack = stack()
        .registry(|registry| registry.read_only = true)
        .start()
        .unwrap();
    let answer = push_as(&stack, Blob::new(1, 2 * PART), None).await;
    assert_eq!(answer.status(), 405, "{}", answer.text().await.unwrap());
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn refusals_are_relayed_whole() {
    let stack = stack().registry_faults().start().unwrap();
    for (status, name, value) in [(403, "x-reason", "not yours"), (429, "retry-after", "7")] {
        stack.registry_faults().clear();
        let answer = Fault::Answer {
            status,
            headers: vec![(name.into(), value.into())],
            body: Bytes::from_static(b"{\"errors\":[]}"),
        };
        stack
            .registry_faults()
            .add(Rule::new(answer).method(Method::PUT));
        let answer = push_as(&stack, Blob::new(1, 2 * PART), None).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()[name], value);
        assert_eq!(answer.text().await.unwrap(), "{\"errors\":[]}");
    }
    assert_bucket_empty(&stack);
}

/// Also where the blob's data is there already: presence is no permission.
#[tokio::test]
async fn no_clear_answer_refuses() {
    let stack = stack()
        .registry_faults()
        .config("upstream.probe_timeout", "300ms")
        .start()
        .unwrap();
    let there = Blob::new(1, 1000);
    assert_eq!(push_as(&stack, there, None).await.status(), 201);
    let before = stack.s3().objects(BUCKET);
    let clear = |status: u16, body: &'static [u8]| Fault::Answer {
        status,
        headers: Vec::new(),
        body: Bytes::from_static(body),
    };
    for method in [Method::PUT, Method::HEAD] {
        for fault in [
            Fault::Hang { effect: false },
            Fault::CutAnswer,
            Fault::Garbage,
            clear(500, b"{}"),
            clear(400, b"{\"errors\":[{\"code\":\"NAME_INVALID\"}]}"),
            clear(400, b""),
            clear(201, b""),
            clear(302, b""),
        ] {
            stack.registry_faults().clear();
            stack
                .registry_faults()
                .add(Rule::new(fault.clone()).method(method.clone()));
            for blob in [there, Blob::new(2, 2 * PART)] {
                let answer = push_as(&stack, blob, None).await;
                assert!(answer.headers().contains_key("retry-after"));
                let (status, code, _) = error_of(answer).await;
                assert_eq!(
                    (status, code.as_str()),
                    (503, "UNAVAILABLE"),
                    "{method} {fault:?}"
                );
            }
        }
    }
    assert_eq!(stack.s3().objects(BUCKET), before);
    assert_no_uploads(&stack);
}

#[tokio::test]
async fn a_bucket_that_cannot_be_asked_refuses() {
    let stack = stack()
        .config("upstream.probe_timeout", "300ms")
        .config("bucket.max_attempts", 1)
        .start()
        .unwrap();
    for fault in [
        Fault::Hang { effect: false },
        Fault::CutAnswer,
        Fault::Status {
            status: 403,
            code: "AccessDenied".into(),
        },
        Fault::Status {
            status: 500,
            code: "InternalError".into(),
        },
    ] {
        stack.s3_faults().clear();
        stack.s3_faults().add(Rule::on("HeadObject", fault.clone()));
        let (status, code, _) = error_of(push_as(&stack, Blob::new(1, 10), None).await).await;
        assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"), "{fault:?}");
    }
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn an_upstream_that_is_gone_refuses() {
    let stack = stack().registry_faults().start().unwrap();
    // A port on which nobody listens.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    stack.registry_faults().set_upstream(nobody);
    let answer = push_as(&stack, Blob::new(1, 10), None).await;
    let (status, code, _) = error_of(answer).await;
    assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"));
    assert_bucket_empty(&stack);
}

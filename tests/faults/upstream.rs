//! The registry is asked before the first byte and needed no more: what it does afterwards cannot
//! spoil a push.

use super::*;

/// Pushes up to the moment when the registry has answered and the body is awaited.
async fn begun(stack: &Stack, blob: Blob) -> blobgate_testkit::http::RawConnection {
    let mut connection = connect(stack).await;
    let framing = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", blob.size);
    let head = push_head("a", &blob.sha256(), &framing);
    connection.send(head).await.unwrap();
    assert_eq!(connection.response().await.unwrap().status, 100);
    connection
}

#[tokio::test]
async fn a_registry_that_dies_during_a_push_is_not_missed() {
    let mut stack = stack().registry_faults().start().unwrap();
    for blob in [Blob::new(1, SMALL), Blob::new(2, LARGE)] {
        let mut connection = begun(&stack, blob).await;
        let content = blob.bytes();
        let (before, after) = content.split_at(content.len() / 2);
        connection.send(before).await.unwrap();
        stack.kill_registry();
        connection.send(after).await.unwrap();
        assert_eq!(connection.response().await.unwrap().status, 201);
        assert_all_free(&stack);
        assert_no_uploads(&stack);

        // Without a registry nothing is served, and nobody may push.
        let url = blob_url(&stack, "a", &blob.sha256());
        let (status, code, _) = error_of(client().get(url).send().await.unwrap()).await;
        assert_eq!((status, code.as_str()), (502, "UNAVAILABLE"));
        let (status, code, _) = error_of(push(&stack, "a", blob).await).await;
        assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"));

        stack.restart_registry().unwrap();
        assert_whole(&stack, blob).await;
    }
}

#[tokio::test]
async fn a_registry_that_turns_bad_during_a_push_is_not_asked() {
    let stack = stack().registry_faults().start().unwrap();
    let faults = [
        Fault::Hang { effect: false },
        status(500, "UNKNOWN"),
        status(403, "DENIED"),
        Fault::CutAnswer,
    ];
    for (seed, fault) in faults.into_iter().enumerate() {
        for size in [SMALL, LARGE] {
            let blob = Blob::new(seed as u64, size);
            let mut connection = begun(&stack, blob).await;
            let asked = stack.registry_faults().records().len();
            stack.registry_faults().add(Rule::new(fault.clone()));
            connection.send(blob.bytes()).await.unwrap();
            assert_eq!(connection.response().await.unwrap().status, 201);
            assert_eq!(stack.registry_faults().records().len(), asked, "{fault:?}");
            stack.registry_faults().clear();
            assert_whole(&stack, blob).await;
        }
    }
}

/// What the first question answered with is no longer true when the push ends: it counts, as it
/// would with the registry alone.
#[tokio::test]
async fn a_registry_that_was_restarted_serves_what_was_pushed_meanwhile() {
    let mut stack = stack().registry_faults().start().unwrap();
    let blob = Blob::new(1, LARGE);
    let mut connection = begun(&stack, blob).await;
    stack.kill_registry();
    stack.restart_registry().unwrap();
    connection.send(blob.bytes()).await.unwrap();
    assert_eq!(connection.response().await.unwrap().status, 201);
    assert_whole(&stack, blob).await;
}

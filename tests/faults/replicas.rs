//! Pushes of one digest at once, here and in another replica: none harms another, and whoever
//! completes last changes nothing.

use super::*;
use blobgate_testkit::faults::Gate;
use blobgate_testkit::process::Blobgate;
use reqwest::Response;

async fn push_to(blobgate: &Blobgate, name: &str, digest: &str, content: Bytes) -> Response {
    let url = format!("{}/v2/{name}/blobs/{digest}", blobgate.url());
    let request = client().put(url).body(content).send();
    request.await.expect("an answer")
}

/// Whom the second push goes to.
#[derive(Debug, Clone, Copy)]
enum Second {
    SameProcess,
    Replica,
}

const BOTH: [Second; 2] = [Second::SameProcess, Second::Replica];

/// Holds the first push at `held`, takes a second one to its end, then lets the first go on.
/// Returns the status of the first.
async fn overtaken(stack: &Stack, second: &Blobgate, held: Point, blob: Blob) -> u16 {
    let digest = blob.sha256();
    let gate = Gate::new();
    stack
        .s3_faults()
        .add(held.rule(Fault::HoldBefore(gate.clone())).nth(1));
    let overtaken = push_to(stack.blobgate(), "a", &digest, blob.bytes());
    let overtaking = async {
        gate.reached(1).await;
        let answer = push_to(second, "b", &digest, blob.bytes()).await;
        assert_eq!(answer.status(), 201, "{held:?}");
        assert_served(stack, "b", &digest, &blob.bytes()).await;
        gate.release();
    };
    let (answer, ()) = tokio::join!(overtaken, overtaking);
    // Whatever became of it, the blob is what it was.
    assert_served(stack, "b", &digest, &blob.bytes()).await;
    assert_all_free(stack);
    answer.status().as_u16()
}

#[tokio::test]
async fn whoever_completes_last_changes_nothing() {
    let stack = stack().start().unwrap();
    let replica = stack.replica().unwrap();
    let mut seed = 0;
    for second in BOTH {
        let other = match second {
            Second::SameProcess => stack.blobgate(),
            Second::Replica => &replica,
        };
        for held in [
            HEAD, CREATE, FIRST_PART, LAST_PART, COMPLETE, LINK, SMALL_DATA, SMALL_LINK,
        ] {
            seed += 1;
            let blob = Blob::new(seed, held.size);
            stack.s3_faults().clear();
            let status = overtaken(&stack, other, held, blob).await;
            assert_eq!(status, 201, "{second:?} {held:?}");
            assert_whole(&stack, blob).await;
        }
    }
    assert_no_uploads(&stack);
}

/// A liar held in mid-upload while the true blob is pushed: its abort must not touch it.
#[tokio::test]
async fn a_wrong_push_beside_a_right_one_does_no_harm() {
    let stack = stack().start().unwrap();
    let replica = stack.replica().unwrap();
    let mut wrong = 0;
    for other in [stack.blobgate(), &replica] {
        for held in [CREATE, FIRST_PART] {
            wrong += 1;
            let blob = Blob::new(wrong, LARGE);
            let digest = blob.sha256();
            let lie = Blob::new(100 + wrong, LARGE).bytes();
            let (before, after) = lie.split_at(PART as usize + 1);
            let gate = Gate::new();
            stack.s3_faults().clear();
            stack
                .s3_faults()
                .add(held.rule(Fault::HoldBefore(gate.clone())).nth(1));

            let mut liar = connect(&stack).await;
            liar.send(announced_head("a", &digest, LARGE))
                .await
                .unwrap();
            liar.send(before).await.unwrap();
            gate.reached(1).await;
            let right = push_to(other, "b", &digest, blob.bytes()).await;
            assert_eq!(right.status(), 201, "{held:?}");
            gate.release();
            liar.send(after).await.unwrap();
            assert_eq!(liar.response().await.unwrap().status, 400, "{held:?}");
            assert_all_free(&stack);

            stack
                .s3_faults()
                .finished("AbortMultipartUpload", wrong)
                .await;
            assert_no_uploads(&stack);
            assert_served(&stack, "b", &digest, &blob.bytes()).await;
            assert_absent(&stack, "a", &digest).await;
        }
    }
}

/// The first push's completion never reaches the store: the object it finds is the other's, which
/// is the same. Its own upload is dropped.
#[tokio::test]
async fn a_failed_completion_settles_on_the_others_object() {
    let stack = stack().config("bucket.max_attempts", 2).start().unwrap();
    let replica = stack.replica().unwrap();
    let blob = Blob::new(1, LARGE);
    let digest = blob.sha256();
    // Held, then broken off.
    let gate = Gate::new();
    stack
        .s3_faults()
        .add(LAST_PART.rule(Fault::HoldBefore(gate.clone())).nth(1));
    let first = push_to(stack.blobgate(), "a", &digest, blob.bytes());
    let second = async {
        gate.reached(1).await;
        let answer = push_to(&replica, "b", &digest, blob.bytes()).await;
        assert_eq!(answer.status(), 201);
        stack.s3_faults().add(COMPLETE.rule(Fault::ResetAfter(0)));
        gate.release();
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.status(), 201);
    for name in ["a", "b"] {
        assert_served(&stack, name, &digest, &blob.bytes()).await;
    }
    stack.s3_faults().finished("AbortMultipartUpload", 1).await;
    assert_no_uploads(&stack);
}

/// One replica dies in the middle of a push; the other is not concerned.
#[tokio::test]
async fn a_replica_that_is_killed_leaves_an_upload_and_no_harm() {
    let mut stack = stack().start().unwrap();
    let blob = Blob::new(1, LARGE);
    let gate = Gate::new();
    stack
        .s3_faults()
        .add(LAST_PART.rule(Fault::HoldBefore(gate.clone())).nth(1));
    let replica = stack.replica().unwrap();
    let url = format!("{}/v2/a/blobs/{}", replica.url(), blob.sha256());
    let request = client().put(url).body(blob.bytes()).send();
    let (broken, ()) = tokio::join!(request, async {
        gate.reached(1).await;
        replica.kill();
    });
    assert!(broken.is_err(), "{broken:?}");
    gate.release();
    assert_eq!(objects_of(&stack, &blob.sha256()), [""; 0]);
    assert_eq!(open_uploads_of(&stack, blob).len(), 1);

    // The same push again, to a new process and to one that goes on.
    stack.restart_blobgate(|config| config).unwrap();
    assert_eq!(push(&stack, "a", blob).await.status(), 201);
    assert_served(&stack, "a", &blob.sha256(), &blob.bytes()).await;
}

//! Slots and memory: how many pushes stream, what the others do meanwhile, and that nothing is held
//! longer than its push.
#![forbid(unsafe_code)]

mod common;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::faults::{Fault, Gate, Rule};
use blobgate_testkit::http::RawConnection;
use blobgate_testkit::stack::{Stack, StackBuilder};
use common::*;
use futures::future::join_all;

const STREAMING: &str = "blobgate_uploads_streaming";
const WAITING: &str = "blobgate_uploads_waiting";
const MEMORY: &str = "blobgate_memory_budget_used_bytes";

fn with(slots: u64, budget: &str) -> StackBuilder {
    stack()
        .config("upload.max_streaming", slots)
        .config("upload.memory_budget", budget)
        // Larger ones would need larger parts.
        .config("upload.max_blob_size", "1GiB")
}

/// One slot, and memory for two parts.
fn one_slot() -> StackBuilder {
    with(1, "10MiB")
}

/// Holds every part on its way to the store.
fn hold_parts(stack: &Stack) -> Gate {
    let gate = Gate::new();
    stack
        .s3_faults()
        .add(Rule::on("UploadPart", Fault::HoldBefore(gate.clone())));
    gate
}

/// A raw push whose head is sent.
async fn begun(stack: &Stack, blob: Blob) -> RawConnection {
    let mut connection = connect(stack).await;
    let head = announced_head("a", &blob.sha256(), blob.size);
    connection.send(head).await.unwrap();
    connection
}

/// A push of several parts that holds the only slot, and the memory of its first part.
struct Holder {
    gate: Gate,
    connection: RawConnection,
    blob: Blob,
}

impl Holder {
    async fn come(stack: &Stack) -> Self {
        let gate = hold_parts(stack);
        let blob = Blob::new(1000, 2 * PART + 1);
        let mut connection = begun(stack, blob).await;
        let content = blob.bytes().slice(..PART as usize + 1);
        connection.send(content).await.unwrap();
        gate.reached(1).await;
        assert_eq!(metric(stack.blobgate(), STREAMING), 1.0);
        Self {
            gate,
            connection,
            blob,
        }
    }

    async fn go_on(mut self) {
        self.gate.release();
        let rest = self.blob.bytes().slice(PART as usize + 1..);
        self.connection.send(rest).await.unwrap();
        assert_eq!(self.connection.response().await.unwrap().status, 201);
    }
}

#[tokio::test]
async fn thirty_two_pushes_share_eight_slots_and_a_small_budget() {
    const SLOTS: u64 = 8;
    const PUSHES: u64 = 32;
    const BUDGET: u64 = SLOTS * PART;
    let stack = with(SLOTS, "40MiB").start().unwrap();
    let memory_before = stack.blobgate().rss_bytes().unwrap();
    let gate = hold_parts(&stack);
    let blobs: Vec<Blob> = (0..PUSHES).map(|seed| Blob::new(seed, 12 * MIB)).collect();

    // Each stream hands out its bytes as they are asked for: the test holds no blob either.
    let all = join_all(blobs.iter().map(|&blob| stream(&stack, "a", blob, true)));
    let watch = async {
        // All have come; all slots are taken, and all memory is in use.
        let blobgate = stack.blobgate();
        until_metric(blobgate, WAITING, |waiting| {
            waiting >= (PUSHES - SLOTS) as f64
        })
        .await;
        until_metric(blobgate, STREAMING, |streaming| streaming == SLOTS as f64).await;
        until_metric(blobgate, MEMORY, |memory| memory == BUDGET as f64).await;
        gate.release();
        let scraper = client();
        let page = format!("{}/metrics", stack.blobgate().admin_url());
        loop {
            // Without blocking the pushes, which share this thread.
            let answer = scraper.get(&page).send().await.unwrap();
            let text = answer.text().await.unwrap();
            let value = |name: &str| -> f64 {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
                line.expect("a metric").parse().unwrap()
            };
            assert!(value(STREAMING) <= SLOTS as f64, "{text}");
            assert!(value(MEMORY) <= BUDGET as f64, "{text}");
            if value(STREAMING) == 0.0 {
                break;
            }
        }
    };
    let (answers, ()) = tokio::join!(all, watch);
    for (answer, blob) in answers.into_iter().zip(&blobs) {
        let log = stack.blobgate().log();
        assert_eq!(answer.status(), 201, "{blob:?}; the log:\n{log}");
    }
    assert_all_free(&stack);
    assert_no_uploads(&stack);
    // The budget, what hashes and sockets hold beside it, and what the allocator keeps: far below
    // the 384 MiB that went through.
    let peak = stack.blobgate().peak_rss_bytes().unwrap();
    assert!(
        peak < memory_before + BUDGET + 120 * MIB,
        "{} MiB at most, {} MiB before",
        peak / MIB,
        memory_before / MIB
    );
    for blob in [blobs[0], blobs[31]] {
        assert_served(&stack, "a", &blob.sha256(), &blob.bytes()).await;
    }
    assert_eq!(pushes(&stack, "stored"), PUSHES as f64);
}

#[tokio::test]
async fn no_slot_in_time_is_503_with_retry_after() {
    let stack = one_slot()
        .config("upload.admission_timeout", "300ms")
        .start()
        .unwrap();
    let holder = Holder::come(&stack).await;
    for blob in [Blob::new(1, 100), Blob::new(2, 3 * PART), Blob::new(3, 0)] {
        let answer = push(&stack, "a", blob).await;
        assert_eq!(answer.headers()["retry-after"], "5");
        let (status, code, _) = error_of(answer).await;
        assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"), "{blob:?}");
        assert_eq!(metric(stack.blobgate(), WAITING), 0.0);
        assert_eq!(objects_of(&stack, &blob.sha256()), [""; 0]);
    }
    assert_eq!(pushes(&stack, "admission_timeout"), 3.0);
    holder.go_on().await;
    assert_all_free(&stack);
    // Turned away is not turned down.
    assert_eq!(push(&stack, "a", Blob::new(1, 100)).await.status(), 201);
}

/// The budget alone can be what is waited for: here it holds one part, of two slots.
#[tokio::test]
async fn no_memory_in_time_is_503_too() {
    let stack = with(2, "5MiB")
        .config("upload.admission_timeout", "300ms")
        .start()
        .unwrap();
    let holder = Holder::come(&stack).await;
    let (status, code, _) = error_of(push(&stack, "a", Blob::new(1, 100)).await).await;
    assert_eq!((status, code.as_str()), (503, "UNAVAILABLE"));
    assert_eq!(
        metric(stack.blobgate(), STREAMING),
        1.0,
        "the slot it had is free again"
    );
    holder.go_on().await;
    assert_all_free(&stack);
}

#[tokio::test]
async fn what_needs_no_slot_goes_through_while_all_are_held() {
    let stack = one_slot()
        .config("upload.admission_timeout", "300ms")
        .start()
        .unwrap();
    let known = Blob::new(1, 3 * PART);
    assert_eq!(stream(&stack, "known", known, true).await.status(), 201);
    let holder = Holder::come(&stack).await;

    // Hashed and linked; there already; forwarded, in both directions.
    assert_eq!(stream(&stack, "mine", known, true).await.status(), 201);
    assert_eq!(stream(&stack, "mine", known, false).await.status(), 201);
    assert_served(&stack, "mine", &known.sha256(), &known.bytes()).await;
    let url = format!("{}/v2/a/blobs/uploads/", stack.blobgate().url());
    let opened = client().post(url).send().await.unwrap();
    let location = opened.headers()["location"].to_str().unwrap().to_owned();
    let patched = client().patch(location).body(known.bytes()).send();
    assert_eq!(patched.await.unwrap().status(), 202);
    assert_eq!(
        (pushes(&stack, "linked"), pushes(&stack, "existing")),
        (1.0, 1.0)
    );

    holder.go_on().await;
    assert_all_free(&stack);
}

/// Clients that leave while they wait neither keep their place nor hold anything, and those behind
/// them come next.
#[tokio::test]
async fn waiting_clients_that_leave_are_not_in_the_way() {
    let stack = one_slot().start().unwrap();
    let holder = Holder::come(&stack).await;
    let mut leaving = Vec::new();
    for seed in 0..6 {
        let blob = Blob::new(seed, 3 * PART);
        let mut connection = begun(&stack, blob).await;
        connection.send(&blob.bytes()[..1000]).await.unwrap();
        until_metric(stack.blobgate(), WAITING, |n| n == seed as f64 + 1.0).await;
        leaving.push((connection, blob));
    }
    let last = Blob::new(100, 1000);
    let mut behind = begun(&stack, last).await;
    until_metric(stack.blobgate(), WAITING, |n| n == 7.0).await;
    let left: Vec<Blob> = leaving
        .into_iter()
        .enumerate()
        .map(|(nth, (connection, blob))| {
            if nth % 2 == 0 {
                connection.reset().unwrap();
            }
            blob
        })
        .collect();
    behind.send(last.bytes()).await.unwrap();

    holder.go_on().await;
    assert_eq!(behind.response().await.unwrap().status, 201);
    assert_all_free(&stack);
    for blob in &left {
        assert_eq!(objects_of(&stack, &blob.sha256()), [""; 0]);
    }
    let gone = "blobgate_pushes_total{outcome=\"client_gone\"}";
    until_metric(stack.blobgate(), gone, |n| n == left.len() as f64).await;
    assert_served(&stack, "a", &last.sha256(), &last.bytes()).await;
    // Each opened its upload when it was let in, and gave it up when it found its client gone.
    let aborts = left.len() as u64;
    stack
        .s3_faults()
        .finished("AbortMultipartUpload", aborts)
        .await;
    assert_no_uploads(&stack);
}

/// Whoever waits is slowed down by TCP: what is taken of it fits into the sockets' buffers, which do
/// not grow on a connection that nobody reads from.
#[tokio::test]
async fn who_waits_is_not_read_from() {
    let stack = one_slot()
        .config("upload.admission_timeout", "3s")
        .start()
        .unwrap();
    let holder = Holder::come(&stack).await;
    let blob = Blob::new(1, 256 * MIB);
    let mut waiting = begun(&stack, blob).await;
    // Until its wait is over and it is told so; blobgate could have read all of it many times.
    let taken = waiting.send_until_answered(&[0; 65536]).await.unwrap();
    assert_eq!(waiting.response().await.unwrap().status, 503);
    assert!(taken < 8 * MIB, "{taken} bytes were taken");

    holder.go_on().await;
    assert_all_free(&stack);
}

/// The most that the kernel buffers of a connection between its two ends, in bytes. It lets the
/// buffers of one that is read from grow that far.
fn socket_buffers() -> u64 {
    let largest = |direction: &str| -> u64 {
        let path = format!("/proc/sys/net/ipv4/tcp_{direction}");
        let bounds = std::fs::read_to_string(&path).expect(&path);
        let largest = bounds.split_whitespace().nth(2).expect(&path);
        largest.parse().expect(&path)
    };
    largest("rmem") + largest("wmem")
}

/// The same for an upload that is held up by the store: it fills its buffers and is read no further.
#[tokio::test]
async fn who_has_no_buffer_left_is_not_read_from() {
    let stack = one_slot().start().unwrap();
    let gate = hold_parts(&stack);
    let bound = 2 * PART + socket_buffers() + MIB;
    let blob = Blob::new(1, 2 * bound);
    let mut connection = begun(&stack, blob).await;
    let mut sent = 0;
    let fill = async {
        for chunk in blob.chunks(65536) {
            connection.send(&chunk).await.unwrap();
            sent += chunk.len() as u64;
        }
    };
    // Both parts' memory is filled, and other requests come and go.
    let other = Blob::new(2, 100);
    let meanwhile = async {
        gate.reached(2).await;
        assert_eq!(metric(stack.blobgate(), MEMORY), 2.0 * PART as f64);
        for _ in 0..20 {
            let url = blob_url(&stack, "a", &other.sha256());
            assert_eq!(client().get(url).send().await.unwrap().status(), 404);
        }
    };
    tokio::select! {
        () = fill => panic!("all of it was taken"),
        () = meanwhile => {}
    }
    assert!(sent < bound, "{sent} bytes were taken");
    assert_eq!(metric(stack.blobgate(), MEMORY), 2.0 * PART as f64);
    drop(connection);
    gate.release();
    assert_eq!(ended(&stack, "a", &blob.sha256()), "client_gone");
    assert_all_free(&stack);
    stack.s3_faults().finished("AbortMultipartUpload", 1).await;
    assert_bucket_empty(&stack);
}

/// With one slot and no patience, each push needs the slot of the one before it.
#[tokio::test]
async fn a_slot_is_free_when_the_answer_is_there() {
    let stack = one_slot()
        .config("upload.admission_timeout", "1ms")
        .start()
        .unwrap();
    for seed in 0..10 {
        for size in [10, 2 * PART + 1] {
            let blob = Blob::new(2 * seed + u64::from(size > PART), size);
            let wrong = put(&stack, "a", &blob.sha256(), "wrong").await;
            assert_all_free(&stack);
            assert_eq!(wrong.status(), 400);
            let right = push(&stack, "a", blob).await;
            assert_all_free(&stack);
            assert_eq!(right.status(), 201);
        }
    }
}

/// The chunked coding of these bytes, one by one.
fn crumbs(content: &[u8]) -> Vec<u8> {
    let mut body: Vec<u8> = content
        .iter()
        .flat_map(|&byte| [b'1', b'\r', b'\n', byte, b'\r', b'\n'])
        .collect();
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

/// Whatever is kept for each chunk must not be kept for each byte.
#[tokio::test]
async fn bodies_that_come_byte_by_byte_take_no_more_memory_than_others() {
    const SIZE: u64 = 512 << 10;
    const GROWTH: u64 = 64 * MIB;
    let stack = with(8, "64MiB").start().unwrap();
    let known = Blob::new(100, SIZE);
    assert_eq!(push(&stack, "other", known).await.status(), 201);
    let before = stack.blobgate().rss_bytes().unwrap();
    // New blobs, then one that is only hashed.
    let new: Vec<Blob> = (0..8).map(|seed| Blob::new(seed, SIZE)).collect();
    for blobs in [new, vec![known; 16]] {
        let pushes = blobs.iter().enumerate().map(|(nth, blob)| {
            let stack = &stack;
            async move {
                let mut connection = connect(stack).await;
                let name = format!("a{nth}");
                let framing = "Transfer-Encoding: chunked\r\n";
                let head = push_head(&name, &blob.sha256(), framing);
                connection.send(head).await.unwrap();
                connection.send(crumbs(&blob.bytes())).await.unwrap();
                connection.response().await.unwrap().status
            }
        });
        let statuses = join_all(pushes).await;
        assert!(statuses.iter().all(|&status| status == 201), "{statuses:?}");
        let peak = stack.blobgate().peak_rss_bytes().unwrap();
        assert!(peak < before + GROWTH, "{before} grew to {peak} bytes");
    }
    assert_all_free(&stack);
}

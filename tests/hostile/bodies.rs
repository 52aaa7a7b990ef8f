//! Bodies that do not come to their proper end, at every moment that is different inside.

use super::*;

const SIZE: u64 = 2 * PART + 9;

/// How many bytes of the body come before it goes wrong: none, some of the first part, the first
/// part's edge and one past it, the second part's edge, and all but one.
const MOMENTS: [u64; 6] = [0, 1000, PART, PART + 1, 2 * PART, SIZE - 1];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
}

const FRAMINGS: [Framing; 2] = [Framing::Length, Framing::Chunked];

/// A push that has sent its head and the first `bytes` of its body, all of which blobgate has read
/// as far as that can be told from the parts it sends.
async fn begun(stack: &Stack, blob: Blob, framing: Framing, bytes: u64) -> RawConnection {
    let digest = blob.sha256();
    let parts_before = stack.s3_faults().calls().get("UploadPart").copied();
    let mut connection = connect(stack).await;
    let content = blob.bytes().slice(..bytes as usize);
    match framing {
        Framing::Length => {
            let head = announced_head("a", &digest, blob.size);
            connection.send(head).await.unwrap();
            connection.send(content).await.unwrap();
        }
        Framing::Chunked => {
            let head = push_head("a", &digest, "Transfer-Encoding: chunked\r\n");
            connection.send(head).await.unwrap();
            for chunk in content.chunks(1_000_000) {
                let line = format!("{:x}\r\n", chunk.len());
                connection.send(line).await.unwrap();
                connection.send(chunk).await.unwrap();
                connection.send("\r\n").await.unwrap();
            }
        }
    }
    // A part goes out when the byte after it is there.
    let full = bytes.saturating_sub(1) / PART;
    stack
        .s3_faults()
        .arrived("UploadPart", parts_before.unwrap_or(0) + full)
        .await;
    connection
}

/// A multipart upload is opened when it is sure to be needed: by the announced length, or when
/// there is more than one part.
fn opened(framing: Framing, bytes: u64) -> u64 {
    u64::from(framing == Framing::Length || bytes > PART)
}

/// Waits for the push's end and for its abort; then nothing is left of it.
async fn assert_nothing_left(stack: &Stack, blob: Blob, aborts: u64, outcome: &str, what: &str) {
    assert_eq!(ended(stack, "a", &blob.sha256()), outcome, "{what}");
    assert_all_free(stack);
    stack
        .s3_faults()
        .finished("AbortMultipartUpload", aborts)
        .await;
    assert_bucket_empty(stack);
}

#[derive(Debug, Clone, Copy)]
enum Leaving {
    Fin,
    Rst,
}

async fn leave(leaving: Leaving) {
    let stack = stack().start().unwrap();
    let (mut seed, mut aborts) = (0, 0);
    for framing in FRAMINGS {
        for bytes in MOMENTS {
            seed += 1;
            let blob = Blob::new(seed, SIZE);
            let what = format!("{leaving:?} after {bytes} bytes, {framing:?}");
            let mut connection = begun(&stack, blob, framing, bytes).await;
            match leaving {
                Leaving::Fin => {
                    connection.finish_sending().await.unwrap();
                    let heard = connection.rest().await.unwrap();
                    assert!(
                        heard.is_empty(),
                        "{what}: {}",
                        String::from_utf8_lossy(&heard)
                    );
                }
                Leaving::Rst => connection.reset().unwrap(),
            }
            aborts += opened(framing, bytes);
            assert_nothing_left(&stack, blob, aborts, "client_gone", &what).await;
        }
    }
    assert_eq!(pushes(&stack, "client_gone"), seed as f64);
}

#[tokio::test]
async fn a_client_that_closes_leaves_nothing() {
    leave(Leaving::Fin).await;
}

#[tokio::test]
async fn a_client_that_resets_leaves_nothing() {
    leave(Leaving::Rst).await;
}

#[tokio::test]
async fn a_client_that_stalls_hears_so_and_leaves_nothing() {
    let stack = stack()
        .config("upload.idle_timeout", "500ms")
        .start()
        .unwrap();
    let (mut seed, mut aborts) = (0, 0);
    for framing in FRAMINGS {
        for bytes in MOMENTS {
            seed += 1;
            let blob = Blob::new(seed, SIZE);
            let what = format!("a stall after {bytes} bytes, {framing:?}");
            let connection = begun(&stack, blob, framing, bytes).await;
            assert_refused(connection, 408, "BLOB_UPLOAD_INVALID", &what).await;
            aborts += opened(framing, bytes);
            assert_nothing_left(&stack, blob, aborts, "client_slow", &what).await;
        }
    }
    assert_eq!(pushes(&stack, "client_slow"), seed as f64);
}

#[tokio::test]
async fn a_client_that_dribbles_hears_so_and_leaves_nothing() {
    let stack = stack()
        .config("upload.min_rate", "1MiB")
        .config("upload.min_rate_window", "1s")
        .start()
        .unwrap();
    let mut aborts = 0;
    for (seed, framing) in FRAMINGS.into_iter().enumerate() {
        for (nth, bytes) in [0, PART].into_iter().enumerate() {
            let blob = Blob::new((10 * seed + nth) as u64, SIZE);
            let what = format!("a dribble after {bytes} bytes, {framing:?}");
            let mut connection = begun(&stack, blob, framing, bytes).await;
            let drop = match framing {
                Framing::Length => "x",
                Framing::Chunked => "1\r\nx\r\n",
            };
            let answered = connection.dribble(drop.as_bytes()).await.unwrap();
            assert!(answered, "{what}: no answer");
            assert_refused(connection, 408, "BLOB_UPLOAD_INVALID", &what).await;
            // The first byte after the first part sends it on its way.
            aborts += opened(framing, bytes + 1);
            assert_nothing_left(&stack, blob, aborts, "client_slow", &what).await;
        }
    }
}

#[tokio::test]
async fn a_broken_chunk_is_a_bad_request_and_leaves_nothing() {
    // At once: a chunk that is waited for would end as a stall.
    let stack = stack()
        .config("upload.idle_timeout", "10s")
        .start()
        .unwrap();
    let (mut seed, mut aborts) = (0, 0);
    for bytes in MOMENTS {
        for broken in [
            "zz\r\n",
            "-1\r\n",
            "0x5\r\nhello\r\n",
            "5\r\nhelloXX5\r\nhello\r\n",
            "fffffffffffffffff\r\n",
        ] {
            seed += 1;
            let blob = Blob::new(seed, SIZE);
            let what = format!("{broken:?} after {bytes} bytes");
            let mut connection = begun(&stack, blob, Framing::Chunked, bytes).await;
            connection.send(broken).await.unwrap();
            assert_refused(connection, 400, "BLOB_UPLOAD_INVALID", &what).await;
            aborts += opened(Framing::Chunked, bytes);
            assert_nothing_left(&stack, blob, aborts, "bad_request", &what).await;
        }
    }
    assert_eq!(pushes(&stack, "bad_request"), seed as f64);
}

/// All bytes are there, but of another blob, or more or fewer than announced.
#[tokio::test]
async fn the_wrong_number_of_bytes_is_refused_and_leaves_nothing() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, SIZE);
    let whole = blob.bytes();
    let longer = [&whole[..], b"!"].concat();
    let mut aborts = 0;
    for (content, what) in [
        (&whole[..SIZE as usize - 1], "one byte less"),
        (&longer[..], "one byte more"),
        (&whole[..PART as usize], "a part"),
        (&whole[..0], "nothing"),
    ] {
        for framing in FRAMINGS {
            let length = content.len() as u64;
            let mut connection = connect(&stack).await;
            let head = match framing {
                Framing::Length => announced_head("a", &blob.sha256(), length),
                Framing::Chunked => {
                    push_head("a", &blob.sha256(), "Transfer-Encoding: chunked\r\n")
                }
            };
            connection.send(head).await.unwrap();
            if framing == Framing::Chunked && length > 0 {
                connection.send(format!("{length:x}\r\n")).await.unwrap();
            }
            connection.send(content).await.unwrap();
            if framing == Framing::Chunked {
                let end = if length > 0 {
                    "\r\n0\r\n\r\n"
                } else {
                    "0\r\n\r\n"
                };
                connection.send(end).await.unwrap();
            }
            let answer = connection.response().await.unwrap();
            assert_eq!(answer.status, 400, "{what}, {framing:?}");
            assert!(
                answer.text().contains("DIGEST_INVALID"),
                "{what}, {framing:?}"
            );
            aborts += u64::from(length > PART);
            assert_nothing_left(&stack, blob, aborts, "digest_mismatch", what).await;
        }
    }
}

/// A client may say that it sends no more, and still read.
#[tokio::test]
async fn a_whole_body_counts_though_nothing_can_follow() {
    let stack = stack().start().unwrap();
    for (seed, size) in [(1, 1000), (2, SIZE)] {
        let blob = Blob::new(seed, size);
        let mut connection = connect(&stack).await;
        let head = announced_head("a", &blob.sha256(), size);
        connection.send(head).await.unwrap();
        connection.send(blob.bytes()).await.unwrap();
        connection.finish_sending().await.unwrap();
        assert_eq!(connection.response().await.unwrap().status, 201);
        assert_served(&stack, "a", &blob.sha256(), &blob.bytes()).await;
    }
}

/// After its last byte a push may come to its end without its client, or not: the blob is verified.
#[tokio::test]
async fn a_client_that_vanishes_during_the_commit_leaves_the_blob_or_nothing() {
    use blobgate_testkit::faults::{Fault, Gate, Rule};
    let stack = stack().start().unwrap();
    let held = [("CompleteMultipartUpload", SIZE), ("PutObject", 1000)];
    for (seed, (operation, size)) in held.into_iter().enumerate() {
        for leaving in [Leaving::Fin, Leaving::Rst] {
            let blob = Blob::new(10 * seed as u64 + leaving as u64, size);
            let digest = blob.sha256();
            let gate = Gate::new();
            stack.s3_faults().clear();
            stack
                .s3_faults()
                .add(Rule::on(operation, Fault::HoldBefore(gate.clone())));
            let mut connection = connect(&stack).await;
            let head = announced_head("a", &digest, size);
            connection.send(head).await.unwrap();
            connection.send(blob.bytes()).await.unwrap();
            gate.reached(1).await;
            match leaving {
                Leaving::Fin => drop(connection),
                Leaving::Rst => connection.reset().unwrap(),
            }
            gate.release();
            let outcome = ended(&stack, "a", &digest);
            assert_all_free(&stack);
            let what = format!("{operation} {leaving:?} {outcome}");
            match outcome.as_str() {
                "stored" => assert_served(&stack, "a", &digest, &blob.bytes()).await,
                "client_gone" => assert_eq!(objects_of(&stack, &digest), [""; 0], "{what}"),
                _ => panic!("{what}"),
            }
            assert_no_uploads(&stack);
        }
    }
}

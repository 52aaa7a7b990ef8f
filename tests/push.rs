//! Pushes that succeed, and pushes that are wrong: what the registry serves and what the bucket
//! holds afterwards.

mod common;

use blobgate_testkit::blob::{Blob, sha256, sha512};
use blobgate_testkit::http::RawConnection;
use common::*;
use reqwest::Body;

#[tokio::test]
async fn blobs_of_every_size_are_served_by_the_registry() {
    let stack = stack().start().unwrap();
    for (seed, size) in [0, 1, 4096, PART - 1, PART, PART + 1, 3 * PART, 3 * PART + 7]
        .into_iter()
        .enumerate()
    {
        for announced in [true, false] {
            let blob = Blob::new(2 * seed as u64 + u64::from(announced), size);
            let answer = stream(&stack, "team/app", blob, announced).await;
            assert_eq!(answer.status(), 201, "{size} bytes, announced: {announced}");
            let digest = blob.sha256();
            assert_eq!(answer.headers()["docker-content-digest"], digest.as_str());
            let location = answer.headers()["location"].to_str().unwrap();
            assert_eq!(location, format!("/v2/team/app/blobs/{digest}"));
            assert_served(&stack, "team/app", &digest, &blob.bytes()).await;
            let link = stack
                .s3()
                .read_object(BUCKET, &link_key("team/app", &digest));
            assert_eq!(link.as_deref(), Some(digest.as_bytes()));
        }
    }
    assert_no_uploads(&stack);
    assert_all_free(&stack);
}

#[tokio::test]
async fn sha512_and_an_encoded_colon_are_taken() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 2 * PART + 1);
    let content = blob.bytes();
    let digest = sha512(&content);
    let encoded = digest.replace(':', "%3A");
    let answer = put(&stack, "a/b", &encoded, content.clone()).await;
    assert_eq!(answer.status(), 201);
    assert_eq!(answer.headers()["docker-content-digest"], digest.as_str());
    assert_served(&stack, "a/b", &digest, &content).await;
}

#[tokio::test]
async fn up_to_one_part_is_one_call_and_more_are_equal_parts() {
    let stack = stack().start().unwrap();
    stack.s3().forget_calls();
    assert_eq!(
        stream(&stack, "a", Blob::new(1, PART), true).await.status(),
        201
    );
    let calls = stack.s3().calls();
    assert_eq!(calls.get("PutObject"), Some(&2), "data and link: {calls:?}");
    assert_eq!(calls.get("CreateMultipartUpload"), None);

    stack.s3().forget_calls();
    assert_eq!(
        stream(&stack, "a", Blob::new(2, 3 * PART + 1), false)
            .await
            .status(),
        201
    );
    let sizes: Vec<u64> = stack
        .s3()
        .call_log()
        .iter()
        .filter(|call| call.operation == "UploadPart")
        .map(|call| call.size)
        .collect();
    assert_eq!(sizes.iter().filter(|&&size| size == PART).count(), 3);
    assert_eq!(sizes.iter().sum::<u64>(), 3 * PART + 1);
}

#[tokio::test]
async fn a_wrong_digest_leaves_nothing_and_says_both() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 2 * PART + 1);
    let wrong = Blob::new(2, 1).sha256();
    let answer = put(&stack, "a", &wrong, blob.bytes()).await;
    let (status, code, error) = error_of(answer).await;
    assert_eq!((status, code.as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(error["detail"]["expected"], wrong);
    assert_eq!(error["detail"]["computed"], blob.sha256());
    assert_all_free(&stack);
    stack.s3_faults().finished("AbortMultipartUpload", 1).await;
    assert_bucket_empty(&stack);

    let (status, code, _) = error_of(put(&stack, "a", &wrong, "small").await).await;
    assert_eq!((status, code.as_str()), (400, "DIGEST_INVALID"));
    assert_bucket_empty(&stack);
    assert_eq!(pushes(&stack, "digest_mismatch"), 2.0);
}

#[tokio::test]
async fn a_truncated_body_leaves_nothing() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 3 * PART);
    for (abort, length) in [(0, 100), (1, 2 * PART + 9)] {
        let mut connection = RawConnection::open(stack.blobgate().address())
            .await
            .unwrap();
        let head = format!(
            "PUT /v2/a/blobs/{} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            blob.sha256(),
            blob.size
        );
        connection.send(head).await.unwrap();
        connection
            .send(&blob.bytes()[..length as usize])
            .await
            .unwrap();
        connection.finish_sending().await.unwrap();
        assert!(
            connection.ended().await.unwrap(),
            "no answer is owed to a client that left"
        );
        if abort > 0 || length > 0 {
            // The upload was opened from the announced length, before the first part was full.
            stack
                .s3_faults()
                .finished("AbortMultipartUpload", abort + 1)
                .await;
        }
        assert_bucket_empty(&stack);
        assert_all_free(&stack);
    }
    assert_eq!(pushes(&stack, "client_gone"), 2.0);
}

#[tokio::test]
async fn bad_names_and_digests_are_refused_before_anything_is_asked() {
    let stack = stack().registry_faults().start().unwrap();
    let good = sha256("x");
    let hex = good.strip_prefix("sha256:").unwrap();
    let upper = format!("sha256:{}", hex.to_uppercase());
    let short = format!("sha256:{}", &hex[1..]);
    for (path, code) in [
        (format!("/v2/A/blobs/{good}"), "NAME_INVALID"),
        (format!("/v2/a/../b/blobs/{good}"), "NAME_INVALID"),
        (format!("/v2/a//b/blobs/{good}"), "NAME_INVALID"),
        (format!("/v2/a%2Fb/blobs/{good}"), "NAME_INVALID"),
        (format!("/v2/blobs/{good}"), "NAME_INVALID"),
        (format!("/v2/a/blobs/{upper}"), "DIGEST_INVALID"),
        (format!("/v2/a/blobs/{short}"), "DIGEST_INVALID"),
        (format!("/v2/a/blobs/md5:{}", &hex[..32]), "DIGEST_INVALID"),
        ("/v2/a/blobs/..".to_owned(), "DIGEST_INVALID"),
    ] {
        let mut connection = RawConnection::open(stack.blobgate().address())
            .await
            .unwrap();
        let request = format!("PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
        connection.send(request).await.unwrap();
        let answer = connection.response().await.unwrap();
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains(code), "{path}: {}", answer.text());
    }
    assert_bucket_empty(&stack);
    assert_eq!(stack.registry_faults().calls(), Default::default());
}

#[tokio::test]
async fn the_same_repository_needs_no_second_upload() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 2 * PART);
    assert_eq!(stream(&stack, "a", blob, true).await.status(), 201);
    stack.s3().forget_calls();
    assert_eq!(stream(&stack, "a", blob, true).await.status(), 201);
    assert_eq!(stream(&stack, "a", blob, false).await.status(), 201);
    let calls = stack.s3().calls();
    for operation in ["PutObject", "UploadPart", "CreateMultipartUpload"] {
        assert_eq!(calls.get(operation), None, "{calls:?}");
    }
    assert_eq!(pushes(&stack, "existing"), 2.0);
}

#[tokio::test]
async fn a_waiting_client_sends_nothing_that_is_there_already() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 2 * PART);
    let request = format!(
        "PUT /v2/a/blobs/{} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        blob.sha256(),
        blob.size
    );
    let mut connection = RawConnection::open(stack.blobgate().address())
        .await
        .unwrap();
    connection.send(&request).await.unwrap();
    assert_eq!(connection.response().await.unwrap().status, 100);
    connection.send(blob.bytes()).await.unwrap();
    assert_eq!(connection.response().await.unwrap().status, 201);
    // The connection is still good, and so the next request on it is not lost.
    connection.send(&request).await.unwrap();
    let answer = connection.response().await.unwrap();
    assert_eq!(answer.status, 201, "at once, without 100");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(connection.ended().await.unwrap());
}

#[tokio::test]
async fn another_repository_links_only_what_the_client_proves_to_have() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 2 * PART + 1);
    let digest = blob.sha256();
    assert_eq!(stream(&stack, "secret", blob, true).await.status(), 201);
    stack.s3().forget_calls();

    // The digest alone, with bytes of the right length.
    let guess = Blob::new(2, blob.size).bytes();
    let (status, code, _) = error_of(put(&stack, "mine", &digest, guess).await).await;
    assert_eq!((status, code.as_str()), (400, "DIGEST_INVALID"));
    // The digest alone, with other lengths, announced and not.
    for body in [&b""[..], b"x"] {
        let answer = put(&stack, "mine", &digest, body).await;
        assert_eq!(answer.status(), 400);
        let unannounced = Body::wrap_stream(Blob::new(3, body.len() as u64).stream(10));
        assert_eq!(
            put(&stack, "mine", &digest, unannounced).await.status(),
            400
        );
    }
    assert_absent(&stack, "mine", &digest).await;

    // The bytes themselves: hashed, linked, not uploaded.
    assert_eq!(stream(&stack, "mine", blob, true).await.status(), 201);
    assert_eq!(stream(&stack, "other", blob, false).await.status(), 201);
    assert_served(&stack, "mine", &digest, &blob.bytes()).await;
    let calls = stack.s3().calls();
    assert_eq!(calls.get("PutObject"), Some(&2), "two links: {calls:?}");
    assert_eq!(calls.get("UploadPart"), None, "{calls:?}");
    assert_eq!(pushes(&stack, "linked"), 2.0);
    assert_all_free(&stack);
}

#[tokio::test]
async fn broken_data_in_the_bucket_is_replaced() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 1000);
    let digest = blob.sha256();
    stack
        .s3()
        .put_object(BUCKET, &data_key(&digest), &b"half"[..]);
    assert_eq!(stream(&stack, "a", blob, true).await.status(), 201);
    assert_served(&stack, "a", &digest, &blob.bytes()).await;
}

#[tokio::test]
async fn data_that_a_garbage_collection_took_is_uploaded_again() {
    let stack = stack()
        .registry(|registry| registry.cache = true)
        .start()
        .unwrap();
    let blob = Blob::new(1, 1000);
    let digest = blob.sha256();
    assert_eq!(stream(&stack, "a", blob, true).await.status(), 201);
    assert_served(&stack, "a", &digest, &blob.bytes()).await;
    assert!(stack.s3().delete_object(BUCKET, &data_key(&digest)));
    assert_eq!(stream(&stack, "a", blob, true).await.status(), 201);
    assert_served(&stack, "a", &digest, &blob.bytes()).await;
}

#[tokio::test]
async fn two_pushes_of_one_digest_at_once_both_succeed() {
    let stack = stack().start().unwrap();
    let blob = Blob::new(1, 4 * PART + 1);
    let (one, two) = tokio::join!(
        stream(&stack, "a", blob, true),
        stream(&stack, "b", blob, false)
    );
    assert_eq!((one.status().as_u16(), two.status().as_u16()), (201, 201));
    for name in ["a", "b"] {
        assert_served(&stack, name, &blob.sha256(), &blob.bytes()).await;
    }
    assert_no_uploads(&stack);
}

#[tokio::test]
async fn too_long_is_413_before_the_first_byte_and_at_the_limit() {
    let stack = stack()
        .config("upload.max_blob_size", "12MiB")
        .start()
        .unwrap();
    let blob = Blob::new(1, 12 * MIB + 1);
    let mut connection = RawConnection::open(stack.blobgate().address())
        .await
        .unwrap();
    let head = format!(
        "PUT /v2/a/blobs/{} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        blob.sha256(),
        blob.size
    );
    connection.send(head).await.unwrap();
    let answer = connection.response().await.unwrap();
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains("SIZE_INVALID") && answer.text().contains("12582912"));

    let answer = stream(&stack, "a", blob, false).await;
    let (status, code, error) = error_of(answer).await;
    assert_eq!((status, code.as_str()), (413, "SIZE_INVALID"));
    assert_eq!(error["detail"]["limit"], 12 * MIB);
    stack.s3_faults().finished("AbortMultipartUpload", 1).await;
    assert_bucket_empty(&stack);

    let longest = Blob::new(2, 12 * MIB);
    assert_eq!(stream(&stack, "a", longest, false).await.status(), 201);
}

#[tokio::test]
async fn requests_that_are_no_whole_blob_are_refused() {
    let stack = stack().start().unwrap();
    let digest = sha256("x");
    for header in [
        "Content-Range: bytes 0-0/2\r\nContent-Length: 1",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    ] {
        let mut connection = RawConnection::open(stack.blobgate().address())
            .await
            .unwrap();
        let request = format!("PUT /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\nx");
        connection.send(request).await.unwrap();
        let answer = connection.response().await.unwrap();
        assert_eq!(answer.status, 400, "{header}: {}", answer.text());
    }
    assert_bucket_empty(&stack);
}

#[tokio::test]
async fn the_flat_layout_has_no_links() {
    let stack = stack()
        .config("bucket.layout", "flat")
        .config("bucket.root_directory", "some/prefix")
        .start()
        .unwrap();
    let blob = Blob::new(1, 2 * PART);
    let digest = blob.sha256();
    assert_eq!(stream(&stack, "a", blob, true).await.status(), 201);
    let hex = digest.strip_prefix("sha256:").unwrap();
    let key = format!("some/prefix/blobs/sha256/{hex}");
    assert_eq!(stack.s3().objects(BUCKET), [(key, blob.size)]);
}

#[tokio::test]
async fn a_root_directory_is_the_registrys_own() {
    let stack = stack()
        .registry(|registry| registry.root_directory = Some("/some/root".into()))
        .start()
        .unwrap();
    let blob = Blob::new(1, PART + 1);
    assert_eq!(stream(&stack, "a", blob, true).await.status(), 201);
    assert_served(&stack, "a", &blob.sha256(), &blob.bytes()).await;
    let keys = stack.s3().objects(BUCKET);
    assert!(
        keys.iter()
            .all(|(key, _)| key.starts_with("some/root/docker/")),
        "{keys:?}"
    );
}

#[tokio::test]
async fn an_offer_to_upgrade_the_connection_is_ignored() {
    let stack = stack().start().unwrap();
    let mut connection = RawConnection::open(stack.blobgate().address())
        .await
        .unwrap();
    for seed in [1, 2] {
        let blob = Blob::new(seed, 1000);
        let head = format!(
            "PUT /v2/a/blobs/{} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 1000\r\n\r\n",
            blob.sha256()
        );
        connection.send(head).await.unwrap();
        connection.send(blob.bytes()).await.unwrap();
        assert_eq!(connection.response().await.unwrap().status, 201);
    }
}

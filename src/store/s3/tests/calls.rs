use super::*;
use crate::request_id::RequestId;
use crate::test_server::{Server, answer, error};

const CREATED: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><InitiateMultipartUploadResult>\
    <Bucket>blobs-bucket</Bucket><Key>k</Key><UploadId>up-1</UploadId>\
    </InitiateMultipartUploadResult>";

fn path() -> String {
    format!("/blobs-bucket/{}", key())
}

fn part() -> Part {
    let mut part = Part::default();
    part.push(Bytes::from_static(b"one "));
    part.push(Bytes::from_static(b"two "));
    part.push(Bytes::from_static(b"three"));
    part
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_there_has_its_size() {
    let (store, server) =
        scripted([answer(200, "").header("content-length", "123456789012")]).await;
    assert_eq!(
        store.blob_size(&digest()).await.unwrap(),
        Some(123_456_789_012)
    );
    assert_eq!(server.lines(), [format!("HEAD {}", path())]);
}

#[tokio::test(start_paused = true)]
async fn a_blob_that_is_not_there_has_none() {
    let (store, server) = scripted([answer(404, "")]).await;
    assert_eq!(store.blob_size(&digest()).await.unwrap(), None);
    server.assert_played();
}

#[tokio::test(start_paused = true)]
async fn a_blob_goes_out_in_one_call_with_its_attributes() {
    let server = Server::start([answer(200, "").header("etag", "\"x\"")]).await;
    let config = config::Bucket {
        encrypt: true,
        kms_key_id: Some("arn:aws:kms:key".to_owned()),
        storage_class: Some("STANDARD_IA".to_owned()),
        acl: Some("bucket-owner-full-control".to_owned()),
        ..config(&server)
    };
    let store = S3Store::new(&config, Arc::new(())).unwrap();
    store.put_blob(&digest(), part()).await.unwrap();

    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.line(), format!("PUT {}", path()));
    assert_eq!(request.body, b"one two three");
    for (name, value) in [
        ("content-length", "13"),
        ("content-type", "application/octet-stream"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ("x-amz-server-side-encryption", "aws:kms"),
        (
            "x-amz-server-side-encryption-aws-kms-key-id",
            "arn:aws:kms:key",
        ),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-acl", "bucket-owner-full-control"),
        ("host", &server.address.to_string()),
        ("user-agent", USER_AGENT_OF_THIS_VERSION),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert_eq!(request.header("transfer-encoding"), None);
    let authorization = request.header("authorization").unwrap();
    assert!(
        authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
            && authorization.contains("/eu-test-7/s3/aws4_request, SignedHeaders="),
        "{authorization}"
    );
}

const USER_AGENT_OF_THIS_VERSION: &str = concat!("blobgate/", env!("CARGO_PKG_VERSION"));

#[tokio::test(start_paused = true)]
async fn an_upload_is_begun_with_its_attributes_and_a_length_of_zero() {
    let server = Server::start([answer(200, CREATED)]).await;
    let config = config::Bucket {
        encrypt: true,
        storage_class: Some("STANDARD_IA".to_owned()),
        acl: Some("private".to_owned()),
        ..config(&server)
    };
    let store = S3Store::new(&config, Arc::new(())).unwrap();
    let upload = store.create_upload(&digest()).await.unwrap();
    assert_eq!(
        upload,
        UploadHandle {
            key: key(),
            upload_id: "up-1".to_owned()
        }
    );

    let requests = server.requests();
    let request = &requests[0];
    assert_eq!(request.line(), format!("POST {}?uploads=", path()));
    for (name, value) in [
        ("content-length", Some("0")),
        ("content-type", Some("application/octet-stream")),
        ("x-amz-server-side-encryption", Some("AES256")),
        ("x-amz-server-side-encryption-aws-kms-key-id", None),
        ("x-amz-storage-class", Some("STANDARD_IA")),
        ("x-amz-acl", Some("private")),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_goes_out_with_its_length_and_comes_back_with_its_etag() {
    let (store, server) = scripted([answer(200, "").header("etag", "\"tag-7\"")]).await;
    let receipt = store.put_part(&upload(), 7, part()).await.unwrap();
    assert_eq!((receipt.number, receipt.e_tag.as_str()), (7, "\"tag-7\""));

    let requests = server.requests();
    let request = &requests[0];
    assert_eq!(
        request.line(),
        format!("PUT {}?partNumber=7&uploadId=an%2Fupload%2Bid%3D", path())
    );
    assert_eq!(request.header("content-length"), Some("13"));
    assert_eq!(request.header("transfer-encoding"), None);
    assert_eq!(request.header("x-amz-acl"), None);
    assert_eq!(request.body, b"one two three");
}

#[tokio::test]
async fn a_large_part_of_many_chunks_arrives_whole() {
    let (store, server) = scripted([answer(200, "").header("etag", "\"x\"")]).await;
    let mut part = Part::default();
    let mut expected = Vec::new();
    for number in 0..300u32 {
        let chunk: Vec<u8> = (0..65536u32).map(|at| (at ^ number) as u8).collect();
        expected.extend_from_slice(&chunk);
        part.push(Bytes::from(chunk));
    }
    store.put_part(&upload(), 1, part).await.unwrap();
    assert!(server.requests()[0].body == expected, "the bytes differ");
}

#[tokio::test(start_paused = true)]
async fn an_empty_blob_can_be_put() {
    let (store, server) = scripted([answer(200, "").header("etag", "\"x\"")]).await;
    store.put_blob(&digest(), Part::default()).await.unwrap();
    assert_eq!(server.requests()[0].header("content-length"), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn a_part_without_an_etag_is_no_part() {
    let (store, _server) = scripted([answer(200, "")]).await;
    let error = store.put_part(&upload(), 1, part()).await.unwrap_err();
    assert_eq!(error.class, FaultClass::Rejected);
}

#[tokio::test(start_paused = true)]
async fn an_upload_without_an_id_is_no_upload() {
    for body in ["", "<InitiateMultipartUploadResult/>", "<html>", "<a>"] {
        let (store, _server) = scripted([answer(200, body)]).await;
        let error = store.create_upload(&digest()).await.unwrap_err();
        assert_eq!(error.class, FaultClass::Rejected, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn aborting_what_is_gone_succeeds() {
    for script in [answer(204, ""), error(404, "NoSuchUpload"), answer(404, "")] {
        let (store, server) = scripted([script]).await;
        store.abort_upload(&upload()).await.unwrap();
        assert_eq!(
            server.lines(),
            [format!("DELETE {}?uploadId=an%2Fupload%2Bid%3D", path())]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn aborting_in_a_bucket_that_is_not_there_fails() {
    let (store, _server) = scripted([error(404, "NoSuchBucket")]).await;
    let error = store.abort_upload(&upload()).await.unwrap_err();
    assert_eq!(error.class, FaultClass::NotFound);
    assert_eq!(error.code.as_deref(), Some("NoSuchBucket"));
}

#[tokio::test(start_paused = true)]
async fn a_link_holds_the_digest() {
    let (store, server) = scripted([answer(200, "").header("etag", "\"x\"")]).await;
    let name = "team/app".parse().unwrap();
    store.link(&name, &digest()).await.unwrap();
    let requests = server.requests();
    let hex = "ab".repeat(32);
    assert_eq!(
        requests[0].line(),
        format!(
            "PUT /blobs-bucket/some/root/docker/registry/v2/repositories/team/app/_layers/sha256/\
             {hex}/link"
        )
    );
    assert_eq!(requests[0].body, format!("sha256:{hex}").as_bytes());
}

#[tokio::test(start_paused = true)]
async fn a_layout_without_links_writes_none() {
    let server = Server::start([]).await;
    let config = config::Bucket {
        layout: LayoutKind::Flat,
        ..config(&server)
    };
    let store = S3Store::new(&config, Arc::new(())).unwrap();
    let name = "team/app".parse().unwrap();
    store.link(&name, &digest()).await.unwrap();
    assert_eq!(server.lines(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_check_asks_for_the_bucket_and_says_what_is_wrong() {
    let (store, server) = scripted([
        answer(200, ""),
        answer(404, ""),
        answer(403, ""),
        answer(301, "").header("x-amz-bucket-region", "eu-west-1"),
    ])
    .await;
    store.check().await.unwrap();
    for (class, words) in [
        (FaultClass::NotFound, "there is no such bucket"),
        (FaultClass::Denied, "s3:ListBucket"),
        (FaultClass::Rejected, "the bucket is in region eu-west-1"),
    ] {
        let error = store.check().await.unwrap_err();
        assert_eq!(error.class, class);
        assert!(error.message.contains(words), "{error}");
    }
    assert_eq!(server.lines(), ["HEAD /blobs-bucket"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_missing_list_permission_is_named() {
    let (store, _server) = scripted([answer(403, "")]).await;
    let error = store.blob_size(&digest()).await.unwrap_err();
    assert_eq!((error.class, error.status), (FaultClass::Denied, Some(403)));
    assert!(error.message.contains("s3:ListBucket"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn connections_are_used_again() {
    let (store, server) = scripted(vec![answer(404, ""); 3]).await;
    for _ in 0..3 {
        store.blob_size(&digest()).await.unwrap();
    }
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.connection == 0)
    );
}

#[tokio::test]
async fn a_requests_calls_carry_its_id_and_are_told_to_its_observer() {
    let server = Server::start([answer(404, ""), answer(404, "")]).await;
    let (own, other) = (Arc::new(Recorder::default()), Arc::new(Recorder::default()));
    let store = Arc::new(S3Store::new(&config(&server), other.clone()).unwrap());
    let mut headers = http::HeaderMap::new();
    headers.insert("x-request-id", "abc-1".parse().unwrap());
    let view = store
        .clone()
        .on_behalf_of(&RequestId::of(&headers), own.clone());
    view.blob_size(&digest()).await.unwrap();
    assert_eq!((own.heard().len(), other.heard().len()), (2, 0));
    store.blob_size(&digest()).await.unwrap();
    assert_eq!((own.heard().len(), other.heard().len()), (2, 2));
    let agents: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.header("user-agent").unwrap().to_owned())
        .collect();
    let of_request = format!("{USER_AGENT_OF_THIS_VERSION} (request abc-1)");
    assert_eq!(agents, [&*of_request, USER_AGENT_OF_THIS_VERSION]);
}

#[tokio::test(start_paused = true)]
async fn the_observer_hears_what_was_meant() {
    let server = Server::start([
        answer(404, ""),
        error(503, "SlowDown"),
        answer(204, ""),
        error(403, "AccessDenied"),
    ])
    .await;
    let recorder = Arc::new(Recorder::default());
    let store = S3Store::new(&config(&server), recorder.clone()).unwrap();
    store.blob_size(&digest()).await.unwrap();
    assert!(!store.recently_throttled());
    store.abort_upload(&upload()).await.unwrap();
    store.put_blob(&digest(), part()).await.unwrap_err();
    use StoreOperation::{AbortMultipartUpload, HeadObject, PutObject};
    assert_eq!(
        recorder.heard(),
        [
            Heard::Attempt(HeadObject, Ok(())),
            Heard::Call(HeadObject, Ok(()), 1),
            Heard::Attempt(AbortMultipartUpload, Err(FaultClass::Throttled)),
            Heard::Retry(AbortMultipartUpload, FaultClass::Throttled),
            Heard::Attempt(AbortMultipartUpload, Ok(())),
            Heard::Call(AbortMultipartUpload, Ok(()), 2),
            Heard::Attempt(PutObject, Err(FaultClass::Denied)),
            Heard::Call(PutObject, Err(FaultClass::Denied), 1),
        ]
    );
    assert!(store.recently_throttled());
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(!store.recently_throttled());
}

#[test]
fn an_endpoint_that_is_an_address_has_no_virtual_hosts() {
    let endpoint = |endpoint: &str| config::Bucket {
        endpoint: Some(endpoint.parse().unwrap()),
        path_style: false,
        ..config(&Server::nowhere())
    };
    for address in ["http://127.0.0.1:9000", "https://[::1]"] {
        let error = S3Store::new(&endpoint(address), Arc::new(())).err();
        assert!(
            matches!(error, Some(SetupError::NoVirtualHost(_))),
            "{address}"
        );
    }
    assert!(S3Store::new(&endpoint("https://s3.example.org"), Arc::new(())).is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_unusable_answer_is_no_panic() {
    let endless = || answer(200, "").header("content-length", "99999999999999999999");
    // rusoto's own client unwraps the first header, its generated code the others.
    let (store, _server) = scripted([
        answer(200, "")
            .header("etag", "\"x\"")
            .header("x-amz-meta-name", b"caf\xe9".as_slice())
            .header("x-amz-server-side-encryption-bucket-key-enabled", "perhaps"),
        endless(),
        endless(),
        endless(),
    ])
    .await;
    store.put_part(&upload(), 1, part()).await.unwrap();
    assert!(store.blob_size(&digest()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn success_without_its_proof_is_none() {
    use StoreOperation::{CreateMultipartUpload, PutObject, UploadPart};
    let welcome = || answer(200, "<html>welcome</html>");
    let created = "<InitiateMultipartUploadResult><UploadId>7</UploadId>\
                   </InitiateMultipartUploadResult>";
    let server = Server::start([
        welcome(),
        error(200, "SlowDown"),
        answer(200, "").header("etag", "\"x\""),
        welcome(),
        answer(200, "").header("etag", "\"x\""),
        welcome(),
        answer(200, created),
    ])
    .await;
    let recorder = Arc::new(Recorder::default());
    let store = S3Store::new(&config(&server), recorder.clone()).unwrap();
    store.put_blob(&digest(), part()).await.unwrap();
    store.put_part(&upload(), 1, part()).await.unwrap();
    store.create_upload(&digest()).await.unwrap();
    let retries: Vec<Heard> = recorder
        .heard()
        .into_iter()
        .filter(|heard| matches!(heard, Heard::Retry(..)))
        .collect();
    assert_eq!(
        retries,
        [
            Heard::Retry(PutObject, FaultClass::Unavailable),
            Heard::Retry(PutObject, FaultClass::Throttled),
            Heard::Retry(UploadPart, FaultClass::Unavailable),
            Heard::Retry(CreateMultipartUpload, FaultClass::Unavailable),
        ]
    );
}

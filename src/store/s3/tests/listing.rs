use super::*;
use crate::store::{UploadLister, UploadMarker};
use crate::test_server::{answer, error};
use std::time::SystemTime;

fn time(text: &str) -> SystemTime {
    humantime::parse_rfc3339(text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_page_tells_uploads_the_next_page_and_the_time() {
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
        <ListMultipartUploadsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
        <Bucket>b</Bucket><KeyMarker/><UploadIdMarker/><MaxUploads>250</MaxUploads>\
        <NextKeyMarker>some/key</NextKeyMarker><NextUploadIdMarker>id-2</NextUploadIdMarker>\
        <IsTruncated>true</IsTruncated>\
        <Upload><Key>one</Key><UploadId>id-1</UploadId><Initiator><ID>i</ID></Initiator>\
        <Owner><ID>o</ID></Owner><StorageClass>STANDARD</StorageClass>\
        <Initiated>2024-11-10T20:48:33.250Z</Initiated></Upload>\
        <Upload><Key>two</Key><UploadId>id-2</UploadId><Initiated>yesterday</Initiated></Upload>\
        <CommonPrefixes><Prefix>p</Prefix></CommonPrefixes>\
        </ListMultipartUploadsResult>";
    let page = answer(200, body).header("date", "Sun, 10 Nov 2024 21:00:00 GMT");
    let (store, server) = scripted([page]).await;
    let after = UploadMarker {
        key: "a key".to_owned(),
        upload_id: Some("id-0".to_owned()),
    };
    let page = store.list_uploads(Some(&after)).await.unwrap();
    assert_eq!(
        server.lines(),
        ["GET /blobs-bucket?key-marker=a%20key&max-uploads=250\
             &prefix=some%2Froot%2Fdocker%2Fregistry%2Fv2%2Fblobs%2F&upload-id-marker=id-0&uploads="]
    );
    let uploads: Vec<_> = page
        .uploads
        .iter()
        .map(|upload| {
            (
                &*upload.handle.key,
                &*upload.handle.upload_id,
                upload.initiated,
            )
        })
        .collect();
    assert_eq!(
        uploads,
        [
            ("one", "id-1", Some(time("2024-11-10T20:48:33.250Z"))),
            ("two", "id-2", None),
        ]
    );
    assert_eq!(
        page.next,
        Some(UploadMarker {
            key: "some/key".to_owned(),
            upload_id: Some("id-2".to_owned())
        })
    );
    assert_eq!(page.store_time, Some(time("2024-11-10T21:00:00Z")));
}

#[tokio::test(start_paused = true)]
async fn the_last_page_has_no_next() {
    let body = "<ListMultipartUploadsResult><NextKeyMarker>k</NextKeyMarker>\
        <IsTruncated>false</IsTruncated></ListMultipartUploadsResult>";
    let (store, _server) = scripted([answer(200, body)]).await;
    let page = store.list_uploads(None).await.unwrap();
    assert_eq!((page.uploads.len(), page.next), (0, None));
    assert_eq!(page.store_time, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_list_is_a_fault() {
    for (step, class) in [
        (answer(200, "<html>"), FaultClass::Rejected),
        (answer(200, ""), FaultClass::Rejected),
        (
            answer(200, "<ListMultipartUploadsResult><IsTruncated>tr"),
            FaultClass::Rejected,
        ),
        (error(501, "NotImplemented"), FaultClass::Rejected),
        (error(404, "NoSuchBucket"), FaultClass::NotFound),
    ] {
        let (store, _server) = scripted([step]).await;
        let error = store.list_uploads(None).await.unwrap_err();
        assert_eq!(error.class, class);
    }
}

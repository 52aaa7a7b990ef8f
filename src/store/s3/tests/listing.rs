use super::*;
use crate::store::{LastPart, UploadLister, UploadMarker};
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

fn parts_page(next: Option<i64>, dates: &[&str]) -> String {
    let parts: String = dates
        .iter()
        .map(|date| {
            format!(
                "<Part><PartNumber>1</PartNumber><LastModified>{date}</LastModified>\
                 <ETag>&quot;e&quot;</ETag><Size>5242880</Size></Part>"
            )
        })
        .collect();
    let next = next.map_or_else(
        || "<IsTruncated>false</IsTruncated>".to_owned(),
        |next| {
            format!(
                "<NextPartNumberMarker>{next}</NextPartNumberMarker>\
                 <IsTruncated>true</IsTruncated>"
            )
        },
    );
    format!("<ListPartsResult><Bucket>b</Bucket>{next}{parts}</ListPartsResult>")
}

fn handle() -> UploadHandle {
    UploadHandle {
        key: "a/key".to_owned(),
        upload_id: "id".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_part_of_all_pages_counts() {
    let (old, new) = ("2024-11-10T20:00:00.000Z", "2024-11-10T21:00:00.000Z");
    let (store, server) = scripted([
        answer(200, &parts_page(Some(500), &[old, new])),
        answer(200, &parts_page(None, &[old])),
    ])
    .await;
    let last = store.last_part(&handle()).await.unwrap();
    assert_eq!(last, LastPart::At(time(new)));
    assert_eq!(
        server.lines(),
        [
            "GET /blobs-bucket/a/key?max-parts=500&uploadId=id",
            "GET /blobs-bucket/a/key?max-parts=500&part-number-marker=500&uploadId=id",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_parts_do_not_tell_is_not_made_up() {
    let date = "2024-11-10T20:00:00.000Z";
    for (steps, expected) in [
        (vec![answer(200, &parts_page(None, &[]))], LastPart::Never),
        (
            vec![answer(200, &parts_page(None, &[date, "yesterday"]))],
            LastPart::Unreadable,
        ),
        (
            vec![
                answer(200, &parts_page(Some(7), &[date])),
                answer(200, &parts_page(Some(7), &[date])),
            ],
            LastPart::Unreadable,
        ),
        (vec![error(404, "NoSuchUpload")], LastPart::Gone),
    ] {
        let (store, _server) = scripted(steps).await;
        assert_eq!(store.last_part(&handle()).await.unwrap(), expected);
    }
}

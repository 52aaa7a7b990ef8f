//! A bucket that refuses one call at a time.

use super::*;
use blobgate_testkit::faults::{Fault, Rule};
use bytes::Bytes;

fn denied() -> Fault {
    Fault::Status {
        status: 403,
        code: "AccessDenied".into(),
    }
}

const BLOBS: &str = "/docker/registry/v2/blobs/";
const REPOSITORIES: &str = "/docker/registry/v2/repositories/";

/// The call, part of its target, the checks that fail, the first of them with this permission.
#[tokio::test]
async fn a_refused_call_is_told_with_its_permission() {
    let stack = healthy().start().unwrap();
    for (operation, target, checks, permission) in [
        (
            "HeadBucket",
            "/registry",
            &["bucket.exists"][..],
            "s3:ListBucket on arn:aws:s3:::registry",
        ),
        (
            "HeadObject",
            BLOBS,
            &["blobs.missing", "blobs.head"],
            "s3:ListBucket",
        ),
        (
            "CreateMultipartUpload",
            BLOBS,
            &["blobs.create"],
            "s3:PutObject",
        ),
        ("UploadPart", BLOBS, &["blobs.part"], "s3:PutObject"),
        (
            "ListMultipartUploads",
            "",
            &["blobs.list"],
            "s3:ListBucketMultipartUploads on arn:aws:s3:::registry",
        ),
        (
            "ListParts",
            BLOBS,
            &["blobs.list_parts"],
            "s3:ListMultipartUploadParts on arn:aws:s3:::registry/docker/registry/v2/blobs/*",
        ),
        (
            "AbortMultipartUpload",
            BLOBS,
            &["blobs.abort"],
            "s3:AbortMultipartUpload on arn:aws:s3:::registry/docker/registry/v2/blobs/*",
        ),
        (
            "CompleteMultipartUpload",
            BLOBS,
            &["blobs.complete"],
            "s3:PutObject",
        ),
        ("PutObject", BLOBS, &["blobs.put"], "s3:PutObject"),
        (
            "PutObject",
            REPOSITORIES,
            &["links.put"],
            "s3:PutObject on arn:aws:s3:::registry/docker/registry/v2/repositories/*",
        ),
    ] {
        stack.s3_faults().clear();
        stack
            .s3_faults()
            .add(Rule::on(operation, denied()).target(target));
        let visit = Visit::new(&stack, as_it_is).with(&["--repository", "team/app"]);
        let diagnosis = visit.json();
        let found = if operation.starts_with("Head") {
            "403"
        } else {
            "AccessDenied"
        };
        diagnosis.assert_only("fail", checks, found, permission);
        // Also where aborting is refused: such an upload is completed, and its object deleted.
        assert_bucket_empty(&stack);
    }
}

/// blobgate deletes nothing, so that not being allowed to is no fault. What stays is always the same.
#[tokio::test]
async fn deleting_is_not_needed() {
    let stack = healthy().start().unwrap();
    stack.s3_faults().add(Rule::on("DeleteObject", denied()));
    let visit = Visit::new(&stack, as_it_is);
    let mut before = Vec::new();
    for run in 0..2 {
        let diagnosis = visit.json();
        diagnosis.assert_well(&["canary"]);
        let found = diagnosis.checks["cleanup"]["found"].as_str().unwrap();
        assert!(found.contains("s3:DeleteObject is not allowed"), "{found}");
        let left = objects(&stack, BUCKET);
        assert_eq!(left.len(), 2, "{left:?}");
        for key in &left {
            assert!(found.contains(key.as_str()), "{key} is not in {found}");
        }
        assert!(found.contains("/hashstates/"), "{found}");
        assert!(run == 0 || left == before);
        before = left;
        assert_no_uploads(&stack);
    }
    // What stays at a digest's key is that digest's blob.
    let key = before.iter().find(|key| key.ends_with("/data")).unwrap();
    let content = stack.s3().read_object(BUCKET, key).unwrap();
    assert_eq!(data_key(&blobgate_testkit::blob::sha256(content)), *key);

    // The registry neither shows it nor stumbles over it.
    let catalog = format!("{}/v2/_catalog", stack.registry().url());
    let catalog: Value = client()
        .get(catalog)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(catalog["repositories"], serde_json::json!([]));
    let collected = Command::new("docker-registry")
        .arg("garbage-collect")
        .arg(stack.dir().join("registry/registry.yml"))
        .env_remove("AWS_CA_BUNDLE")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&collected.stderr).into_owned()
        + &String::from_utf8_lossy(&collected.stdout);
    assert!(collected.status.success(), "{said}");
    let left = objects(&stack, BUCKET);
    assert_eq!(
        left,
        ["docker/registry/v2/repositories/_blobgate/doctor"],
        "{said}"
    );

    // Where deleting is allowed again, an earlier run's objects go as well.
    visit.json().assert_well(&["canary"]);
    stack.s3_faults().clear();
    visit.json().assert_well(&["canary"]);
    assert_eq!(objects(&stack, BUCKET), [""; 0]);
    assert_no_uploads(&stack);
}

/// Where every version is kept, deleting only hides: what is written is the same each time, and stays.
#[tokio::test]
async fn a_bucket_with_versions_keeps_one_blob() {
    let stack = healthy().start().unwrap();
    let hidden = Fault::Answer {
        status: 204,
        headers: vec![
            ("x-amz-version-id".into(), "1".into()),
            ("x-amz-delete-marker".into(), "true".into()),
        ],
        body: Bytes::new(),
    };
    stack.s3_faults().add(Rule::on("DeleteObject", hidden));
    let visit = Visit::new(&stack, as_it_is);
    for _ in 0..2 {
        let diagnosis = visit.json();
        diagnosis.assert_well(&["canary"]);
        let found = diagnosis.checks["cleanup"]["found"].as_str().unwrap();
        assert!(found.contains("keeps every version"), "{found}");
        assert_eq!(objects(&stack, BUCKET).len(), 2);
    }
}

/// As MinIO does it.
#[tokio::test]
async fn a_listing_that_does_not_go_by_prefix_is_warned_of() {
    let stack = healthy().start().unwrap();
    let nothing = Fault::Answer {
        status: 200,
        headers: vec![("content-type".into(), "application/xml".into())],
        body: Bytes::from_static(
            b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>\
              </ListMultipartUploadsResult>",
        ),
    };
    stack
        .s3_faults()
        .add(Rule::on("ListMultipartUploads", nothing));
    let visit = Visit::new(&stack, as_it_is);
    visit
        .json()
        .assert_only("warn", &["blobs.list"], "MinIO", "lifecycle");
    let allowed = Visit::new(&stack, as_it_is).with(&["--allow-warnings"]);
    let diagnosis = allowed.json();
    assert_eq!(
        (diagnosis.code, diagnosis.status("blobs.list")),
        (0, "warn")
    );
    let unneeded = Visit::new(&stack, |config| config.set("sweep.enabled", false));
    unneeded.json().assert_well(&["canary"]);
    assert_bucket_empty(&stack);
}

/// Neither an answer that is lost nor one fault in between leaves anything.
#[tokio::test]
async fn nothing_stays_of_calls_whose_answer_is_lost() {
    let stack = healthy().start().unwrap();
    for (operation, check) in [
        ("CreateMultipartUpload", "blobs.create"),
        ("UploadPart", "blobs.part"),
        ("PutObject", "blobs.put"),
    ] {
        stack.s3_faults().clear();
        stack.s3_faults().add(Rule::on(operation, Fault::CutAnswer));
        let diagnosis = Visit::new(&stack, as_it_is).json();
        assert_eq!(diagnosis.code, 1);
        assert_eq!(diagnosis.status(check), "fail");
        assert_eq!(
            diagnosis.status("cleanup"),
            "pass",
            "{:#}",
            diagnosis.document
        );
        assert_bucket_empty(&stack);
    }
}

/// What blobgate writes has the attributes of the configuration, and so do the doctor's objects.
#[tokio::test]
async fn objects_are_tried_as_they_will_be_written() {
    let stack = healthy().start().unwrap();
    stack.s3_faults().add(Rule::on("DeleteObject", denied()));
    let visit = Visit::new(&stack, |config| {
        config
            .set("bucket.encrypt", true)
            .set("bucket.storage_class", "STANDARD_IA")
    });
    visit.json().assert_well(&["canary"]);
    for key in objects(&stack, BUCKET) {
        let attributes = stack.s3().attributes(BUCKET, &key).unwrap();
        let shown = format!("{attributes:?}");
        assert!(
            shown.contains("AES256") && shown.contains("STANDARD_IA"),
            "{shown}"
        );
    }
}

/// The permissions that the manual asks for are those that refusals name.
#[tokio::test]
async fn the_manual_asks_for_what_is_tried() {
    let manual = include_str!("../../docs/OPERATIONS.md");
    let section = manual
        .split("## What it may do in the bucket")
        .nth(1)
        .unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let documented: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    let expected = [
        "s3:PutObject",
        "s3:GetObject",
        "s3:AbortMultipartUpload",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:ListMultipartUploadParts",
        "s3:PutObjectAcl",
        "kms:GenerateDataKey",
        "s3:DeleteObject",
    ];
    assert_eq!(documented, expected);
}

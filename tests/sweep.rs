//! The orphan sweep: what it aborts, and what it must never touch.

mod common;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::faults::{Dialect, Fault, FaultProxy, Gate, Rule};
use blobgate_testkit::process::{Blobgate, BlobgateOptions};
use blobgate_testkit::stack::{Stack, StackBuilder};
use common::*;
use std::collections::BTreeSet;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// More uploads than S3 lists in a page.
const MORE_THAN_A_PAGE: u64 = 1100;

/// A stack that sweeps every second what is older than a day.
fn sweeping() -> StackBuilder {
    stack().config("sweep.interval", "1s")
}

/// The key of some blob's data.
fn key(seed: u64) -> String {
    data_key(&Blob::new(seed, 8).sha256())
}

/// Opens an upload that looks this old.
fn open(stack: &Stack, key: &str, age: Duration) -> String {
    let id = stack.s3().create_upload(BUCKET, key);
    stack.s3().backdate_upload(BUCKET, &id, age);
    id
}

fn open_ids(stack: &Stack) -> BTreeSet<String> {
    let uploads = stack.s3().open_uploads(BUCKET);
    uploads.into_iter().map(|upload| upload.upload_id).collect()
}

/// Waits until a pass that began after this call has come to its end, however many pages it has.
async fn whole_pass(stack: &Stack) {
    let passes = || {
        let metrics = stack.blobgate().metrics().unwrap();
        metrics["blobgate_sweep_passes_total{outcome=\"complete\"}"]
    };
    // The pass that is under way, and the one after it, whose end the next listing proves.
    let wanted = passes() + 2.0;
    let mut listed = stack.s3_faults().calls()["ListMultipartUploads"];
    while passes() < wanted {
        listed += 1;
        stack
            .s3_faults()
            .finished("ListMultipartUploads", listed)
            .await;
    }
}

/// Waits for the first listing, so that [`whole_pass`] has something to count from.
async fn first_pass(stack: &Stack) {
    stack.s3_faults().finished("ListMultipartUploads", 1).await;
    whole_pass(stack).await;
}

fn swept(stack: &Stack, outcome: &str) -> f64 {
    let metrics = stack.blobgate().metrics().unwrap();
    metrics[&format!("blobgate_sweep_uploads_total{{outcome=\"{outcome}\"}}")]
}

#[tokio::test]
async fn old_uploads_are_aborted_over_all_pages_and_nothing_else() {
    let stack = sweeping().start().unwrap();
    let mut kept = BTreeSet::new();
    for seed in 0..MORE_THAN_A_PAGE {
        // The young ones lie among the old ones, on every page.
        let age = if seed % 10 == 0 { 23 * HOUR } else { 25 * HOUR };
        let id = open(&stack, &key(seed), age);
        if seed % 10 == 0 {
            kept.insert(id);
        }
    }
    let hex = "ab".repeat(32);
    for foreign in [
        "docker/registry/v2/repositories/a/_uploads/1b4e28ba-2fa1-11d2-883f-0016d3cca427/data"
            .to_owned(),
        "docker/registry/v2/blobs/sha256/_uploads/data".to_owned(),
        format!("docker/registry/v2/blobs/sha256/ab/{hex}/data.bak"),
        format!("docker/registry/v2/blobs/sha256/cd/{hex}/data"),
        format!("docker/registry/v2/blobs/md5/ab/{hex}/data"),
        format!("elsewhere/docker/registry/v2/blobs/sha256/ab/{hex}/data"),
        format!("blobs/sha256/{hex}"),
    ] {
        kept.insert(open(&stack, &foreign, 1000 * HOUR));
    }
    first_pass(&stack).await;
    assert_eq!(open_ids(&stack), kept);
    let aborted = (MORE_THAN_A_PAGE - MORE_THAN_A_PAGE / 10) as f64;
    assert_eq!(swept(&stack, "aborted"), aborted);
    assert_eq!(swept(&stack, "failed"), 0.0);
    assert!(swept(&stack, "live") >= (MORE_THAN_A_PAGE / 10) as f64);
    let pages = stack.s3_faults().records();
    let followed = |target: &str| target.contains("key-marker=docker");
    assert!(pages.iter().any(|record| followed(&record.target)));
}

#[tokio::test]
async fn a_live_upload_of_this_or_another_process_is_left_alone() {
    let stack = sweeping().start().unwrap();
    let gate = Gate::new();
    let hold = Rule::on("UploadPart", Fault::HoldBefore(gate.clone()));
    stack.s3_faults().add(hold);
    let blob = Blob::new(1, 2 * PART + 1);
    let url = blob_url(&stack, "a", &blob.sha256());
    let push = tokio::spawn(client().put(url).body(blob.bytes()).send());
    gate.reached(1).await;
    let ours = open_ids(&stack);
    assert_eq!(ours.len(), 1);
    // The registry's own commit, hours long.
    let theirs = open(&stack, &key(9), 20 * HOUR);
    first_pass(&stack).await;
    let both: BTreeSet<String> = ours.into_iter().chain([theirs.clone()]).collect();
    assert_eq!(open_ids(&stack), both);
    gate.release();
    assert_eq!(push.await.unwrap().unwrap().status(), 201);
    assert_eq!(open_ids(&stack), BTreeSet::from([theirs]));
}

#[tokio::test]
async fn an_upload_that_moves_is_live_however_long_ago_it_was_begun() {
    let stack = sweeping().start().unwrap();
    let (opened, second) = (Gate::new(), Gate::new());
    let faults = stack.s3_faults();
    faults.add(Rule::on(
        "CreateMultipartUpload",
        Fault::HoldAfter(opened.clone()),
    ));
    faults.add(Rule::on("UploadPart", Fault::HoldBefore(second.clone())).target("partNumber=2"));
    let blob = Blob::new(1, 2 * PART + 1);
    let url = blob_url(&stack, "a", &blob.sha256());
    let push = tokio::spawn(client().put(url).body(blob.bytes()).send());
    opened.reached(1).await;
    let ids = open_ids(&stack);
    for id in &ids {
        stack.s3().backdate_upload(BUCKET, id, 300 * HOUR);
    }
    opened.release();
    // Now it has parts, and they are of today.
    second.reached(1).await;
    faults.finished("UploadPart", 1).await;
    let judged = faults.calls().get("ListParts").copied().unwrap_or(0);
    faults.finished("ListParts", judged + 2).await;
    assert_eq!(open_ids(&stack), ids);
    second.release();
    assert_eq!(push.await.unwrap().unwrap().status(), 201);
    assert_eq!(swept(&stack, "aborted"), 0.0);
    assert_no_uploads(&stack);
}

#[tokio::test]
async fn what_cannot_be_told_from_a_live_upload_stays() {
    let stack = sweeping().start().unwrap();
    let denied = Fault::Status {
        status: 403,
        code: "AccessDenied".to_owned(),
    };
    stack.s3_faults().add(Rule::on("ListParts", denied));
    let id = open(&stack, &key(1), 300 * HOUR);
    first_pass(&stack).await;
    assert_eq!(open_ids(&stack), BTreeSet::from([id]));
    assert!(swept(&stack, "failed") >= 1.0);
    stack.s3_faults().clear();
    whole_pass(&stack).await;
    assert_no_uploads(&stack);
}

#[tokio::test]
async fn a_dry_run_only_reports() {
    let stack = sweeping().config("sweep.dry_run", true).start().unwrap();
    let id = open(&stack, &key(1), 25 * HOUR);
    first_pass(&stack).await;
    assert_eq!(open_ids(&stack), BTreeSet::from([id.clone()]));
    assert!(swept(&stack, "reported") >= 1.0);
    assert_eq!(swept(&stack, "aborted"), 0.0);
    assert_eq!(stack.s3().calls().get("AbortMultipartUpload"), None);
    let log = stack.blobgate().log();
    assert!(log.contains(&format!("would abort upload {id}")), "{log}");
}

#[tokio::test]
async fn switched_off_it_does_not_even_list() {
    let stack = sweeping().config("sweep.enabled", false).start().unwrap();
    let id = open(&stack, &key(1), 25 * HOUR);
    // Another replica's passes tell how long is long enough.
    let proxy = FaultProxy::start(stack.s3().address(), Dialect::S3).unwrap();
    let replica = replica(&stack, &proxy, |config| {
        config.set("sweep.enabled", true).set("sweep.dry_run", true)
    });
    proxy.finished("ListMultipartUploads", 3).await;
    drop(replica);
    assert_eq!(stack.s3_faults().calls().get("ListMultipartUploads"), None);
    assert_eq!(open_ids(&stack), BTreeSet::from([id]));
}

#[tokio::test]
async fn replicas_sweep_side_by_side() {
    let stack = sweeping().config("sweep.enabled", false).start().unwrap();
    for seed in 0..30 {
        open(&stack, &key(seed), 25 * HOUR);
    }
    let young = open(&stack, &key(99), HOUR);
    // Every replica has the whole list before one of them aborts anything.
    let gate = Gate::new();
    let replicas: Vec<(Blobgate, FaultProxy)> = (0..3)
        .map(|_| {
            let proxy = FaultProxy::start(stack.s3().address(), Dialect::S3).unwrap();
            let hold = Fault::HoldAfter(gate.clone());
            proxy.add(Rule::on("ListMultipartUploads", hold).nth(1));
            let replica = replica(&stack, &proxy, |config| config.set("sweep.enabled", true));
            (replica, proxy)
        })
        .collect();
    gate.reached(3).await;
    gate.release();
    let mut aborted = 0.0;
    for (replica, proxy) in &replicas {
        // Each asks after all of them, and aborts those that the others have left it.
        proxy.finished("ListParts", 30).await;
        proxy.finished("ListMultipartUploads", 2).await;
        let metrics = replica.metrics().unwrap();
        let count =
            |outcome| metrics[&format!("blobgate_sweep_uploads_total{{outcome=\"{outcome}\"}}")];
        assert_eq!(count("failed"), 0.0);
        aborted += count("aborted");
    }
    assert!((30.0..=90.0).contains(&aborted), "{aborted}");
    assert_eq!(open_ids(&stack), BTreeSet::from([young]));
}

#[tokio::test]
async fn an_abort_or_a_listing_that_fails_stops_neither_this_pass_nor_the_next() {
    let stack = sweeping().start().unwrap();
    let denied = || Fault::Status {
        status: 403,
        code: "AccessDenied".to_owned(),
    };
    let stuck = key(1);
    stack
        .s3_faults()
        .add(Rule::on("AbortMultipartUpload", denied()).target(&stuck));
    let id = open(&stack, &stuck, 25 * HOUR);
    for seed in 2..12 {
        open(&stack, &key(seed), 25 * HOUR);
    }
    first_pass(&stack).await;
    assert_eq!(open_ids(&stack), BTreeSet::from([id]));
    assert!(swept(&stack, "failed") >= 1.0);
    assert_eq!(swept(&stack, "aborted"), 10.0);

    stack.s3_faults().clear();
    let listing = Rule::on("ListMultipartUploads", denied()).nth(1);
    stack.s3_faults().add(listing);
    whole_pass(&stack).await;
    assert_no_uploads(&stack);
    let metrics = stack.blobgate().metrics().unwrap();
    let cut_short = metrics["blobgate_sweep_passes_total{outcome=\"cut_short\"}"];
    assert_eq!(cut_short, 1.0);
}

#[tokio::test]
async fn the_flat_layout_and_a_root_directory_are_swept() {
    let hex = "ab".repeat(32);
    let flat = format!("blobs/sha256/{hex}");
    let deep = format!("docker/registry/v2/blobs/sha256/ab/{hex}/data");
    for (layout, ours, others) in [("flat", &flat, &deep), ("distribution", &deep, &flat)] {
        let stack = sweeping()
            .config("bucket.layout", layout)
            .registry(|registry| registry.root_directory = Some("/some/root".into()))
            .start()
            .unwrap();
        open(&stack, &format!("some/root/{ours}"), 25 * HOUR);
        let kept = [
            open(&stack, &format!("some/root/{others}"), 25 * HOUR),
            open(&stack, ours, 25 * HOUR),
            open(&stack, &format!("some/rooted/{ours}"), 25 * HOUR),
        ];
        first_pass(&stack).await;
        assert_eq!(open_ids(&stack), BTreeSet::from(kept), "{layout}");
    }
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_pass() {
    let stack = sweeping().start().unwrap();
    open(&stack, &key(1), 25 * HOUR);
    let gate = Gate::new();
    let hold = Rule::on("ListMultipartUploads", Fault::HoldBefore(gate.clone()));
    stack.s3_faults().add(hold);
    gate.reached(1).await;
    stack.blobgate().terminate();
    let status = stack.blobgate().wait(Duration::from_secs(30));
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}

/// One more blobgate on the same bucket, through a proxy of its own.
fn replica(
    stack: &Stack,
    proxy: &FaultProxy,
    edit: impl FnOnce(blobgate_testkit::process::Config) -> blobgate_testkit::process::Config,
) -> Blobgate {
    let options = stack.blobgate_options().clone();
    let name = format!("replica-{}", proxy.address().port());
    Blobgate::start(&BlobgateOptions {
        dir: stack.dir().join(name),
        config: edit(options.config.set("bucket.endpoint", proxy.url())),
        ..options
    })
    .unwrap()
}

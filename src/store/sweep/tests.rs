use super::*;
use crate::config::LayoutKind;
use crate::registry::{Digest, RepositoryName};
use crate::request_id::RequestId;
use crate::store::{
    BlobStore, Completion, FaultClass, LastPart, Part, PartReceipt, StoreObserver, StoreOperation,
    UploadHandle, UploadPage,
};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

/// A store that has nothing but open uploads.
#[derive(Default)]
struct Bucket {
    pages: Vec<Result<UploadPage, StoreError>>,
    listings: AtomicUsize,
    aborted: Mutex<Vec<String>>,
    /// Upload ids whose abort fails.
    stuck: Vec<&'static str>,
    /// By upload id, where there is any part to tell of; `None` fails.
    last_parts: HashMap<&'static str, Option<LastPart>>,
}

fn fault(operation: StoreOperation) -> StoreError {
    StoreError {
        operation,
        class: FaultClass::Unavailable,
        status: Some(500),
        code: None,
        message: "scripted".to_owned(),
        attempts: 1,
        elapsed: Duration::ZERO,
    }
}

#[async_trait]
impl UploadLister for Bucket {
    async fn list_uploads(&self, after: Option<&UploadMarker>) -> Result<UploadPage, StoreError> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        let page = after.map_or(0, |marker| marker.key.parse().unwrap());
        self.pages[page].clone()
    }

    async fn last_part(&self, upload: &UploadHandle) -> Result<LastPart, StoreError> {
        match self.last_parts.get(&*upload.upload_id) {
            None => Ok(LastPart::Never),
            Some(Some(last)) => Ok(*last),
            Some(None) => Err(fault(StoreOperation::ListParts)),
        }
    }
}

#[async_trait]
impl BlobStore for Bucket {
    fn on_behalf_of(
        self: Arc<Self>,
        _: &RequestId,
        _: Arc<dyn StoreObserver>,
    ) -> Arc<dyn BlobStore> {
        self
    }

    async fn abort_upload(&self, upload: &UploadHandle) -> Result<(), StoreError> {
        if self.stuck.contains(&&*upload.upload_id) {
            return Err(fault(StoreOperation::AbortMultipartUpload));
        }
        self.aborted.lock().unwrap().push(upload.upload_id.clone());
        Ok(())
    }

    async fn blob_size(&self, _: &Digest) -> Result<Option<u64>, StoreError> {
        unreachable!()
    }

    async fn put_blob(&self, _: &Digest, _: Part) -> Result<(), StoreError> {
        unreachable!()
    }

    async fn create_upload(&self, _: &Digest) -> Result<UploadHandle, StoreError> {
        unreachable!()
    }

    async fn put_part(&self, _: &UploadHandle, _: u16, _: Part) -> Result<PartReceipt, StoreError> {
        unreachable!()
    }

    async fn complete_upload(
        &self,
        _: &UploadHandle,
        _: &[PartReceipt],
        _: u64,
    ) -> Result<Completion, StoreError> {
        unreachable!()
    }

    async fn link(&self, _: &RepositoryName, _: &Digest) -> Result<(), StoreError> {
        unreachable!()
    }

    async fn check(&self) -> Result<(), StoreError> {
        unreachable!()
    }
}

fn layout() -> Layout {
    Layout::new(LayoutKind::Distribution, "")
}

fn data_key() -> String {
    let hex = "ab".repeat(32);
    format!("docker/registry/v2/blobs/sha256/ab/{hex}/data")
}

fn open(id: &str, key: &str, initiated: Option<SystemTime>) -> OpenUpload {
    OpenUpload {
        handle: UploadHandle {
            key: key.to_owned(),
            upload_id: id.to_owned(),
        },
        initiated,
    }
}

fn page(uploads: impl IntoIterator<Item = OpenUpload>) -> UploadPage {
    UploadPage {
        uploads: uploads.into_iter().collect(),
        next: None,
        store_time: Some(SystemTime::now()),
    }
}

fn next(page: usize) -> Option<UploadMarker> {
    Some(UploadMarker {
        key: page.to_string(),
        upload_id: None,
    })
}

fn settings() -> config::Sweep {
    config::Sweep {
        enabled: true,
        interval: HOUR,
        older_than: 24 * HOUR,
        dry_run: false,
    }
}

fn ago(age: Duration) -> Option<SystemTime> {
    Some(SystemTime::now() - age)
}

fn counts(report: &SweepReport) -> [u64; 4] {
    [
        report.listed,
        report.orphaned,
        report.aborted,
        report.failed,
    ]
}

#[tokio::test]
async fn only_old_uploads_at_data_keys_are_aborted() {
    let foreign = "docker/registry/v2/repositories/a/_uploads/7a6e/data";
    let bucket = Bucket {
        pages: vec![Ok(page([
            open("old", &data_key(), ago(25 * HOUR)),
            open("young", &data_key(), ago(23 * HOUR)),
            open(
                "just at the limit",
                &data_key(),
                ago(24 * HOUR - Duration::from_secs(60)),
            ),
            open(
                "of the future",
                &data_key(),
                Some(SystemTime::now() + 48 * HOUR),
            ),
            open("undated", &data_key(), None),
            open("foreign", foreign, ago(25 * HOUR)),
            open("nearly", &format!("{}x", data_key()), ago(25 * HOUR)),
        ]))],
        ..Bucket::default()
    };
    let report = sweep(&bucket, &layout(), &settings()).await;
    assert_eq!(counts(&report), [5, 1, 1, 0]);
    assert!(report.cut_short.is_none());
    assert_eq!(*bucket.aborted.lock().unwrap(), ["old"]);
}

#[tokio::test]
async fn what_still_gets_parts_is_no_orphan_however_old() {
    let last = |age| Some(LastPart::At(SystemTime::now() - age));
    let ids = [
        "moving",
        "still",
        "undated",
        "gone",
        "unknown",
        "without parts",
    ];
    let bucket = Bucket {
        pages: vec![Ok(page(
            ids.map(|id| open(id, &data_key(), ago(300 * HOUR))),
        ))],
        last_parts: HashMap::from([
            ("moving", last(23 * HOUR)),
            ("still", last(25 * HOUR)),
            ("undated", Some(LastPart::Unreadable)),
            ("gone", Some(LastPart::Gone)),
            ("unknown", None),
        ]),
        ..Bucket::default()
    };
    let report = sweep(&bucket, &layout(), &settings()).await;
    assert_eq!(counts(&report), [5, 2, 2, 0]);
    assert_eq!(report.unknown, 1);
    assert_eq!(*bucket.aborted.lock().unwrap(), ["still", "without parts"]);
}

#[tokio::test]
async fn age_is_reckoned_by_the_stores_clock() {
    // Our clock is ten days ahead: by it, a live upload would look old.
    let store_time = SystemTime::now() - 240 * HOUR;
    let bucket = Bucket {
        pages: vec![Ok(UploadPage {
            store_time: Some(store_time),
            ..page([
                open("live", &data_key(), Some(store_time - HOUR)),
                open("old", &data_key(), Some(store_time - 25 * HOUR)),
            ])
        })],
        ..Bucket::default()
    };
    sweep(&bucket, &layout(), &settings()).await;
    assert_eq!(*bucket.aborted.lock().unwrap(), ["old"]);
}

#[tokio::test]
async fn without_the_stores_clock_ours_serves() {
    let bucket = Bucket {
        pages: vec![Ok(UploadPage {
            store_time: None,
            ..page([
                open("young", &data_key(), ago(HOUR)),
                open("old", &data_key(), ago(25 * HOUR)),
            ])
        })],
        ..Bucket::default()
    };
    sweep(&bucket, &layout(), &settings()).await;
    assert_eq!(*bucket.aborted.lock().unwrap(), ["old"]);
}

#[tokio::test]
async fn all_pages_are_seen_and_a_failed_abort_stops_nothing() {
    let old = |id: &str| open(id, &data_key(), ago(25 * HOUR));
    let bucket = Bucket {
        pages: vec![
            Ok(UploadPage {
                next: next(1),
                ..page([old("a"), old("stuck")])
            }),
            Ok(UploadPage {
                next: next(2),
                ..page([])
            }),
            Ok(page([old("b")])),
        ],
        stuck: vec!["stuck"],
        ..Bucket::default()
    };
    let report = sweep(&bucket, &layout(), &settings()).await;
    assert_eq!(counts(&report), [3, 3, 2, 1]);
    assert_eq!(*bucket.aborted.lock().unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn a_dry_run_touches_nothing() {
    let bucket = Bucket {
        pages: vec![Ok(page([open("old", &data_key(), ago(25 * HOUR))]))],
        ..Bucket::default()
    };
    let settings = config::Sweep {
        dry_run: true,
        ..settings()
    };
    let report = sweep(&bucket, &layout(), &settings).await;
    assert_eq!(counts(&report), [1, 1, 0, 0]);
    assert!(bucket.aborted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_failed_listing_ends_the_pass_and_keeps_its_counts() {
    let bucket = Bucket {
        pages: vec![
            Ok(UploadPage {
                next: next(1),
                ..page([open("old", &data_key(), ago(25 * HOUR))])
            }),
            Err(fault(StoreOperation::ListMultipartUploads)),
        ],
        ..Bucket::default()
    };
    let report = sweep(&bucket, &layout(), &settings()).await;
    assert_eq!(counts(&report), [1, 1, 1, 0]);
    assert!(report.cut_short.is_some());
}

#[tokio::test]
async fn a_marker_that_goes_nowhere_ends_the_pass() {
    let bucket = Bucket {
        pages: vec![
            Ok(UploadPage {
                next: next(1),
                ..page([])
            }),
            Ok(UploadPage {
                next: next(1),
                ..page([])
            }),
        ],
        ..Bucket::default()
    };
    sweep(&bucket, &layout(), &settings()).await;
    assert_eq!(bucket.listings.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn passes_come_once_an_interval_from_a_random_start() {
    let mut starts = Vec::new();
    for _ in 0..20 {
        let bucket = Bucket {
            pages: vec![Ok(page([]))],
            ..Bucket::default()
        };
        let started = Instant::now();
        let passes = Mutex::new(Vec::new());
        run(
            &bucket,
            &layout(),
            &settings(),
            |_| passes.lock().unwrap().push(started.elapsed()),
            tokio::time::sleep(5 * HOUR / 2),
        )
        .await;
        let passes = passes.into_inner().unwrap();
        assert!(passes[0] <= FIRST_WITHIN);
        assert_eq!(passes.len(), 3, "{passes:?}");
        for pair in passes.windows(2) {
            let gap = pair[1] - pair[0];
            assert!(gap >= HOUR && gap < HOUR + Duration::from_secs(1));
        }
        starts.push(passes[0]);
    }
    let (first, last) = (starts.iter().min().unwrap(), starts.iter().max().unwrap());
    assert!(*last - *first > FIRST_WITHIN / 10, "{starts:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_switched_off_never_lists() {
    let bucket = Bucket::default();
    let settings = config::Sweep {
        enabled: false,
        ..settings()
    };
    run(
        &bucket,
        &layout(),
        &settings,
        |_| {},
        std::future::pending(),
    )
    .await;
    assert_eq!(bucket.listings.load(Ordering::Relaxed), 0);
}

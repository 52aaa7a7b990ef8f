//! The pipeline against a store in memory that can be told to fail: whatever happens, the store
//! holds the verified blob or nothing, and nothing is left reserved or open.

mod memory_store;

use super::*;
use crate::metrics::Metrics;
use crate::registry::{BlobPush, DigestHasher};
use crate::store::StoreOperation;
use bytes::Bytes;
use memory_store::{Fault, MemoryStore};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A body of prepared chunks, with a chosen end.
struct Chunks {
    chunks: VecDeque<Bytes>,
    end: Result<(), BodyError>,
}

impl BodySource for Chunks {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        match self.chunks.pop_front() {
            Some(chunk) => Ok(Some(chunk)),
            None => self.end.clone().map(|()| None),
        }
    }
}

fn split(data: &[u8], at: usize) -> Chunks {
    Chunks {
        chunks: data.chunks(at.max(1)).map(Bytes::copy_from_slice).collect(),
        end: Ok(()),
    }
}

/// Cut into pieces of these lengths, over and over.
fn cut(data: &[u8], lengths: &[usize]) -> Chunks {
    let mut rest = data;
    let pieces = lengths.iter().cycle().map_while(|&length| {
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        (!piece.is_empty()).then(|| Bytes::copy_from_slice(piece))
    });
    Chunks {
        chunks: pieces.collect(),
        end: Ok(()),
    }
}

const BLOCK: u64 = 64 << 10;
const PART: u64 = 2 * BLOCK;

/// A part size far under S3's, which the pipeline does not know of, keeps the tests small.
struct Bench {
    store: Arc<MemoryStore>,
    admission: Arc<Admission>,
    metrics: Arc<Metrics>,
    aborter: Aborter,
    uploader: Uploader,
}

impl Bench {
    fn new(fault: Option<Fault>) -> Self {
        Self::with_budget(fault, 4 * PART)
    }

    fn with_budget(fault: Option<Fault>, budget: u64) -> Self {
        Self::with_parts(fault, budget, PART)
    }

    fn with_parts(fault: Option<Fault>, budget: u64, part_size: u64) -> Self {
        let store = Arc::new(MemoryStore {
            fault,
            ..MemoryStore::default()
        });
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let admission = Arc::new(Admission::new(2, budget, Duration::from_secs(60)));
        let aborter = Aborter::new(Arc::clone(&store) as _, Arc::clone(&metrics));
        let limits = Limits {
            part_size,
            max_blob_size: 64 * PART,
            part_concurrency: (2, 4),
        };
        let uploader = Uploader::new(
            Arc::clone(&store) as _,
            Arc::clone(&admission),
            aborter.clone(),
            limits,
        );
        Self {
            store,
            admission,
            metrics,
            aborter,
            uploader,
        }
    }

    async fn push(
        &self,
        push: &BlobPush,
        length: Option<u64>,
        body: Chunks,
    ) -> Result<u64, UploadError> {
        let plan = self.uploader.plan(length)?;
        let admitted = self.uploader.admit(&plan).await?;
        let held = Held::Nothing;
        let record = self.record();
        self.uploader
            .store(push, plan, admitted, held, body, &record)
            .await
    }

    fn record(&self) -> Arc<PushRecord> {
        Arc::new(PushRecord::new(Arc::clone(&self.metrics)))
    }

    /// After every push: nothing reserved, nothing open.
    async fn assert_nothing_left(&self) {
        self.aborter.finish().await;
        assert_eq!(self.admission.memory_in_use(), 0);
        assert_eq!(self.admission.slots_in_use(), 0);
        assert!(self.store.state.lock().unwrap().uploads.is_empty());
    }

    fn stored(&self, push: &BlobPush) -> Option<Vec<u8>> {
        let state = self.store.state.lock().unwrap();
        state.objects.get(push.digest.hex()).cloned()
    }
}

fn data(len: u64) -> Vec<u8> {
    (0..len)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8)
        .collect()
}

fn push_of(data: &[u8]) -> BlobPush {
    let mut hasher = DigestHasher::new(crate::registry::Algorithm::Sha256);
    hasher.update(data);
    BlobPush {
        name: "team/app".parse().unwrap(),
        digest: hasher.finish(),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_split_of_the_same_bytes_gives_the_same_object(
        length in prop_oneof![
            0..10u64,
            PART - 2..PART + 3,
            2 * PART - 2..2 * PART + 3,
            0..6 * PART,
        ],
        part_size in prop_oneof![Just(PART), 1..2 * PART],
        cuts in prop_oneof![
            prop::collection::vec(prop_oneof![1usize..4, 1000usize..70_000], 1..8),
            Just(vec![PART as usize]),
            Just(vec![usize::MAX]),
        ],
        announced: bool,
    ) {
        // As S3 takes no more parts, no more are made of so little.
        let part_size = part_size.max(length.div_ceil(100));
        let data = data(length);
        let push = push_of(&data);
        block_on(async {
            let bench = Bench::with_parts(None, 8 * PART, part_size);
            let body = cut(&data, &cuts);
            let size = bench.push(&push, announced.then_some(length), body).await;
            assert_eq!(size.unwrap(), length);
            bench.assert_nothing_left().await;
            assert_eq!(bench.stored(&push).as_deref(), Some(&data[..]));
            let state = bench.store.state.lock().unwrap();
            assert_eq!(state.links, [format!("{}@{}", push.name, push.digest)]);
            let parts = length.div_ceil(part_size) as usize;
            assert_eq!(state.largest_part_count, if parts > 1 { parts } else { 0 });
            assert_eq!(state.opened, usize::from(parts > 1));
        });
    }

    #[test]
    fn a_wrong_body_leaves_nothing(
        length in prop_oneof![1..10u64, PART - 2..PART + 3, 0..6 * PART],
        announced: bool,
        wrong in 0..3,
    ) {
        let data = data(length.max(1));
        let mut push = push_of(&data);
        block_on(async {
            let bench = Bench::new(None);
            let mut body = split(&data, 50_000);
            let mut length = announced.then_some(data.len() as u64);
            match wrong {
                0 => push.digest = push_of(b"something else").digest,
                1 => body.end = Err(BodyError::ClientGone),
                _ => length = Some(data.len() as u64 + 1),
            }
            let error = bench.push(&push, length, body).await.unwrap_err();
            match wrong {
                0 => assert!(matches!(error, UploadError::DigestMismatch { .. })),
                1 => assert!(matches!(error, UploadError::Body(BodyError::ClientGone))),
                _ => assert!(matches!(error, UploadError::LengthMismatch { .. })),
            }
            bench.assert_nothing_left().await;
            let state = bench.store.state.lock().unwrap();
            assert!(state.objects.is_empty() && state.links.is_empty());
        });
    }
}

#[tokio::test]
async fn every_failing_call_leaves_nothing() {
    use StoreOperation::*;
    let data = data(5 * PART + 1);
    let push = push_of(&data);
    let mut cases = vec![
        Fault::Fail(CreateMultipartUpload, 1),
        Fault::Fail(CompleteMultipartUpload, 1),
    ];
    cases.extend((1..=6).map(|nth| Fault::Fail(UploadPart, nth)));
    for fault in cases {
        let bench = Bench::new(Some(fault));
        let error = bench
            .push(&push, Some(data.len() as u64), split(&data, 60_000))
            .await
            .unwrap_err();
        assert!(matches!(error, UploadError::Store(_)), "{error}");
        bench.assert_nothing_left().await;
        assert_eq!(bench.stored(&push), None);
        assert!(bench.store.state.lock().unwrap().links.is_empty());
    }
}

#[tokio::test]
async fn a_push_dropped_at_any_call_is_aborted() {
    use StoreOperation::*;
    let data = data(5 * PART + 1);
    let push = push_of(&data);
    for fault in [
        Fault::Hang(UploadPart, 1),
        Fault::Hang(UploadPart, 6),
        Fault::Hang(CompleteMultipartUpload, 1),
    ] {
        let bench = Bench::new(Some(fault));
        tokio::select! {
            done = bench.push(&push, None, split(&data, 60_000)) => panic!("ended: {done:?}"),
            () = bench.store.hanging.notified() => {}
        }
        bench.assert_nothing_left().await;
        assert_eq!(bench.stored(&push), None);
        let state = bench.store.state.lock().unwrap();
        assert_eq!(state.calls.last(), Some(&AbortMultipartUpload));
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_does_not_wait_for_ever_for_an_upload_to_abort() {
    let data = data(5 * PART + 1);
    let push = push_of(&data);
    let bench = Bench::new(Some(Fault::Hang(StoreOperation::CreateMultipartUpload, 1)));
    tokio::select! {
        done = bench.push(&push, None, split(&data, 60_000)) => panic!("ended: {done:?}"),
        () = bench.store.hanging.notified() => {}
    }
    let began = tokio::time::Instant::now();
    bench.aborter.finish().await;
    assert_eq!(began.elapsed(), Duration::from_secs(60));
    assert_eq!(bench.metrics.aborts_failed.get(), 1);
    assert_eq!(bench.admission.memory_in_use(), 0);
}

#[tokio::test]
async fn an_upload_whose_blob_another_completed_is_aborted() {
    let data = data(2 * PART);
    let push = push_of(&data);
    let bench = Bench::new(Some(Fault::Found));
    let size = bench.push(&push, None, split(&data, 60_000)).await;
    assert_eq!(size.unwrap(), 2 * PART);
    bench.assert_nothing_left().await;
    assert_eq!(bench.store.state.lock().unwrap().links.len(), 1);
}

#[tokio::test]
async fn too_long_is_refused_before_the_first_byte_or_at_the_limit() {
    let bench = Bench::new(None);
    let limit = 64 * PART;
    assert!(matches!(
        bench.uploader.plan(Some(limit + 1)),
        Err(UploadError::TooLong { .. })
    ));
    let data = data(limit + 1);
    let push = push_of(&data);
    let error = bench
        .push(&push, None, split(&data, 70_000))
        .await
        .unwrap_err();
    assert!(matches!(error, UploadError::TooLong { .. }), "{error}");
    bench.assert_nothing_left().await;
    let exact = &data[..limit as usize];
    let push = push_of(exact);
    bench.push(&push, None, split(exact, 70_000)).await.unwrap();
    bench.assert_nothing_left().await;
}

#[tokio::test]
async fn one_buffer_is_enough_to_go_on() {
    let bench = Bench::with_budget(None, PART);
    let data = data(9 * PART + 5);
    let push = push_of(&data);
    let (one, two) = tokio::join!(
        bench.push(&push, None, split(&data, 60_000)),
        bench.push(&push, Some(data.len() as u64), split(&data, 60_000)),
    );
    assert_eq!((one.unwrap(), two.unwrap()), (9 * PART + 5, 9 * PART + 5));
    bench.assert_nothing_left().await;
    assert_eq!(bench.stored(&push), Some(data));
}

#[tokio::test]
async fn a_link_needs_the_whole_body_and_the_data() {
    let bench = Bench::new(None);
    let data = data(3 * PART);
    let push = push_of(&data);
    let plan = bench.uploader.plan(None).unwrap();
    let record = bench.record();
    let prove = |body| bench.uploader.prove_and_link(&push, plan, body, &record);

    let wrong = prove(split(&data[1..], 50_000)).await;
    assert!(matches!(wrong, Err(UploadError::DigestMismatch { .. })));
    assert!(bench.store.state.lock().unwrap().links.is_empty());

    let vanished = prove(split(&data, 50_000)).await;
    assert!(matches!(
        vanished,
        Err(UploadError::DataUnfit { found: None, .. })
    ));
    assert!(bench.store.state.lock().unwrap().links.is_empty());

    let hex = push.digest.hex().to_owned();
    let broken = b"half".to_vec();
    bench
        .store
        .state
        .lock()
        .unwrap()
        .objects
        .insert(hex, broken);
    let unfit = prove(split(&data, 50_000)).await;
    assert!(matches!(
        unfit,
        Err(UploadError::DataUnfit { found: Some(4), .. })
    ));
    assert!(bench.store.state.lock().unwrap().links.is_empty());

    let hex = push.digest.hex().to_owned();
    bench
        .store
        .state
        .lock()
        .unwrap()
        .objects
        .insert(hex, data.clone());
    assert_eq!(prove(split(&data, 50_000)).await.unwrap(), 3 * PART);
    assert_eq!(bench.store.state.lock().unwrap().opened, 0);
    bench.assert_nothing_left().await;
}

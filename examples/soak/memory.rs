//! How much memory many large pushes at once take, with a store that is slower than they are, so
//! that every part buffer is in use.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use blobgate_testkit::blob::Blob;
use blobgate_testkit::faults::Shape;
use blobgate_testkit::stack::Stack;
use reqwest::{Body, Client};
use tokio::time::Instant;

const BUCKET: &str = "registry";
const MIB: u64 = 1 << 20;
const PUSHES: u64 = 32;
const SIZE: u64 = 512 * MIB;
const CHUNK: usize = 64 << 10;

/// What blobgate may take beside its budget.
const BESIDE: u64 = 64 * MIB;

/// Slow enough that parts are full before the ones before them are gone.
const STORE: u64 = 30 * MIB;

/// Fails when more was taken than may be.
pub async fn run(blobgate: &Path, threads: Option<usize>) -> Result<(), String> {
    let mut builder = Stack::builder();
    if let Some(threads) = threads {
        builder = builder.config("threads", threads as u64);
    }
    let stack = builder
        .blobgate(blobgate)
        .s3_faults()
        // 24 of them wait for a slot, and no default is made for that.
        .config("upload.admission_timeout", "1h")
        .start()
        .map_err(|error| error.to_string())?;
    stack.s3_faults().set_shape(Shape {
        bytes_per_second: Some(STORE),
        ..Shape::default()
    });
    let blobgate = stack.blobgate();
    let error = |error: std::io::Error| error.to_string();
    let idle = blobgate.rss_bytes().map_err(error)?;
    let began = Instant::now();
    let most_used = AtomicU64::new(0);
    let watch = async {
        loop {
            if let Ok(metrics) = blobgate.metrics() {
                let used = metrics["blobgate_memory_budget_used_bytes"] as u64;
                most_used.fetch_max(used, Ordering::Relaxed);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        pushed = push_all(&stack) => {
            pushed.map_err(|reason| format!("{reason}; blobgate's log:\n{}", blobgate.log()))?;
        }
        () = watch => unreachable!("it watches for ever"),
    }
    let seconds = began.elapsed().as_secs_f64();
    let peak = blobgate.peak_rss_bytes().map_err(error)?;
    let after = blobgate.rss_bytes().map_err(error)?;
    let cpu = blobgate.cpu_seconds().map_err(error)?;
    let metrics = blobgate.metrics().map_err(error)?;
    let budget = metrics["blobgate_memory_budget_bytes"] as u64;
    let allowed = budget + BESIDE;
    let gib = (PUSHES * SIZE) as f64 / (1 << 30) as f64;
    println!(
        "{PUSHES} pushes of {} MiB in {seconds:.0} s; peak RSS {} MiB of {} MiB allowed (budget {} \
         MiB, of which {} MiB were used); idle before {} MiB, after {} MiB; {:.2} CPU seconds a GiB",
        SIZE / MIB,
        peak / MIB,
        allowed / MIB,
        budget / MIB,
        most_used.load(Ordering::Relaxed) / MIB,
        idle / MIB,
        after / MIB,
        cpu / gib,
    );
    if most_used.into_inner() < budget / 10 * 9 {
        return Err("the budget was never used up, so this says nothing".to_owned());
    }
    if peak > allowed {
        return Err(format!("{} MiB too much", (peak - allowed).div_ceil(MIB)));
    }
    Ok(())
}

async fn push_all(stack: &Stack) -> Result<(), String> {
    let client = Client::builder()
        .no_proxy()
        // The kernel would take 30 seconds in which blobgate does not read for a lost connection.
        .tcp_user_timeout(None)
        .build()
        .map_err(|error| error.to_string())?;
    let digests = futures::future::join_all((0..PUSHES).map(|seed| {
        let blob = Blob::new(seed, SIZE);
        tokio::task::spawn_blocking(move || (blob, blob.sha256()))
    }));
    let mut blobs = Vec::new();
    for digest in digests.await {
        blobs.push(digest.map_err(|error| error.to_string())?);
    }
    let pushes = blobs.into_iter().map(|(blob, digest)| {
        let url = format!("{}/v2/memory/blobs/{digest}", stack.blobgate().url());
        let request = client
            .put(url)
            .header("content-length", blob.size)
            .body(Body::wrap_stream(blob.stream(CHUNK)));
        async move {
            let sent = tokio::spawn(request.send()).await;
            let answer = sent.map_err(|error| error.to_string())?;
            let status = answer.map_err(|error| error.to_string())?.status();
            if status != 201 {
                return Err(format!("a push was answered {status}"));
            }
            // Room on the disk for those that follow.
            let hex = digest.trim_start_matches("sha256:");
            let key = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
            if stack.s3().delete_object(BUCKET, &key) {
                Ok(())
            } else {
                Err(format!("{digest} was acknowledged and is not there"))
            }
        }
    });
    let outcomes = futures::future::join_all(pushes).await;
    outcomes.into_iter().collect()
}

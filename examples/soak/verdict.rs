//! What became of every push, and what was left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use blobgate_testkit::blob::sha256;
use blobgate_testkit::faults::Record;
use blobgate_testkit::stack::Stack;
use futures::StreamExt;
use reqwest::Client;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::client::Ending;
use crate::report::{Left, Report};
use crate::soak::Done;

const BUCKET: &str = "registry";
const BLOBS: &str = "docker/registry/v2/blobs/";

/// How long what is in flight may take to end once nobody pushes any more. An abort has a minute.
const SETTLES_WITHIN: Duration = Duration::from_secs(70);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Older than the sweep lets any upload get.
const DAYS: Duration = Duration::from_secs(48 * 3600);

/// Blobs read back at once.
const READERS: usize = 4;

pub async fn look(stack: &Stack, done: Vec<Done>, pushed_for: Duration) -> io::Result<Report> {
    let mut wrong = Vec::new();
    let left = settle(stack).await?;
    let unswept = sweep(stack).await;
    let acknowledged = acknowledged(&done, &mut wrong);
    read_back(stack, &acknowledged, &mut wrong).await;
    judge_bucket(stack, &acknowledged, &mut wrong);

    let mut endings = BTreeMap::new();
    let mut bytes = 0;
    for Done { push, ending, .. } in &done {
        *endings
            .entry((push.manner, ending.clone()))
            .or_insert(0_u64) += 1;
        if *ending == Ending::Status(201) {
            bytes += push.blob.size;
        }
    }
    let mut faults = BTreeMap::new();
    for proxy in [stack.s3_faults(), stack.registry_faults()] {
        for fault in proxy
            .records()
            .into_iter()
            .filter_map(|record| record.fault)
        {
            let name = fault.split([' ', '(']).next().unwrap_or_default();
            *faults.entry(name.to_owned()).or_insert(0_u64) += 1;
        }
    }
    let metrics = stack.blobgate().metrics()?;
    Ok(Report {
        pushed_for,
        pushes: done.len(),
        endings,
        bytes,
        blobs: acknowledged.len(),
        faults,
        retries: sum(&metrics, "blobgate_store_retries_total"),
        peak_rss: stack.blobgate().peak_rss_bytes()?,
        cpu_seconds: stack.blobgate().cpu_seconds()?,
        left,
        unswept,
        wrong,
    })
}

fn sum(metrics: &BTreeMap<String, f64>, name: &str) -> f64 {
    let series = metrics
        .iter()
        .filter(|(series, _)| series.starts_with(name));
    series.map(|(_, value)| value).sum()
}

/// Waits until slots, memory and aborts are done with, or the time for it is over; what is left.
async fn settle(stack: &Stack) -> io::Result<Left> {
    let deadline = Instant::now() + SETTLES_WITHIN;
    loop {
        let left = left(stack)?;
        if left.is_explained() || Instant::now() >= deadline {
            return Ok(left);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn left(stack: &Stack) -> io::Result<Left> {
    let metrics = stack.blobgate().metrics()?;
    let uploads = stack.s3().open_uploads(BUCKET);
    let calls = stack.s3_faults().records();
    let lost = calls.iter().filter(|call| is_lost_create(call));
    // What blobgate could not drop it names, with its id.
    let log = stack.blobgate().log();
    let named = |id: &str| {
        log.lines()
            .any(|line| line.contains(id) && line.contains("could not be aborted"))
    };
    let (given_up, silent): (Vec<_>, Vec<_>) = uploads
        .into_iter()
        .partition(|upload| named(&upload.upload_id));
    Ok(Left {
        given_up: given_up.len(),
        empty_uploads: silent.iter().filter(|u| u.parts.is_empty()).count(),
        uploads_with_parts: silent.iter().filter(|u| !u.parts.is_empty()).count(),
        lost_creates: lost.count(),
        slots: metrics["blobgate_uploads_streaming"] as usize,
        waiting: metrics["blobgate_uploads_waiting"] as usize,
        memory: metrics["blobgate_memory_budget_used_bytes"] as usize,
    })
}

/// A Create that took effect and whose answer did not come through opened an upload that nobody
/// knows of.
fn is_lost_create(call: &Record) -> bool {
    let effects = [
        "StatusAfter",
        "CutAnswer",
        "CutBody",
        "Garbage",
        "Hang { effect: true",
    ];
    let fault = call.fault.as_deref();
    call.operation == "CreateMultipartUpload"
        && match fault {
            Some(fault) if effects.iter().any(|effect| fault.starts_with(effect)) => true,
            Some(fault) if fault.contains("Status") || fault.starts_with("ResetAfter") => false,
            // Forwarded, and answered to nobody.
            _ => call.status.is_none(),
        }
}

/// Lets the sweep have what is left; how much it could not remove.
async fn sweep(stack: &Stack) -> usize {
    for upload in stack.s3().open_uploads(BUCKET) {
        stack.s3().backdate_upload(BUCKET, &upload.upload_id, DAYS);
    }
    let deadline = Instant::now() + SETTLES_WITHIN;
    loop {
        let left = stack.s3().open_uploads(BUCKET).len();
        if left == 0 || Instant::now() >= deadline {
            return left;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Repositories and size of every acknowledged digest.
type Acknowledged = BTreeMap<String, (BTreeSet<&'static str>, u64)>;

fn acknowledged(done: &[Done], wrong: &mut Vec<String>) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for Done {
        push,
        digest,
        ending,
    } in done
    {
        // Of an empty blob nothing can be cut off.
        let whole = push.manner.is_right() || (push.blob.size == 0 && push.claimed == push.blob);
        match ending {
            Ending::Status(201) if whole => {
                let (repositories, size) = acknowledged.entry(digest.clone()).or_default();
                repositories.insert(push.repository);
                *size = push.blob.size;
            }
            Ending::Status(201) => wrong.push(format!("acknowledged: {push:?}")),
            // The faults are the store's and the upstream's: a client that does all right is
            // answered, and never told that it did not.
            Ending::Status(400..=499) if whole => {
                wrong.push(format!("refused with {ending:?}: {push:?}"));
            }
            Ending::Broken if push.manner.is_right() => {
                wrong.push(format!("never answered: {push:?}"));
            }
            _ => {}
        }
    }
    acknowledged
}

/// Reads every acknowledged blob through the registry, and asks for it in every repository.
async fn read_back(stack: &Stack, acknowledged: &Acknowledged, wrong: &mut Vec<String>) {
    let client = Client::builder()
        .no_proxy()
        .build()
        .expect("a client without TLS always comes up");
    let registry = stack.registry().url();
    let checks = acknowledged.iter().map(|(digest, (repositories, size))| {
        let (client, registry) = (client.clone(), registry.clone());
        let (digest, size, repositories) = (digest.clone(), *size, repositories.clone());
        tokio::spawn(async move {
            let mut faults = Vec::new();
            for (index, repository) in repositories.iter().enumerate() {
                let url = format!("{registry}/v2/{repository}/blobs/{digest}");
                let outcome = if index == 0 {
                    served(&client, &url, &digest, size).await
                } else {
                    present(&client, &url).await
                };
                if let Err(reason) = outcome {
                    faults.push(format!("{digest} in {repository}: {reason}"));
                }
            }
            faults
        })
    });
    let mut checks = futures::stream::iter(checks).buffer_unordered(READERS);
    while let Some(faults) = checks.next().await {
        wrong.extend(faults.expect("a check panicked"));
    }
}

async fn served(client: &Client, url: &str, digest: &str, size: u64) -> Result<(), String> {
    let failed = |error: reqwest::Error| error.to_string();
    let mut answer = client.get(url).send().await.map_err(failed)?;
    if answer.status() != 200 {
        return Err(format!("acknowledged, but GET says {}", answer.status()));
    }
    let (mut hasher, mut length) = (Sha256::new(), 0);
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        hasher.update(&chunk);
        length += chunk.len() as u64;
    }
    let found = format!("sha256:{:x}", hasher.finalize());
    if (found.as_str(), length) != (digest, size) {
        return Err(format!("{length} bytes of {found} are served"));
    }
    Ok(())
}

async fn present(client: &Client, url: &str) -> Result<(), String> {
    let answer = client.head(url).send().await;
    match answer.map_err(|error| error.to_string())?.status() {
        status if status == 200 => Ok(()),
        status => Err(format!("acknowledged, but HEAD says {status}")),
    }
}

/// Whatever lies at a blob's key must be that blob, also where no client heard a 201.
fn judge_bucket(stack: &Stack, acknowledged: &Acknowledged, wrong: &mut Vec<String>) {
    for (key, _) in stack.s3().objects(BUCKET) {
        let Some(rest) = key.strip_prefix(BLOBS) else {
            continue;
        };
        let mut segments = rest.split('/');
        let (algorithm, hex) = (segments.next(), segments.nth(1));
        let claimed = format!(
            "{}:{}",
            algorithm.unwrap_or_default(),
            hex.unwrap_or_default()
        );
        // These were read already.
        if acknowledged.contains_key(&claimed) {
            continue;
        }
        let content = stack.s3().read_object(BUCKET, &key).unwrap_or_default();
        if sha256(content) != claimed {
            wrong.push(format!("{key} holds other bytes"));
        }
    }
}

//! The run: start everything, push under faults, stop the faults, look.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::stack::Stack;
use reqwest::Client;
use tokio::time::Instant;

use crate::chaos;
use crate::client::{self, Ending};
use crate::load::{self, Push, Sizes};
use crate::report::Report;
use crate::verdict;

pub struct Plan {
    pub blobgate: PathBuf,
    /// blobgate's; its default where none.
    pub threads: Option<usize>,
    pub time: Duration,
    pub clients: usize,
    pub seed: u64,
    pub sizes: Sizes,
}

/// A push that came to its end.
#[derive(Debug, Clone)]
pub struct Done {
    pub push: Push,
    /// The one claimed.
    pub digest: String,
    pub ending: Ending,
}

pub async fn run(plan: &Plan) -> io::Result<Report> {
    let mut builder = Stack::builder();
    if let Some(threads) = plan.threads {
        builder = builder.config("threads", threads as u64);
    }
    let stack = builder
        .blobgate(&plan.blobgate)
        .s3_faults()
        .registry_faults()
        // The smallest there are, so that much is multipart.
        .config("upload.part_size", "5MiB")
        .config("upload.memory_budget", "128MiB")
        .config("upload.admission_timeout", "30s")
        // A fault that hangs must be over within the run.
        .config("bucket.idle_timeout", "3s")
        .config("bucket.call_timeout", "20s")
        .config("bucket.retry_budget", "60s")
        .config("upstream.probe_timeout", "5s")
        .config("sweep.interval", "1s")
        .start()?;
    let began = Instant::now();
    let done = tokio::select! {
        done = load(&stack, plan) => done,
        () = rage(&stack, plan) => unreachable!("faults go on until the load is over"),
        error = stack.blobgate().unexpected_end() => return Err(error),
    };
    let pushed_for = began.elapsed();
    calm(&stack);
    verdict::look(&stack, done, pushed_for).await
}

/// Faults for as long as pushes are begun. What is in flight then goes on without.
async fn rage(stack: &Stack, plan: &Plan) {
    let chaos = chaos::rage(stack.s3_faults(), stack.registry_faults(), plan.seed);
    let _ = tokio::time::timeout(plan.time, chaos).await;
    calm(stack);
    std::future::pending().await
}

fn calm(stack: &Stack) {
    for proxy in [stack.s3_faults(), stack.registry_faults()] {
        proxy.clear();
        proxy.release();
    }
}

/// Pushes until the time is over; returns when the last push has ended.
async fn load(stack: &Stack, plan: &Plan) -> Vec<Done> {
    let deadline = Instant::now() + plan.time;
    let http = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .expect("a client without TLS always comes up");
    let shared = Shared::default();
    let clients = (0..plan.clients).map(|_| async {
        while Instant::now() < deadline {
            let number = shared.number.fetch_add(1, Ordering::Relaxed);
            let made = shared.made.load(Ordering::Relaxed);
            let push = load::push(number, plan.seed, plan.sizes, made);
            shared.made.fetch_add(push.blob.size, Ordering::Relaxed);
            let digest = shared.digest(push.claimed).await;
            let address = stack.blobgate().address();
            // On a task, so that all cores take part.
            let (http, claimed) = (http.clone(), digest.clone());
            let sent =
                tokio::spawn(async move { client::send(&http, address, &push, &claimed).await });
            let ending = sent.await.expect("a client panicked");
            let mut done = shared.done.lock().expect("a client panicked");
            done.push(Done {
                push,
                digest,
                ending,
            });
        }
    });
    futures::future::join_all(clients).await;
    shared.done.into_inner().expect("a client panicked")
}

#[derive(Default)]
struct Shared {
    number: AtomicU64,
    /// Bytes pushed so far.
    made: AtomicU64,
    digests: Mutex<HashMap<(u64, u64), String>>,
    done: Mutex<Vec<Done>>,
}

impl Shared {
    async fn digest(&self, blob: Blob) -> String {
        let key = (blob.seed, blob.size);
        if let Some(digest) = self.digests.lock().expect("a client panicked").get(&key) {
            return digest.clone();
        }
        let digest = tokio::task::spawn_blocking(move || blob.sha256());
        let digest = digest.await.expect("hashing panicked");
        let mut digests = self.digests.lock().expect("a client panicked");
        digests.insert(key, digest.clone());
        digest
    }
}

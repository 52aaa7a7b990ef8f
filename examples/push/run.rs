//! The push from beginning to end.

use crate::args::Args;
use crate::blob::BlobPusher;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::http_client::{HttpClient, Payload};
use crate::layout::{self, Layout, Manifest};
use crate::progress::{Progress, Task};
use crate::registry::Registry;
use crate::report::{BlobReport, ManifestReport, Report};
use crate::retry::retrying;
use crate::source::Source;
use blobgate::registry::Digest;
use futures::StreamExt;
use http::{Method, StatusCode};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

pub const DONE: u8 = 0;
pub const FAILED: u8 = 1;

struct Push {
    args: Args,
    progress: Progress,
    registry: Arc<Registry>,
    blobs: BlobPusher,
    /// Hashing keeps a core busy: more at once than there are cores gain nothing.
    hashing: Semaphore,
}

pub async fn run(args: Args) -> u8 {
    let began = Instant::now();
    let progress = Progress::new(args.quiet);
    let endpoint = match args.check() {
        Ok(endpoint) => endpoint,
        Err(message) => Args::usage_error(&message),
    };
    let mut report = Report {
        registry: endpoint.to_string(),
        repository: args.repository.to_string(),
        ..Report::default()
    };
    let as_json = args.json;
    let push = match Push::new(args, endpoint, progress.clone()) {
        Ok(push) => push,
        Err(message) => Args::usage_error(&message),
    };
    if let Err(failure) = push.run(&mut report).await {
        report.failure = Some(failure);
    }
    report.time = began.elapsed();
    if let Some(failure) = &report.failure {
        progress.warn(&format!("error: {failure}"));
    }
    let code = if report.succeeded() { DONE } else { FAILED };
    match report.print(as_json) {
        Ok(()) => code,
        Err(error) => {
            progress.warn(&format!("error: cannot write the summary: {error}"));
            FAILED
        }
    }
}

impl Push {
    fn new(args: Args, endpoint: Endpoint, progress: Progress) -> Result<Self, String> {
        let credentials = args.credentials(&endpoint, &progress)?;
        let http = HttpClient::new(args.authorities()?.as_deref(), args.stall_timeout).map_err(
            |error| match &args.ca_file {
                Some(path) => format!("--ca-file {}: {error}", path.display()),
                None => format!("cannot set up TLS: {error}"),
            },
        )?;
        let registry = Arc::new(Registry::new(
            http,
            endpoint,
            args.repository.clone(),
            credentials,
        ));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            blobs: BlobPusher::new(
                registry.clone(),
                progress.clone(),
                args.retries,
                args.fallback,
            ),
            registry,
            progress,
            args,
            hashing: Semaphore::new(cores),
        })
    }

    async fn run(&self, report: &mut Report) -> Result<(), Failure> {
        let layout = match &self.args.layout {
            Some(argument) => {
                let (directory, reference) = layout::split_argument(argument);
                let layout = layout::read(&directory, reference, self.args.tag.as_deref())?;
                for note in &layout.notes {
                    self.progress.warn(&format!("note: {note}"));
                }
                Some(layout)
            }
            None => None,
        };
        let announce = |failure: &Failure, wait: Duration| {
            self.progress.note(&format!(
                "retrying in {:.1} s: {failure}",
                wait.as_secs_f64()
            ));
        };
        retrying(self.args.retries, announce, async || {
            self.registry.ping().await
        })
        .await?;
        match layout {
            Some(layout) => self.push_layout(layout, report).await,
            None => {
                let files = self.args.files.iter();
                let pushes = files.map(|path| self.push_file(path)).collect();
                report.blobs = self.side_by_side(pushes).await;
                Ok(())
            }
        }
    }

    /// Runs the pushes, as many at once as the user wants; reports come in the given order.
    async fn side_by_side<F: Future<Output = BlobReport>>(
        &self,
        pushes: Vec<F>,
    ) -> Vec<BlobReport> {
        let numbered = pushes
            .into_iter()
            .enumerate()
            .map(async |(number, push)| (number, push.await));
        // Not `buffered`: one slow push would keep those behind it from beginning.
        let mut reports: Vec<(usize, BlobReport)> = futures::stream::iter(numbered)
            .buffer_unordered(usize::from(self.args.jobs))
            .collect()
            .await;
        reports.sort_by_key(|(number, _)| *number);
        reports.into_iter().map(|(_, report)| report).collect()
    }

    async fn push_file(&self, path: &Path) -> BlobReport {
        let mut report = BlobReport {
            path: Some(path.to_owned()),
            digest: None,
            size: 0,
            time: Duration::ZERO,
            result: Err(Failure::Changed(PathBuf::new())),
        };
        let source = match Source::new(path) {
            Ok(source) => Arc::new(source),
            Err(failure) => {
                report.result = Err(failure);
                return report;
            }
        };
        report.size = source.len();
        let task = self.progress.task(&path.to_string_lossy(), source.len());
        match self.hash(&source, &task).await {
            Ok(digest) => {
                report.digest = Some(digest.clone());
                let began = Instant::now();
                report.result = self.blobs.push(&digest, &source, &task).await;
                report.time = began.elapsed();
            }
            Err(failure) => report.result = Err(failure),
        }
        task.finish(report.word());
        report
    }

    async fn hash(&self, source: &Source, task: &Task) -> Result<Digest, Failure> {
        // The semaphore is never closed, and without a permit hashing is merely crowded.
        let _permit = self.hashing.acquire().await.ok();
        task.start("hashing");
        let advancing = task.clone();
        source
            .hash(self.args.digest.into(), move |read| advancing.advance(read))
            .await
    }

    async fn push_layout(&self, layout: Layout, report: &mut Report) -> Result<(), Failure> {
        let pushes = layout
            .blobs
            .iter()
            .map(|blob| self.push_known(&blob.digest, &blob.source))
            .collect();
        report.blobs = self.side_by_side(pushes).await;
        if report.blobs.iter().any(|blob| blob.result.is_err()) {
            self.progress
                .note("no manifest is pushed, as blobs are missing");
            return Ok(());
        }
        for manifest in &layout.manifests {
            let result = self.push_manifest(manifest).await;
            let failed = result.is_err();
            report.manifests.push(ManifestReport {
                digest: manifest.digest.clone(),
                media_type: manifest.media_type.clone(),
                size: manifest.bytes.len() as u64,
                tags: manifest.tags.clone(),
                result,
            });
            if failed {
                // Those after it may name it.
                return Ok(());
            }
        }
        Ok(())
    }

    async fn push_known(&self, digest: &Digest, source: &Arc<Source>) -> BlobReport {
        let task = self.progress.task(&digest.to_string(), source.len());
        let began = Instant::now();
        let result = self.blobs.push(digest, source, &task).await;
        let report = BlobReport {
            path: None,
            digest: Some(digest.clone()),
            size: source.len(),
            time: began.elapsed(),
            result,
        };
        task.finish(report.word());
        report
    }

    async fn push_manifest(&self, manifest: &Manifest) -> Result<(), Failure> {
        let digest = manifest.digest.to_string();
        for reference in std::iter::once(&digest).chain(&manifest.tags) {
            let url = self.registry.manifest_url(reference);
            let announce = |failure: &Failure, wait: Duration| {
                self.progress.note(&format!(
                    "retrying manifest {reference} in {:.1} s: {failure}",
                    wait.as_secs_f64()
                ));
            };
            retrying(self.args.retries, announce, async || {
                let media_type = Some(manifest.media_type.as_str());
                let payload = Payload::Bytes(manifest.bytes.clone());
                let answer = self
                    .registry
                    .send(Method::PUT, &url, media_type, payload)
                    .await?;
                if answer.status == StatusCode::CREATED {
                    Ok(())
                } else {
                    Err(self
                        .registry
                        .refusal("pushing the manifest", &answer)
                        .into())
                }
            })
            .await?;
            self.progress.note(&format!("manifest {reference} pushed"));
        }
        Ok(())
    }
}

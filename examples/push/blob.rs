//! Brings one blob into the repository, by the shortest way the registry knows.

use crate::args::Fallback;
use crate::failure::Failure;
use crate::http_client::{Answer, Payload};
use crate::progress::{Progress, Task};
use crate::registry::{Registry, with_digest};
use crate::retry::retrying;
use crate::source::Source;
use blobgate::registry::{Algorithm, Digest};
use http::{Method, StatusCode};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const OCTETS: Option<&str> = Some("application/octet-stream");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Pushed,
    AlreadyThere,
}

/// What is known of the registry's ways.
const UNKNOWN: u8 = 0;
const BY_DIGEST: u8 = 1;
const BY_SESSION: u8 = 2;

pub struct BlobPusher {
    registry: Arc<Registry>,
    progress: Progress,
    retries: u32,
    fallback: Fallback,
    way: AtomicU8,
    /// One push at a time for each digest: the second finds the blob there.
    locks: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl BlobPusher {
    pub fn new(
        registry: Arc<Registry>,
        progress: Progress,
        retries: u32,
        fallback: Fallback,
    ) -> Self {
        let way = match fallback {
            Fallback::Auto => UNKNOWN,
            Fallback::Never => BY_DIGEST,
            Fallback::Always => BY_SESSION,
        };
        Self {
            registry,
            progress,
            retries,
            fallback,
            way: AtomicU8::new(way),
            locks: Mutex::default(),
        }
    }

    pub async fn push(
        &self,
        digest: &Digest,
        source: &Arc<Source>,
        task: &Task,
    ) -> Result<Outcome, Failure> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(digest.clone()).or_default().clone()
        };
        let _alone = lock.lock().await;

        // Set once a whole body has left: a blob found afterwards is there because of us.
        let mut sent_all = false;
        let pushed = retrying(
            self.retries,
            |failure, wait| {
                self.progress.note(&format!(
                    "retrying {digest} in {:.1} s: {failure}",
                    wait.as_secs_f64()
                ));
            },
            async || {
                if self.registry.has_blob(digest).await? {
                    return Ok(match sent_all {
                        true => Outcome::Pushed,
                        false => Outcome::AlreadyThere,
                    });
                }
                if source.has_changed() {
                    return Err(Failure::Changed(source.path().to_owned()));
                }
                self.attempt(digest, source, task, &mut sent_all).await
            },
        );
        match pushed.await {
            Err(failure)
                if failure
                    .refusal()
                    .is_some_and(|refusal| refusal.has_code("DIGEST_INVALID")) =>
            {
                Err(blame(digest, source, task).await.unwrap_or(failure))
            }
            result => result,
        }
    }

    async fn attempt(
        &self,
        digest: &Digest,
        source: &Arc<Source>,
        task: &Task,
        sent_all: &mut bool,
    ) -> Result<Outcome, Failure> {
        let payload = || {
            task.start("pushing");
            Payload::File(source.clone(), task.clone())
        };
        if self.way.load(Ordering::Relaxed) != BY_SESSION {
            let url = self.registry.blob_url(digest);
            let result = self
                .registry
                .send(Method::PUT, &url, OCTETS, payload())
                .await;
            let unsure = self.way.load(Ordering::Relaxed) != BY_DIGEST;
            match result {
                Ok(answer) if unsure && knows_no_push_by_digest(answer.status) => (),
                Ok(answer) => {
                    *sent_all |= answer.sent == source.len();
                    // The first 201 settles it: a later 404 or 405 has another reason.
                    if answer.status == StatusCode::CREATED && unsure {
                        self.way.store(BY_DIGEST, Ordering::Relaxed);
                    }
                    return self.created(&answer, source);
                }
                // A server that refuses early and closes, without waiting for the body, may
                // reset the connection before its answer is read. An empty push tells.
                Err(Failure::Connection(reason)) if unsure => {
                    let probe = self.probe(digest.algorithm()).await;
                    if !probe.is_ok_and(knows_no_push_by_digest) {
                        return Err(Failure::Connection(reason));
                    }
                }
                Err(failure) => return Err(failure),
            }
        }

        let begun = self
            .registry
            .send(
                Method::POST,
                &self.registry.uploads_url(),
                None,
                Payload::Empty,
            )
            .await?;
        if begun.status != StatusCode::ACCEPTED {
            return Err(self
                .registry
                .refusal("opening an upload session", &begun)
                .into());
        }
        if self.way.swap(BY_SESSION, Ordering::Relaxed) != BY_SESSION
            && self.fallback == Fallback::Auto
        {
            self.progress.note(
                "this registry takes no push by digest, so it is no blobgate: using upload \
                 sessions (POST, PUT) instead",
            );
        }
        let url = with_digest(self.registry.session_url(&begun)?, digest);
        let answer = self
            .registry
            .send(Method::PUT, &url, OCTETS, payload())
            .await?;
        *sent_all |= answer.sent == source.len();
        self.created(&answer, source)
    }

    fn created(&self, answer: &Answer, source: &Source) -> Result<Outcome, Failure> {
        if answer.status != StatusCode::CREATED {
            return Err(self.registry.refusal("pushing the blob", answer).into());
        }
        // Accepted before it had all the bytes: it has them already.
        if answer.sent < source.len() {
            Ok(Outcome::AlreadyThere)
        } else {
            Ok(Outcome::Pushed)
        }
    }

    /// Pushes nothing under a digest that nothing has: refused by every registry, but differently
    /// by one that takes pushes by digest.
    async fn probe(&self, algorithm: Algorithm) -> Result<StatusCode, Failure> {
        let zeros = "0".repeat(algorithm.hex_len());
        let digest = format!("{}:{zeros}", algorithm.as_str());
        // Zeros of the right length are a digest.
        let digest: Digest = digest.parse().expect("a digest of zeros is well-formed");
        let url = self.registry.blob_url(&digest);
        let answer = self
            .registry
            .send(Method::PUT, &url, OCTETS, Payload::Empty)
            .await?;
        Ok(answer.status)
    }
}

fn knows_no_push_by_digest(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
    )
}

/// The registry computed another digest. If this file no longer has the right one either, that is
/// the more useful thing to say.
async fn blame(digest: &Digest, source: &Source, task: &Task) -> Option<Failure> {
    if source.has_changed() {
        return Some(Failure::Changed(source.path().to_owned()));
    }
    task.start("checking");
    let advancing = task.clone();
    let hashed = source.hash(digest.algorithm(), move |read| advancing.advance(read));
    match hashed.await {
        Ok(found) if found == *digest => None,
        Ok(found) => Some(Failure::Differs {
            path: source.path().to_owned(),
            expected: digest.clone(),
            found: found.to_string(),
        }),
        Err(failure) => Some(failure),
    }
}

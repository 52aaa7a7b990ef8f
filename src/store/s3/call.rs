use super::S3Store;
use super::fault::{self, Failure, Fault};
use super::transport::{Answer, Attempt, Exchange};
use crate::store::retry::Schedule;
use crate::store::{FaultClass, StoreError, StoreOperation};
use futures::FutureExt;
use rusoto_core::{Client, RusotoError};
use rusoto_s3::S3Client;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// How long the store counts as congested after it asked for less.
const CONGESTED_FOR: Duration = Duration::from_secs(5);

/// When the store last asked for less.
#[derive(Debug, Default)]
pub(super) struct Congestion(Mutex<Option<Instant>>);

impl Congestion {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub fn is_recent(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some_and(|at| at.elapsed() < CONGESTED_FOR)
    }
}

impl S3Store {
    /// Makes one store call, with as many attempts as the retry table gives it. `send` words the
    /// request, anew for each attempt; `judge` says what its outcome means: an answer with status
    /// 2xx, or a fault.
    pub(super) async fn call<O, T, E, Fut>(
        &self,
        operation: StoreOperation,
        key: &str,
        send: impl Fn(S3Client) -> Fut + Send + Sync,
        judge: impl Fn(Result<Answer, Fault>) -> Result<T, Fault> + Send + Sync,
    ) -> Result<T, StoreError>
    where
        Fut: Future<Output = Result<O, RusotoError<E>>> + Send,
    {
        let schedule = Schedule::start(self.policy, operation);
        self.run(schedule, key, send, judge).await
    }

    /// As [`S3Store::call`], with a schedule of the caller's.
    pub(super) async fn run<O, T, E, Fut>(
        &self,
        mut schedule: Schedule,
        key: &str,
        send: impl Fn(S3Client) -> Fut + Send + Sync,
        judge: impl Fn(Result<Answer, Fault>) -> Result<T, Fault> + Send + Sync,
    ) -> Result<T, StoreError>
    where
        Fut: Future<Output = Result<O, RusotoError<E>>> + Send,
    {
        let operation = schedule.operation();
        loop {
            let limit = schedule.begin_attempt();
            match self.attempt(operation, limit, &send, &judge).await {
                Ok(value) => {
                    self.observer
                        .call(operation, Ok(()), schedule.attempts(), schedule.elapsed());
                    return Ok(value);
                }
                Err(fault) => self
                    .back_off(&schedule, key, fault)
                    .await
                    .inspect_err(|error| {
                        let outcome = Err(error.class);
                        self.observer
                            .call(operation, outcome, error.attempts, error.elapsed);
                    })?,
            }
        }
    }

    /// Sends one request, for at most `limit`, and tells the observer how it went.
    pub(super) async fn attempt<O, T, E, Fut>(
        &self,
        operation: StoreOperation,
        limit: Duration,
        send: impl FnOnce(S3Client) -> Fut + Send,
        judge: impl FnOnce(Result<Answer, Fault>) -> Result<T, Fault> + Send,
    ) -> Result<T, Fault>
    where
        Fut: Future<Output = Result<O, RusotoError<E>>> + Send,
    {
        let started = Instant::now();
        let result = judge(self.exchange(limit, send).await);
        if let Err(fault) = &result {
            self.learn_from(fault);
        }
        let outcome = result.as_ref().map(drop).map_err(|fault| fault.class);
        self.observer.attempt(operation, outcome, started.elapsed());
        result
    }

    /// Sends one request, for at most `limit`: an answer with status 2xx, or a fault.
    pub(super) async fn exchange<O, E, Fut>(
        &self,
        limit: Duration,
        send: impl FnOnce(S3Client) -> Fut + Send,
    ) -> Result<Answer, Fault>
    where
        Fut: Future<Output = Result<O, RusotoError<E>>> + Send,
    {
        let attempt = Attempt::new(self.transport.clone(), self.user_agent.clone());
        // Making a client is two allocations, and gives every attempt a record of its own.
        let client = S3Client::new_with_client(
            Client::new_not_signing(attempt.clone()),
            self.transport.addressing.region().clone(),
        );
        // rusoto unwraps here and there. What it made of the answer is not asked: see `Exchange`.
        let sent = AssertUnwindSafe(send(client).map(drop)).catch_unwind();
        let sent = tokio::time::timeout(limit, sent).await;
        let Exchange { answer, fault } = attempt.take_exchange();
        match (sent, fault, answer) {
            (Err(_elapsed), _, _) => Err(Fault::new(
                &Failure::OutOfTime,
                format!("no whole answer within {limit:.1?}"),
            )),
            (Ok(_), Some(fault), _) => Err(fault),
            (Ok(_), None, Some(answer)) if answer.status.is_success() => Ok(answer),
            (Ok(_), None, Some(answer)) => Err(Fault::of_answer(&answer)),
            (Ok(_), None, None) => Err(super::unusable("the request could not be put into words")),
        }
    }

    fn learn_from(&self, fault: &Fault) {
        if fault.class == FaultClass::Throttled {
            self.congestion.note();
        }
        if fault
            .code
            .as_deref()
            .is_some_and(fault::credentials_are_stale)
        {
            self.transport.credentials.refused();
        }
    }

    /// Waits for the next attempt, or fails where there is none.
    async fn back_off(
        &self,
        schedule: &Schedule,
        key: &str,
        fault: Fault,
    ) -> Result<(), StoreError> {
        match schedule.wait_after(fault.class, fault.retry_after) {
            Some(wait) => {
                self.wait(schedule, key, &fault, wait).await;
                Ok(())
            }
            None => Err(give_up(schedule, fault)),
        }
    }

    pub(super) async fn wait(&self, schedule: &Schedule, key: &str, fault: &Fault, wait: Duration) {
        let operation = schedule.operation();
        log::warn!(
            "{operation} of {key}: attempt {} failed: {}: {}; trying again in {wait:.1?}",
            schedule.attempts(),
            fault.class.as_str(),
            fault.message,
        );
        self.observer.retry(operation, fault.class);
        tokio::time::sleep(wait).await;
    }
}

pub(super) fn give_up(schedule: &Schedule, fault: Fault) -> StoreError {
    StoreError {
        operation: schedule.operation(),
        class: fault.class,
        status: fault.status,
        code: fault.code,
        message: fault.message,
        attempts: schedule.attempts(),
        elapsed: schedule.elapsed(),
    }
}

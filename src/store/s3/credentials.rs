//! Where the store's credentials come from, and when they are looked up anew.

use super::profile::ProfileFile;
use crate::config;
use futures::FutureExt;
use rusoto_credential::{
    AwsCredentials, ContainerProvider, CredentialsError, EnvironmentProvider,
    InstanceMetadataProvider, ProfileProvider, ProvideAwsCredentials,
};
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The longest wait for the container's or the instance's metadata service. Where there is none,
/// its address often swallows packets instead of refusing them.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest wait for a profile, which may name a program to run.
const PROFILE_TIMEOUT: Duration = Duration::from_secs(10);

/// After a lookup that failed, calls fail at once for this long, so that they don't queue up behind
/// one another's waits for a metadata service that isn't there.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// Credentials this close to their end are not used: a request must still be good on arrival.
const EXPIRY_MARGIN: Duration = Duration::from_secs(20);

/// Credentials this close to their end are looked up anew, while the old ones are still used where
/// that fails. AWS has new ones ready at least five minutes ahead.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html>
const REFRESH_AHEAD: Duration = Duration::from_secs(5 * 60);

/// The shortest time between two lookups ahead of the end.
const REFRESH_PAUSE: Duration = Duration::from_secs(30);

pub(super) enum CredentialSource {
    Static(AwsCredentials),
    Lookup(Box<Cache>),
}

impl CredentialSource {
    pub fn new(config: &config::Credentials) -> Self {
        match config {
            config::Credentials::Static {
                access_key_id,
                secret_access_key,
                session_token,
            } => Self::Static(AwsCredentials::new(
                access_key_id.as_str(),
                secret_access_key.expose(),
                session_token
                    .as_ref()
                    .map(|token| token.expose().to_owned()),
                None,
            )),
            config::Credentials::Chain { profile } => {
                Self::Lookup(Box::new(Cache::new(Chain::new(profile.as_deref()))))
            }
        }
    }

    /// Credentials to sign with, or the reason that there are none.
    pub async fn get(&self) -> Result<AwsCredentials, String> {
        match self {
            Self::Static(credentials) => Ok(credentials.clone()),
            Self::Lookup(cache) => cache.get().await,
        }
    }

    /// Forgets credentials that the store refused as such, so that rotated ones are found.
    pub fn refused(&self) {
        match self {
            Self::Static(_) => {}
            Self::Lookup(cache) => cache.refused(),
        }
    }
}

/// Keeps what a lookup found. rusoto's own cache would keep a failure for good, and makes every
/// call wait when the credentials end.
pub(super) struct Cache {
    provider: Box<dyn ProvideAwsCredentials + Send + Sync>,
    state: Mutex<State>,
    /// Held during a lookup, so that there is one at a time.
    lookup: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    found: Option<AwsCredentials>,
    looked_up: Option<Instant>,
    failure: Option<(Instant, String)>,
}

enum Known {
    Good(AwsCredentials),
    Ageing(AwsCredentials),
    Failed(String),
    Nothing,
}

impl State {
    fn known(&self) -> Known {
        let lately = |at: Instant, pause| at.elapsed() < pause;
        let failure = self
            .failure
            .as_ref()
            .filter(|(at, _)| lately(*at, FAILURE_PAUSE));
        match &self.found {
            Some(found) if lasts(found, REFRESH_AHEAD) => Known::Good(found.clone()),
            Some(found) if lasts(found, EXPIRY_MARGIN) => {
                if self.looked_up.is_some_and(|at| lately(at, REFRESH_PAUSE)) {
                    Known::Good(found.clone())
                } else {
                    Known::Ageing(found.clone())
                }
            }
            _ => match failure {
                Some((_, reason)) => Known::Failed(reason.clone()),
                None => Known::Nothing,
            },
        }
    }
}

fn lasts(credentials: &AwsCredentials, margin: Duration) -> bool {
    match credentials.expires_at() {
        Some(end) => SystemTime::from(*end) > SystemTime::now() + margin,
        None => true,
    }
}

impl Cache {
    pub fn new(provider: impl ProvideAwsCredentials + Send + Sync + 'static) -> Self {
        Self {
            provider: Box::new(provider),
            state: Mutex::default(),
            lookup: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get(&self) -> Result<AwsCredentials, String> {
        let known = self.state().known();
        match known {
            Known::Good(credentials) => Ok(credentials),
            Known::Failed(reason) => Err(reason),
            Known::Ageing(credentials) => {
                // Whoever comes while another looks them up goes on with the old ones.
                let Ok(_alone) = self.lookup.try_lock() else {
                    return Ok(credentials);
                };
                Ok(self.look_up().await.unwrap_or_else(|reason| {
                    log::warn!("keeping credentials that end soon: {reason}");
                    credentials
                }))
            }
            Known::Nothing => {
                let _alone = self.lookup.lock().await;
                // While we waited another may have found them, or failed to.
                let known = self.state().known();
                match known {
                    Known::Good(credentials) | Known::Ageing(credentials) => Ok(credentials),
                    Known::Failed(reason) => Err(reason),
                    Known::Nothing => self.look_up().await,
                }
            }
        }
    }

    async fn look_up(&self) -> Result<AwsCredentials, String> {
        let result = match self.provider.credentials().await {
            Ok(found) if lasts(&found, EXPIRY_MARGIN) => Ok(found),
            Ok(_) => Err("the AWS credentials found have expired".to_owned()),
            Err(error) => Err(error.message),
        };
        let mut state = self.state();
        let now = Instant::now();
        state.looked_up = Some(now);
        match &result {
            Ok(found) => {
                state.found = Some(found.clone());
                state.failure = None;
            }
            Err(reason) => state.failure = Some((now, reason.clone())),
        }
        result
    }

    fn refused(&self) {
        let mut state = self.state();
        // Credentials that stay bad must not cost a lookup per call.
        if state
            .looked_up
            .is_none_or(|at| at.elapsed() > FAILURE_PAUSE)
        {
            state.found = None;
        }
    }
}

/// Asks each place for credentials in turn. rusoto's `ChainProvider` does the same, but tells
/// neither where it looked nor why a place had none, and lets a place's panic through.
struct Chain {
    environment: EnvironmentProvider,
    file: ProfileFile,
    /// Asked after `file`, for what only rusoto knows: a profile's `credential_process`.
    profile: Result<ProfileProvider, CredentialsError>,
    /// The configuration names a profile, which then comes before the environment.
    profile_first: bool,
    container: ContainerProvider,
    instance: InstanceMetadataProvider,
}

impl Chain {
    fn new(profile: Option<&str>) -> Self {
        let mut container = ContainerProvider::new();
        container.set_timeout(METADATA_TIMEOUT);
        let mut instance = InstanceMetadataProvider::new();
        instance.set_timeout(METADATA_TIMEOUT);
        Self {
            environment: EnvironmentProvider::default(),
            file: ProfileFile::new(profile),
            profile: match profile {
                Some(name) => ProfileProvider::with_default_credentials(name),
                None => ProfileProvider::new(),
            },
            profile_first: profile.is_some(),
            container,
            instance,
        }
    }

    /// The places in the order they are asked, each with its name and its limit in time.
    fn places(&self) -> Vec<(String, Duration, Place<'_>)> {
        let environment = (
            "environment".to_owned(),
            PROFILE_TIMEOUT,
            Ok(&self.environment as _),
        );
        let file = (self.file.place(), PROFILE_TIMEOUT, Ok(&self.file as _));
        let process = (
            "the profile's credential_process".to_owned(),
            PROFILE_TIMEOUT,
            self.profile.as_ref().map(|profile| profile as _),
        );
        let container = (
            "container".to_owned(),
            METADATA_TIMEOUT,
            Ok(&self.container as _),
        );
        let instance = (
            "instance metadata".to_owned(),
            METADATA_TIMEOUT,
            Ok(&self.instance as _),
        );
        if self.profile_first {
            vec![file, process, environment, container, instance]
        } else {
            vec![environment, file, process, container, instance]
        }
    }
}

type Place<'a> = Result<&'a (dyn ProvideAwsCredentials + Send + Sync), &'a CredentialsError>;

impl Chain {
    /// The first credentials there are, and the place they are from.
    async fn find(&self) -> Result<(String, AwsCredentials), CredentialsError> {
        let mut reasons = Vec::new();
        for (name, limit, place) in self.places() {
            let found = match place {
                Ok(provider) => ask(provider, limit).await,
                Err(error) => Err(error.clone()),
            };
            match found {
                Ok(found) => return Ok((name, found)),
                Err(error) => reasons.push(format!("{name}: {}", error.message)),
            }
        }
        Err(CredentialsError::new(format!(
            "no AWS credentials found; looked at: {}",
            reasons.join("; ")
        )))
    }
}

#[async_trait::async_trait]
impl ProvideAwsCredentials for Chain {
    async fn credentials(&self) -> Result<AwsCredentials, CredentialsError> {
        self.find().await.map(|(_, found)| found)
    }
}

/// Where the credentials come from, without a word of what they are.
#[derive(Debug)]
pub struct CredentialsOrigin {
    pub place: String,
    pub expires: Option<SystemTime>,
}

/// Looks the credentials up once, only to tell where they are found; the error says where they were
/// looked for in vain.
pub async fn find_credentials(config: &config::Credentials) -> Result<CredentialsOrigin, String> {
    match config {
        config::Credentials::Static { .. } => Ok(CredentialsOrigin {
            place: "the configuration's bucket.credentials".to_owned(),
            expires: None,
        }),
        config::Credentials::Chain { profile } => {
            let found = Chain::new(profile.as_deref()).find().await;
            let (place, found) = found.map_err(|error| error.message)?;
            Ok(CredentialsOrigin {
                place,
                expires: found.expires_at().map(SystemTime::from),
            })
        }
    }
}

async fn ask(
    provider: &(dyn ProvideAwsCredentials + Send + Sync),
    limit: Duration,
) -> Result<AwsCredentials, CredentialsError> {
    // The profile reader panics at a file it may not read and at a key without a value.
    let asked = AssertUnwindSafe(provider.credentials()).catch_unwind();
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(Ok(found))) if found.aws_access_key_id().is_empty() => {
            Err(CredentialsError::new("the access key id is empty"))
        }
        Ok(Ok(result)) => result,
        Ok(Err(_panic)) => Err(CredentialsError::new("it cannot be read")),
        Err(_) => Err(CredentialsError::new(format!("no answer within {limit:?}"))),
    }
}

#[cfg(test)]
mod tests;

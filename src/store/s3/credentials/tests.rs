use super::*;
use crate::test_server::{Server, answer};
use async_trait::async_trait;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Plays a provider: each lookup takes a second and gives the next result, the last one for ever.
#[derive(Clone, Default)]
struct Scripted {
    results: Vec<Result<AwsCredentials, &'static str>>,
    lookups: Arc<AtomicUsize>,
}

impl Scripted {
    fn new(results: impl IntoIterator<Item = Result<AwsCredentials, &'static str>>) -> Self {
        Self {
            results: results.into_iter().collect(),
            lookups: Arc::default(),
        }
    }

    fn lookups(&self) -> usize {
        self.lookups.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl ProvideAwsCredentials for Scripted {
    async fn credentials(&self) -> Result<AwsCredentials, CredentialsError> {
        let number = self.lookups.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let result = &self.results[number.min(self.results.len() - 1)];
        result.clone().map_err(CredentialsError::new)
    }
}

fn lasting(id: &str) -> Result<AwsCredentials, &'static str> {
    Ok(AwsCredentials::new(id, "secret", None, None))
}

/// Ends so many seconds from now, by the wall clock, which no test can pause.
fn ending(id: &str, seconds: u64) -> Result<AwsCredentials, &'static str> {
    let end = SystemTime::now() + Duration::from_secs(seconds);
    Ok(AwsCredentials::new(id, "secret", None, Some(end.into())))
}

async fn id(cache: &Cache) -> Result<String, String> {
    let found = cache.get().await?;
    Ok(found.aws_access_key_id().to_owned())
}

fn found(id: &str) -> Result<String, String> {
    Ok(id.to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_was_found_is_kept() {
    let provider = Scripted::new([ending("a", 3600), lasting("b")]);
    let cache = Cache::new(provider.clone());
    for _ in 0..3 {
        assert_eq!(id(&cache).await, found("a"));
    }
    assert_eq!(provider.lookups(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_that_wait_look_up_once() {
    for result in [lasting("a"), Err("nothing here")] {
        let provider = Scripted::new([result.clone()]);
        let cache = Cache::new(provider.clone());
        let all = futures::future::join_all((0..50).map(|_| id(&cache))).await;
        assert!(all.iter().all(|one| one.is_ok() == result.is_ok()));
        assert_eq!(provider.lookups(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_kept_only_for_a_moment() {
    let provider = Scripted::new([Err("nothing here"), lasting("a")]);
    let cache = Cache::new(provider.clone());
    let failed = Err("nothing here".to_owned());
    assert_eq!(id(&cache).await, failed);
    assert_eq!(id(&cache).await, failed);
    assert_eq!(provider.lookups(), 1);
    tokio::time::advance(FAILURE_PAUSE).await;
    assert_eq!(id(&cache).await, found("a"));
}

#[tokio::test(start_paused = true)]
async fn what_ends_soon_is_looked_up_ahead_while_others_go_on() {
    let provider = Scripted::new([ending("old", 120), ending("new", 3600)]);
    let cache = Cache::new(provider.clone());
    assert_eq!(id(&cache).await, found("old"));
    assert_eq!(id(&cache).await, found("old"), "no new ones so soon after");
    assert_eq!(provider.lookups(), 1);

    tokio::time::advance(REFRESH_PAUSE).await;
    let (first, second) = tokio::join!(id(&cache), id(&cache));
    assert_eq!((first, second), (found("new"), found("old")));
    assert_eq!(provider.lookups(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_lookup_ahead_keeps_the_old_ones() {
    let provider = Scripted::new([ending("old", 120), Err("away"), ending("new", 3600)]);
    let cache = Cache::new(provider.clone());
    assert_eq!(id(&cache).await, found("old"));
    tokio::time::advance(REFRESH_PAUSE).await;
    assert_eq!(id(&cache).await, found("old"));
    assert_eq!(id(&cache).await, found("old"));
    assert_eq!(provider.lookups(), 2);
    tokio::time::advance(REFRESH_PAUSE).await;
    assert_eq!(id(&cache).await, found("new"));
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_not_used() {
    let cache = Cache::new(Scripted::new([ending("a", 5)]));
    assert!(id(&cache).await.unwrap_err().contains("expired"));
}

#[tokio::test(start_paused = true)]
async fn what_the_store_refuses_is_looked_up_anew_but_not_at_once() {
    let provider = Scripted::new([lasting("old"), lasting("new")]);
    let cache = Cache::new(provider.clone());
    assert_eq!(id(&cache).await, found("old"));
    cache.refused();
    assert_eq!(id(&cache).await, found("old"));
    tokio::time::advance(2 * FAILURE_PAUSE).await;
    cache.refused();
    assert_eq!(id(&cache).await, found("new"));
}

/// A chain that looks at nothing of this machine's.
fn chain(profiles: &str, instance: &Server) -> (Chain, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(profiles.as_bytes()).unwrap();
    let mut metadata = InstanceMetadataProvider::new();
    metadata.set_timeout(METADATA_TIMEOUT);
    let port = instance.address.port().to_string();
    metadata.set_ip_addr_with_port("127.0.0.1", &port);
    let chain = Chain {
        environment: EnvironmentProvider::with_prefix("BLOBGATE_UNIT_TEST_NONE"),
        file: ProfileFile::at(file.path(), "work"),
        profile: Ok(ProfileProvider::with_configuration(file.path(), "work")),
        profile_first: false,
        container: ContainerProvider::new(),
        instance: metadata,
    };
    (chain, file)
}

#[tokio::test]
async fn a_profile_is_found() {
    let profiles = "[default]\naws_access_key_id = no\naws_secret_access_key = no\n\
                    [work]\naws_access_key_id = yes\naws_secret_access_key = s\n";
    let (chain, _file) = chain(profiles, &Server::nowhere());
    let found = chain.credentials().await.unwrap();
    assert_eq!(found.aws_access_key_id(), "yes");
}

#[tokio::test]
async fn an_instances_role_is_found() {
    let role = "{\"AccessKeyId\":\"role-id\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\
                \"Expiration\":\"2999-01-01T00:00:00Z\",\"Code\":\"Success\"}";
    let server = Server::start([answer(200, "the-role"), answer(200, role)]).await;
    let (chain, _file) = chain("", &server);
    let found = chain.credentials().await.unwrap();
    assert_eq!(found.aws_access_key_id(), "role-id");
    assert_eq!(found.token().as_deref(), Some("t"));
    assert!(found.expires_at().is_some());
    assert!(server.lines()[1].ends_with("/security-credentials/the-role"));
}

#[tokio::test]
async fn without_any_the_error_tells_where_it_looked() {
    let (chain, file) = chain("", &Server::nowhere());
    let error = chain.credentials().await.unwrap_err().message;
    for words in [
        "no AWS credentials found",
        "environment: No (or empty) BLOBGATE_UNIT_TEST_NONE_ACCESS_KEY_ID",
        &format!("profile work in {}", file.path().display()),
        "container: ",
        "instance metadata: ",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[tokio::test]
async fn a_profile_that_makes_the_reader_panic_is_no_panic() {
    let (chain, _file) = chain("[work]\naws_access_key_id\n", &Server::nowhere());
    let error = chain.credentials().await.unwrap_err().message;
    assert!(
        error.contains("credential_process: it cannot be read"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_metadata_service_is_given_up() {
    let server = Server::start([crate::test_server::Step::Hang]).await;
    let (chain, _file) = chain("", &server);
    let error = chain.credentials().await.unwrap_err().message;
    assert!(error.contains("instance metadata: "), "{error}");
    assert!(
        error.contains("timed out") || error.contains("no answer within"),
        "{error}"
    );
}

//! Answers a registry's challenges. Credentials go to the registry itself and to the token service
//! it names, and nowhere else.

mod credentials;

pub use credentials::{Credentials, Token};

use crate::endpoint::{Endpoint, is_loopback};
use crate::failure::{Failure, Refusal, printable};
use crate::http_client::{HttpClient, Payload};
use blobgate::registry::{Bearer, Challenge, basic_authorization, bearer_authorization, challenge};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use url::Url;

/// How long a token lasts when its service doesn't say, by the token specification.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);
/// A token is renewed this long before its end, so that it doesn't expire on the way.
const MARGIN: Duration = Duration::from_secs(10);

pub struct Authenticator {
    endpoint: Endpoint,
    scope: String,
    credentials: Credentials,
    /// Held while a token is fetched, so that many pushes fetch one.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts the values that `header` has had.
    generation: u64,
    header: Option<HeaderValue>,
    /// The challenge to answer again, and when.
    renewal: Option<(Bearer, Instant)>,
}

/// What a request may carry.
#[derive(Clone)]
pub struct Grant {
    generation: u64,
    pub header: Option<HeaderValue>,
}

impl Authenticator {
    pub fn new(endpoint: Endpoint, repository: &str, credentials: Credentials) -> Self {
        Self {
            endpoint,
            scope: format!("repository:{repository}:pull,push"),
            credentials,
            state: Mutex::default(),
        }
    }

    /// Whose credentials these are, for messages.
    pub fn login(&self) -> Option<String> {
        match &self.credentials {
            Credentials::None => None,
            Credentials::Basic { user, .. } => Some(format!("the login of {user}")),
            Credentials::Token(_) => Some("the token".into()),
        }
    }

    /// The authorization for the next request to the registry; empty before the first challenge.
    pub async fn grant(&self, http: &HttpClient) -> Result<Grant, Failure> {
        let mut state = self.state.lock().await;
        if let Some((bearer, at)) = state.renewal.clone()
            && Instant::now() >= at
        {
            self.fetch(http, &bearer, &mut state).await?;
        }
        Ok(Grant {
            generation: state.generation,
            header: state.header.clone(),
        })
    }

    /// Answers a 401 that a request with `used` got. `false` when there is nothing new to offer.
    pub async fn answer(
        &self,
        http: &HttpClient,
        headers: &HeaderMap,
        used: &Grant,
    ) -> Result<bool, Failure> {
        let mut state = self.state.lock().await;
        if state.generation != used.generation {
            // Another push has answered meanwhile.
            return Ok(true);
        }
        match (&self.credentials, challenge(headers)) {
            (Credentials::Token(token), _) => {
                let value = match &token.file {
                    Some(file) => Token::from_file(file).map_err(Failure::Credentials)?.value,
                    None => token.value.clone(),
                };
                let header = bearer_authorization(&value).ok_or_else(|| {
                    Failure::Credentials("the token has characters no header can have".into())
                })?;
                Ok(state.set(header))
            }
            (Credentials::Basic { user, password }, Some(Challenge::Basic)) => {
                Ok(state.set(basic_authorization(user, password)))
            }
            (_, Some(Challenge::Bearer(bearer))) => self.fetch(http, &bearer, &mut state).await,
            (_, Some(Challenge::Basic) | None) => Ok(false),
        }
    }

    async fn fetch(
        &self,
        http: &HttpClient,
        bearer: &Bearer,
        state: &mut State,
    ) -> Result<bool, Failure> {
        let url = self.token_url(bearer)?;
        let authorization = match &self.credentials {
            Credentials::Basic { user, password } => Some(basic_authorization(user, password)),
            Credentials::None | Credentials::Token(_) => None,
        };
        let answer = http
            .send(Method::GET, &url, authorization, None, Payload::Empty)
            .await?;
        if answer.status != StatusCode::OK {
            let what = "fetching a token";
            let refusal = Refusal::new(what, answer.status, &answer.headers, &answer.body);
            return Err(match answer.status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    Failure::Credentials(match &self.credentials {
                        Credentials::Basic { user, .. } => format!(
                            "the token service {} refuses the credentials of {user}",
                            url.origin().ascii_serialization()
                        ),
                        Credentials::None | Credentials::Token(_) => refusal.to_string(),
                    })
                }
                _ => refusal.into(),
            });
        }
        let token = parse_token(&answer.body)?;
        let lifetime = token
            .expires_in
            .map_or(DEFAULT_LIFETIME, Duration::from_secs);
        // Short-lived tokens still serve for half their life.
        let fresh = lifetime.saturating_sub(MARGIN).max(lifetime / 2);
        let header = bearer_authorization(&token.value).ok_or_else(|| {
            Failure::Protocol("the token service's token cannot be sent in a header".into())
        })?;
        state.set(header);
        state.renewal = Some((bearer.clone(), Instant::now() + fresh));
        Ok(true)
    }

    fn token_url(&self, bearer: &Bearer) -> Result<Url, Failure> {
        let shown = printable(&bearer.realm);
        let mut url = Url::parse(&bearer.realm).map_err(|error| {
            Failure::Protocol(format!("the token service's address {shown:?}: {error}"))
        })?;
        match url.scheme() {
            "https" => (),
            "http" if !self.endpoint.is_encrypted() || is_loopback(&url) => (),
            _ => {
                return Err(Failure::Credentials(format!(
                    "the registry names a token service without encryption, {shown}: refusing to \
                     ask there"
                )));
            }
        }
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &bearer.service {
                query.append_pair("service", service);
            }
            query.append_pair("scope", &self.scope);
            // A registry behind a renaming proxy knows this repository by another name.
            if let Some(scope) = &bearer.scope
                && resource(scope) != resource(&self.scope)
            {
                query.append_pair("scope", scope);
            }
            if let Credentials::Basic { user, .. } = &self.credentials {
                query.append_pair("account", user);
            }
        }
        Ok(url)
    }
}

impl State {
    /// `false` when this very header was just refused.
    fn set(&mut self, header: HeaderValue) -> bool {
        if self.header.as_ref() == Some(&header) {
            return false;
        }
        self.header = Some(header);
        self.generation += 1;
        true
    }
}

/// A scope without its actions.
fn resource(scope: &str) -> &str {
    scope
        .rsplit_once(':')
        .map_or(scope, |(resource, _)| resource)
}

struct TokenAnswer {
    value: String,
    expires_in: Option<u64>,
}

fn parse_token(body: &[u8]) -> Result<TokenAnswer, Failure> {
    #[derive(Deserialize)]
    struct Body {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    // The parser's error may quote the token: leave it out.
    let body: Body = serde_json::from_slice(body).map_err(|_| {
        Failure::Protocol("the token service's answer is not the JSON it should be".into())
    })?;
    let value = body.token.or(body.access_token).unwrap_or_default();
    if value.is_empty() {
        return Err(Failure::Protocol(
            "the token service's answer has no token".into(),
        ));
    }
    Ok(TokenAnswer {
        value,
        expires_in: body.expires_in,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authenticator(endpoint: &str) -> Authenticator {
        let credentials = Credentials::Basic {
            user: "ann".into(),
            password: "secret".into(),
        };
        Authenticator::new(endpoint.parse().unwrap(), "a/b", credentials)
    }

    fn bearer(realm: &str, scope: Option<&str>) -> Bearer {
        Bearer {
            realm: realm.into(),
            service: Some("a registry".into()),
            scope: scope.map(str::to_owned),
            error: None,
        }
    }

    #[test]
    fn asks_for_pull_and_push() {
        let authenticator = authenticator("https://registry.test");
        let realm = "https://auth.test/token?x=1";
        for (scope, expected) in [
            (None, "&account=ann"),
            (Some("repository:a/b:pull"), "&account=ann"),
            (
                Some("repository:cache/a/b:pull"),
                "&scope=repository%3Acache%2Fa%2Fb%3Apull&account=ann",
            ),
        ] {
            let url = authenticator.token_url(&bearer(realm, scope)).unwrap();
            assert_eq!(
                url.as_str(),
                format!(
                    "{realm}&service=a+registry&scope=repository%3Aa%2Fb%3Apull%2Cpush{expected}"
                )
            );
        }
    }

    #[test]
    fn sends_no_password_in_clear_where_the_registry_is_encrypted() {
        let clear = bearer("http://auth.test/token", None);
        assert!(
            authenticator("https://registry.test")
                .token_url(&clear)
                .is_err()
        );
        assert!(
            authenticator("http://registry.test")
                .token_url(&clear)
                .is_ok()
        );
        let file = bearer("file:///token", None);
        assert!(
            authenticator("http://registry.test")
                .token_url(&file)
                .is_err()
        );
    }

    #[test]
    fn reads_either_name_of_the_token() {
        for (body, expected) in [
            (r#"{"token": "t", "access_token": "u"}"#, Some(("t", None))),
            (
                r#"{"access_token": "u", "expires_in": 300, "issued_at": "x"}"#,
                Some(("u", Some(300))),
            ),
            (r#"{"token": ""}"#, None),
            ("{}", None),
            ("no", None),
        ] {
            let token = parse_token(body.as_bytes()).ok();
            let token = token.as_ref().map(|t| (t.value.as_str(), t.expires_in));
            assert_eq!(token, expected, "{body}");
        }
    }
}

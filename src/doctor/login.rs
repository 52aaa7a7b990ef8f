//! Whom the doctor is to the upstream: a user's name and password, or docker's own login, made into
//! an `Authorization` header.

use super::report::{Finding, Verdict};
use crate::config;
use crate::net;
use crate::registry::{
    Bearer, Challenge, DockerLogin, RepositoryName, basic_authorization, bearer_authorization,
    challenge, docker_config_path, docker_login,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use url::Url;

/// A token service's answer longer than this is none.
const MAX_ANSWER: usize = 1 << 20;

/// No `Debug`: it holds a password.
#[derive(Clone)]
pub struct Login {
    pub user: String,
    pub password: String,
}

/// What docker's configuration has for one of these registries, and where it was found.
fn dockers(authorities: &[String]) -> Option<Result<DockerLogin, String>> {
    let path = docker_config_path()?;
    let json = std::fs::read_to_string(path).ok()?;
    authorities
        .iter()
        .map(|authority| docker_login(&json, authority))
        .find(|login| !matches!(login, Ok(DockerLogin::None)))
}

/// Answers the registry's challenge.
pub struct Authorising<'a> {
    pub upstream: &'a config::Upstream,
    pub given: Option<&'a Login>,
    /// Names under which docker may have logged in.
    pub authorities: Vec<String>,
    pub repository: Option<&'a RepositoryName>,
}

impl Authorising<'_> {
    /// The header for all further requests, or none where the registry asks for none. `refusal` are
    /// the headers of its 401.
    pub async fn authorise(&self, refusal: Option<&HeaderMap>) -> Verdict<Option<HeaderValue>> {
        let Some(refusal) = refusal else {
            let found = "the registry asks for no credentials".to_owned();
            return Verdict::Pass(found, None);
        };
        let (login, source) = match (self.given, dockers(&self.authorities)) {
            (Some(login), _) => (login.clone(), "--username".to_owned()),
            (None, Some(Ok(DockerLogin::Basic { user, password }))) => (
                Login { user, password },
                "docker's configuration".to_owned(),
            ),
            (None, Some(Ok(DockerLogin::Token(token)))) => {
                return match bearer_authorization(&token) {
                    Some(header) => Verdict::Pass(
                        "a token from docker's configuration".to_owned(),
                        Some(header),
                    ),
                    None => refused("docker's token has characters that no header can have"),
                };
            }
            (None, Some(Ok(DockerLogin::Helper(helper)))) => {
                return skip(&format!(
                    "docker's login is kept by the credential helper {}, which is not run",
                    helper.escape_debug()
                ));
            }
            (None, Some(Err(_))) => return skip("docker's configuration cannot be read"),
            (None, Some(Ok(DockerLogin::None)) | None) => {
                return skip("the registry asks for credentials, and none were given");
            }
        };
        match challenge(refusal) {
            Some(Challenge::Basic) => Verdict::Pass(
                format!("as {} (from {source})", login.user.escape_debug()),
                Some(basic_authorization(&login.user, &login.password)),
            ),
            Some(Challenge::Bearer(bearer)) => match self.token(&bearer, &login).await {
                Ok(header) => Verdict::Pass(
                    format!(
                        "as {} (from {source}), with a token from {}",
                        login.user.escape_debug(),
                        host_of(&bearer.realm)
                    ),
                    Some(header),
                ),
                Err(reason) => refused(&reason),
            },
            None => refused("the registry's 401 names no way to log in (WWW-Authenticate)"),
        }
    }

    /// <https://distribution.github.io/distribution/spec/auth/token/>
    async fn token(&self, bearer: &Bearer, login: &Login) -> Result<HeaderValue, String> {
        let service = host_of(&bearer.realm);
        let mut url = Url::parse(&bearer.realm)
            .map_err(|error| format!("the token service's address is no URL: {error}"))?;
        // The password is not to be read on the way to it where it was not on the way here.
        if url.scheme() != "https" && self.upstream.url.scheme() == "https" {
            return Err(format!(
                "the registry names a token service without encryption, {service}"
            ));
        }
        let scope = self
            .repository
            .map(|name| format!("repository:{name}:pull,push,delete"));
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = &bearer.service {
                query.append_pair("service", service);
            }
            if let Some(scope) = &scope {
                query.append_pair("scope", scope);
            }
            query.append_pair("account", &login.user);
        }
        let same_host = url.host_str() == self.upstream.url.host_str();
        let client = net::Client::new(&net::Options {
            connect_timeout: self.upstream.connect_timeout,
            idle_timeout: self.upstream.idle_timeout,
            pool_idle_timeout: self.upstream.idle_timeout,
            pool_size: 1,
            encrypted: true,
            ca_file: self.upstream.ca_file.clone().filter(|_| same_host),
        })
        .map_err(|error| error.to_string())?;
        let request = Request::builder()
            .method(Method::GET)
            .uri(url.as_str())
            .header(
                header::AUTHORIZATION,
                basic_authorization(&login.user, &login.password),
            )
            .body(net::empty())
            .map_err(|error| error.to_string())?;
        let answer = client
            .call_within(self.upstream.probe_timeout, request, MAX_ANSWER)
            .await
            .map_err(|error| format!("the token service {service} does not answer: {error}"))?;
        if answer.status() != StatusCode::OK {
            let status = answer.status();
            return Err(format!("the token service {service} answered {status}"));
        }
        // Nothing of the answer is repeated: it holds the token.
        let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let token = body["token"].as_str().or(body["access_token"].as_str());
        token
            .and_then(bearer_authorization)
            .ok_or_else(|| format!("the token service {service} gave no token"))
    }
}

fn host_of(realm: &str) -> String {
    let host = Url::parse(realm)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| "without a host".to_owned())
}

fn skip<T>(found: &str) -> Verdict<T> {
    Verdict::Skip(Finding::new(
        format!("not checked: {found}"),
        "give --username, with the password in BLOBGATE_PASSWORD or by --password-stdin, and \
         --repository",
    ))
}

fn refused<T>(found: &str) -> Verdict<T> {
    Verdict::Fail(Finding::new(
        found,
        "see that user and password are right, and that the registry's auth.token.realm is",
    ))
}

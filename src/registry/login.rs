//! A user's login as requests carry it, and where docker keeps one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `Authorization: Basic`, marked so that no debug output shows it.
pub fn basic_authorization(user: &str, password: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    // Base64 has no character that a header may not have.
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}"))
        .expect("base64 is always a valid header value");
    value.set_sensitive(true);
    value
}

/// `Authorization: Bearer`, where the token can be written in a header.
pub fn bearer_authorization(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Where docker keeps its logins.
pub fn docker_config_path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    match set("DOCKER_CONFIG") {
        Some(directory) => Some(PathBuf::from(directory).join("config.json")),
        None => Some(PathBuf::from(set("HOME")?).join(".docker/config.json")),
    }
}

/// What docker's configuration has for this registry.
#[derive(PartialEq, Eq, Debug)]
pub enum DockerLogin {
    None,
    Basic {
        user: String,
        password: String,
    },
    Token(String),
    /// The login is kept by a credential helper, a program of its own.
    Helper(String),
}

/// Looks a registry, `host` or `host:port`, up in the text of a `config.json`.
pub fn docker_login(json: &str, authority: &str) -> Result<DockerLogin, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Config {
        #[serde(default)]
        auths: BTreeMap<String, Auth>,
        #[serde(default)]
        cred_helpers: BTreeMap<String, String>,
        #[serde(default)]
        creds_store: String,
    }
    #[derive(Deserialize)]
    struct Auth {
        #[serde(default)]
        auth: String,
        #[serde(default)]
        username: String,
        #[serde(default)]
        password: String,
        #[serde(default)]
        identitytoken: String,
        #[serde(default)]
        registrytoken: String,
    }

    let config: Config = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let ours = |key: &str| host_of(key) == authority;
    if let Some((_, helper)) = config.cred_helpers.iter().find(|(key, _)| ours(key)) {
        return Ok(DockerLogin::Helper(helper.clone()));
    }
    let Some((_, auth)) = config.auths.iter().find(|(key, _)| ours(key)) else {
        return Ok(DockerLogin::None);
    };
    if !auth.registrytoken.is_empty() {
        return Ok(DockerLogin::Token(auth.registrytoken.clone()));
    }
    if !auth.auth.is_empty() {
        // docker pads the decoded text with zero bytes at times.
        let decoded = STANDARD.decode(auth.auth.trim()).ok();
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| format!("the login for {authority} is not base64"))?;
        let (user, password) = text
            .trim_end_matches('\0')
            .split_once(':')
            .ok_or_else(|| format!("the login for {authority} has no password"))?;
        if !password.is_empty() {
            return Ok(DockerLogin::Basic {
                user: user.to_owned(),
                password: password.to_owned(),
            });
        }
    }
    if !auth.username.is_empty() && !auth.password.is_empty() {
        return Ok(DockerLogin::Basic {
            user: auth.username.clone(),
            password: auth.password.clone(),
        });
    }
    // With a store, `docker login` leaves an empty entry here.
    if !config.creds_store.is_empty() {
        return Ok(DockerLogin::Helper(config.creds_store));
    }
    if !auth.identitytoken.is_empty() {
        return Err(format!("the login for {authority} is an identity token"));
    }
    Ok(DockerLogin::None)
}

/// Keys are hosts, or URLs in older files.
fn host_of(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    key.split('/').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(json: &str) -> Result<DockerLogin, String> {
        docker_login(json, "registry.test:5000")
    }

    #[test]
    fn finds_a_login_by_host_and_port() {
        let expected = DockerLogin::Basic {
            user: "ann".into(),
            password: "pa:ss".into(),
        };
        for key in [
            "registry.test:5000",
            "https://registry.test:5000",
            "https://registry.test:5000/v1/",
        ] {
            let json = format!(
                r#"{{"auths": {{"other.test": {{"auth": "eDp5"}}, "{key}": {{"auth": "YW5uOnBhOnNz"}}}}}}"#
            );
            assert_eq!(login(&json).unwrap(), expected, "{key}");
        }
        for key in [
            "registry.test",
            "registry.test:50001",
            "sub.registry.test:5000",
        ] {
            let json = format!(r#"{{"auths": {{"{key}": {{"auth": "YW5uOnBhOnNz"}}}}}}"#);
            assert_eq!(login(&json).unwrap(), DockerLogin::None, "{key}");
        }
    }

    #[test]
    fn says_when_a_helper_keeps_the_login() {
        let stored = r#"{"auths": {"registry.test:5000": {}}, "credsStore": "desktop"}"#;
        assert_eq!(
            login(stored).unwrap(),
            DockerLogin::Helper("desktop".into())
        );
        let helper = r#"{"credHelpers": {"registry.test:5000": "pass"}}"#;
        assert_eq!(login(helper).unwrap(), DockerLogin::Helper("pass".into()));
        assert_eq!(login("{}").unwrap(), DockerLogin::None);
        assert!(login("[").is_err());
        assert!(login(r#"{"auths": {"registry.test:5000": {"auth": "%"}}}"#).is_err());
    }

    #[test]
    fn a_header_with_a_secret_prints_nothing_of_it() {
        assert_eq!(
            basic_authorization("ann", "secret"),
            "Basic YW5uOnNlY3JldA=="
        );
        assert_eq!(
            format!("{:?}", basic_authorization("ann", "secret")),
            "Sensitive"
        );
        assert!(bearer_authorization("line\nbreak").is_none());
    }
}

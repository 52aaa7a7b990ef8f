//! Where the registry is, and which addresses are the same place.

use std::str::FromStr;
use url::{Host, Url};

/// A registry's address: scheme, host and port, nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// A URL on this registry; `path` begins behind `/v2/` and is already valid in a URL.
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("/v2/{path}"));
        url
    }

    /// Whether credentials for this registry may be sent to `url`.
    pub fn owns(&self, url: &Url) -> bool {
        self.0.origin() == url.origin()
    }

    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Host and port as they are written in docker's `config.json`: a default port is left out.
    pub fn authority(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            // Plain http only where nobody can listen in.
            Url::parse(&format!("https://{text}")).and_then(|url| {
                if is_loopback(&url) {
                    Url::parse(&format!("http://{text}"))
                } else {
                    Ok(url)
                }
            })
        };
        let url = url.map_err(|error| format!("not an address: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the scheme must be http or https".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "credentials don't belong on the command line, where every process can read \
                 them: use --user with --password-stdin or BLOBGATE_PASSWORD"
                    .into(),
            );
        }
        if !matches!(url.path().trim_matches('/'), "" | "v2") {
            return Err("give the registry without a path; the repository comes after it".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("give the registry without query or fragment".into());
        }
        let mut url = url;
        url.set_path("");
        Ok(Self(url))
    }
}

pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_host_means_https_except_on_loopback() {
        for (text, expected, authority) in [
            ("registry.test", "https://registry.test", "registry.test"),
            (
                "registry.test:5000",
                "https://registry.test:5000",
                "registry.test:5000",
            ),
            ("localhost:5000", "http://localhost:5000", "localhost:5000"),
            ("localhost:443", "http://localhost:443", "localhost:443"),
            ("127.0.0.1", "http://127.0.0.1", "127.0.0.1"),
            ("[::1]:5000", "http://[::1]:5000", "[::1]:5000"),
            (
                "http://registry.test/",
                "http://registry.test",
                "registry.test",
            ),
            (
                "https://localhost:443/v2/",
                "https://localhost",
                "localhost",
            ),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), expected, "{text}");
            assert_eq!(endpoint.authority(), authority, "{text}");
            assert_eq!(
                endpoint.url("a/blobs/").as_str(),
                format!("{expected}/v2/a/blobs/")
            );
        }
    }

    #[test]
    fn refuses_what_is_no_registry() {
        for text in [
            "",
            "ftp://registry.test",
            "https://user:secret@registry.test",
            "user@registry.test",
            "registry.test/repository",
            "registry.test?a=b",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn owns_only_its_own_origin() {
        let endpoint: Endpoint = "https://registry.test".parse().unwrap();
        for (url, owned) in [
            ("https://registry.test:443/x", true),
            ("http://registry.test/x", false),
            ("https://registry.test:8443/x", false),
            ("https://registry.test.evil.test/x", false),
        ] {
            assert_eq!(endpoint.owns(&Url::parse(url).unwrap()), owned, "{url}");
        }
    }
}

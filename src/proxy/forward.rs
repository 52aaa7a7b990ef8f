use crate::config;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::protocols::Digest;
use pingora::proxy::Session;
use pingora::tls::ssl::SslRef;
use pingora::tls::x509::X509;
use pingora::upstreams::peer::{ALPN, HttpPeer};
use pingora::{Error, ErrorType, OrErr, Result};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How requests reach the upstream.
pub struct Forwarding {
    host: String,
    port: u16,
    tls: bool,
    ca: Option<Arc<Box<[X509]>>>,
    connect_timeout: Duration,
    idle_timeout: Duration,
    trust_forwarded: bool,
}

/// Marks a connection whose certificate names the address it goes to.
struct AddressNamed;

fn names_address(ssl: &SslRef, address: IpAddr) -> bool {
    let names = ssl
        .peer_certificate()
        .and_then(|certificate| certificate.subject_alt_names());
    names.is_some_and(|names| {
        names.iter().any(|name| match (name.ipaddress(), address) {
            (Some(named), IpAddr::V4(address)) => named == address.octets(),
            (Some(named), IpAddr::V6(address)) => named == address.octets(),
            (None, _) => false,
        })
    })
}

/// Why forwarding cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("the upstream URL {0} has no host")]
    NoHost(url::Url),
    #[error("cannot read the upstream's certificate authorities {path}: {reason}")]
    Ca { path: String, reason: String },
}

impl Forwarding {
    pub fn new(
        upstream: &config::Upstream,
        trust_forwarded: bool,
    ) -> std::result::Result<Self, SetupError> {
        let no_host = || SetupError::NoHost(upstream.url.clone());
        let ca = upstream.ca_file.as_ref().map(|path| {
            let failed = |reason: String| SetupError::Ca {
                path: path.display().to_string(),
                reason,
            };
            let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let ca = X509::stack_from_pem(&pem).map_err(|error| failed(error.to_string()))?;
            Ok(Arc::new(ca.into_boxed_slice()))
        });
        Ok(Self {
            // An IPv6 address stands in brackets in a URL, and nowhere else.
            host: upstream
                .url
                .host_str()
                .ok_or_else(no_host)?
                .trim_matches(['[', ']'])
                .to_owned(),
            port: upstream.url.port_or_known_default().ok_or_else(no_host)?,
            tls: upstream.url.scheme() == "https",
            ca: ca.transpose()?,
            connect_timeout: upstream.connect_timeout,
            idle_timeout: upstream.idle_timeout,
            trust_forwarded,
        })
    }

    /// Where the next request goes, and whether there are further addresses to try after this one.
    /// The name is looked up anew each time, so that an upstream may move. `tried` counts the
    /// addresses that could not be connected to.
    pub async fn peer(&self, tried: usize) -> Result<(HttpPeer, bool)> {
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        let mut addresses = tokio::time::timeout(self.connect_timeout, lookup)
            .await
            .or_err(
                ErrorType::ConnectTimedout,
                "looking up the upstream's name took too long",
            )
            .map_err(|error| error.into_up())?
            .or_err(ErrorType::ConnectError, "looking up the upstream's name")
            .map_err(|error| error.into_up())?
            .skip(tried);
        let address = addresses.next().ok_or_else(|| {
            Error::explain(
                ErrorType::ConnectError,
                "the upstream's name has no further address",
            )
            .into_up()
        })?;
        let more = addresses.next().is_some();
        let mut peer = HttpPeer::new(address, self.tls, self.host.clone());
        peer.options.ca.clone_from(&self.ca);
        if let Some(address) = self.named_by_address() {
            // pingora compares host names only; `check_peer` insists on the outcome of this.
            peer.options.verify_hostname = false;
            peer.options.upstream_tls_handshake_complete_hook = Some(Arc::new(move |ssl| {
                names_address(ssl, address).then(|| Arc::new(AddressNamed) as _)
            }));
        }
        peer.options.alpn = ALPN::H1;
        peer.options.connection_timeout = Some(self.connect_timeout);
        peer.options.total_connection_timeout = Some(self.connect_timeout * 2);
        peer.options.read_timeout = Some(self.idle_timeout);
        peer.options.write_timeout = Some(self.idle_timeout);
        Ok((peer, more))
    }

    /// To be called before anything is sent to an upstream that is known by its address.
    pub fn check_peer(&self, digest: Option<&Digest>) -> Result<()> {
        if self.named_by_address().is_none() {
            return Ok(());
        }
        let named = digest
            .and_then(|digest| digest.ssl_digest.as_ref())
            .is_some_and(|tls| tls.extension.get::<AddressNamed>().is_some());
        if named {
            return Ok(());
        }
        Err(Error::explain(
            ErrorType::InvalidCert,
            "the upstream's certificate does not name its address",
        )
        .into_up())
    }

    /// The address that an upstream's certificate has to name, as its URL has no host name.
    fn named_by_address(&self) -> Option<IpAddr> {
        self.host.parse().ok().filter(|_| self.tls)
    }

    /// Tells the upstream who asks, and by what name and scheme, so that the Location URLs it makes
    /// lead back here.
    pub fn mark(&self, session: &Session, request: &mut RequestHeader) -> Result<()> {
        for name in &FORWARDED {
            request.remove_header(name);
        }
        for (name, value) in &self.forwarded_headers(session) {
            request.append_header(name, value)?;
        }
        Ok(())
    }

    /// The client's headers, marked the same way, for the questions blobgate asks itself.
    pub fn marked_headers(&self, session: &Session) -> HeaderMap {
        let mut headers = crate::upstream::question_headers(&session.req_header().headers);
        for name in &FORWARDED {
            headers.remove(name);
        }
        headers.extend(self.forwarded_headers(session));
        if let Some(host) = host(session.req_header()) {
            headers.insert(header::HOST, host);
        }
        headers
    }

    fn forwarded_headers(&self, session: &Session) -> HeaderMap {
        let address = session.client_addr().and_then(|address| address.as_inet());
        let tls = session
            .digest()
            .is_some_and(|digest| digest.ssl_digest.is_some());
        forwarded(
            &session.req_header().headers,
            self.trust_forwarded,
            address.map(|address| address.ip()),
            if tls { "https" } else { "http" },
            host(session.req_header()),
        )
    }
}

/// Everything by which a request tells who sent it on. distribution prefers `Forwarded` to the
/// others (`registry/api/v2/urls.go`).
const FORWARDED: [HeaderName; 4] = [
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_FORWARDED_HOST,
    header::FORWARDED,
];

/// These headers as the upstream is to see them. What came in counts only where it is trusted, and
/// then its last line: the proxy before us may have added one of its own to the client's.
fn forwarded(
    incoming: &HeaderMap,
    trust: bool,
    client: Option<IpAddr>,
    scheme: &'static str,
    host: Option<HeaderValue>,
) -> HeaderMap {
    let trusted = |name: &HeaderName| {
        let lines = incoming.get_all(name).iter();
        lines.filter(|_| trust).cloned().collect::<Vec<_>>()
    };
    let mut headers = HeaderMap::new();

    // An IPv4 client of an IPv6 listener is known by its IPv4 address.
    let client = client.map(|client| client.to_canonical().to_string());
    let chain: Vec<String> = trusted(&X_FORWARDED_FOR)
        .iter()
        .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
        .chain(client)
        .collect();
    // Nothing but ASCII names anybody's address.
    if let Ok(chain) = HeaderValue::from_str(&chain.join(", "))
        && !chain.is_empty()
    {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    let scheme = trusted(&X_FORWARDED_PROTO)
        .pop()
        .unwrap_or(HeaderValue::from_static(scheme));
    headers.insert(X_FORWARDED_PROTO, scheme);
    if let Some(host) = trusted(&X_FORWARDED_HOST).pop().or(host) {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if let Some(line) = trusted(&header::FORWARDED).pop() {
        headers.insert(header::FORWARDED, line);
    }
    headers
}

/// The name the client used for us: `Host`, or HTTP/2's `:authority`.
fn host(request: &RequestHeader) -> Option<HeaderValue> {
    request.headers.get(header::HOST).cloned().or_else(|| {
        let authority = request.uri.authority()?;
        HeaderValue::from_str(authority.as_str()).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (X_FORWARDED_FOR, "6.6.6.6"),
            (X_FORWARDED_FOR, "10.0.0.7"),
            (X_FORWARDED_PROTO, "https"),
            (X_FORWARDED_HOST, "forged.example"),
            (X_FORWARDED_HOST, "outer.example"),
            (header::FORWARDED, "host=forged.example"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    fn seen(trust: bool, incoming: &HeaderMap) -> Vec<(String, String)> {
        let client = "::ffff:192.0.2.1".parse().ok();
        let host = Some(HeaderValue::from_static("inner"));
        let headers = forwarded(incoming, trust, client, "http", host);
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        let mut seen: Vec<_> = headers.iter().map(text).collect();
        seen.sort();
        seen
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn what_clients_claim_is_replaced() {
        let expected = pairs(&[
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-host", "inner"),
            ("x-forwarded-proto", "http"),
        ]);
        assert_eq!(seen(false, &incoming()), expected);
        assert_eq!(seen(true, &HeaderMap::new()), expected);
    }

    #[test]
    fn what_a_trusted_proxy_says_is_kept() {
        let expected = pairs(&[
            ("forwarded", "host=forged.example"),
            ("x-forwarded-for", "6.6.6.6, 10.0.0.7, 192.0.2.1"),
            ("x-forwarded-host", "outer.example"),
            ("x-forwarded-proto", "https"),
        ]);
        assert_eq!(seen(true, &incoming()), expected);
    }
}

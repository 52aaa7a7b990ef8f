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

    /// Where the next request goes. The name is looked up anew each time, so that an upstream may
    /// move.
    pub async fn peer(&self) -> Result<HttpPeer> {
        let address = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .or_err(ErrorType::ConnectError, "looking up the upstream's name")
            .map_err(|error| error.into_up())?
            .next()
            .ok_or_else(|| {
                Error::explain(
                    ErrorType::ConnectError,
                    "the upstream's name has no address",
                )
                .into_up()
            })?;
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
        Ok(peer)
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
        for (name, value) in &self.forwarded_headers(session) {
            request.insert_header(name, value.clone())?;
        }
        if !self.trust_forwarded {
            // distribution prefers it to the others (`registry/api/v2/urls.go`).
            request.remove_header(&header::FORWARDED);
        }
        Ok(())
    }

    /// The client's headers, marked the same way, for the questions blobgate asks itself.
    pub fn marked_headers(&self, session: &Session) -> HeaderMap {
        let mut headers = crate::upstream::question_headers(&session.req_header().headers);
        if !self.trust_forwarded {
            headers.remove(header::FORWARDED);
        }
        headers.extend(self.forwarded_headers(session));
        if let Some(host) = host(session.req_header()) {
            headers.insert(header::HOST, host);
        }
        headers
    }

    fn forwarded_headers(&self, session: &Session) -> HeaderMap {
        let incoming = &session.req_header().headers;
        let mut headers = HeaderMap::new();

        let kept = |name: &HeaderName| {
            self.trust_forwarded
                .then(|| incoming.get(name).cloned())
                .flatten()
        };
        let client = session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(|address| address.ip().to_string());
        let chain = match (kept(&X_FORWARDED_FOR), client) {
            (Some(before), Some(client)) => {
                let before = String::from_utf8_lossy(before.as_bytes()).into_owned();
                Some(format!("{before}, {client}"))
            }
            (None, client) => client,
            (Some(_), None) => None,
        };
        if let Some(chain) = chain.and_then(|chain| HeaderValue::from_str(&chain).ok()) {
            headers.insert(X_FORWARDED_FOR, chain);
        }

        let scheme = match session.digest() {
            Some(digest) if digest.ssl_digest.is_some() => "https",
            _ => "http",
        };
        let scheme = kept(&X_FORWARDED_PROTO).unwrap_or(HeaderValue::from_static(scheme));
        headers.insert(X_FORWARDED_PROTO, scheme);

        let host = kept(&X_FORWARDED_HOST).or_else(|| host(session.req_header()));
        if let Some(host) = host {
            headers.insert(X_FORWARDED_HOST, host);
        }
        headers
    }
}

/// The name the client used for us: `Host`, or HTTP/2's `:authority`.
fn host(request: &RequestHeader) -> Option<HeaderValue> {
    request.headers.get(header::HOST).cloned().or_else(|| {
        let authority = request.uri.authority()?;
        HeaderValue::from_str(authority.as_str()).ok()
    })
}

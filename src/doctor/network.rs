//! The way to the upstream and to the bucket: name, connection, certificate.

use super::certificate::{self, subject};
use super::report::{Finding, Verdict};
use crate::net;
use openssl::ssl::{HandshakeError, SslConnector, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;
use url::Url;

/// One of the two servers blobgate talks to.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The configuration's key for its address.
    pub key: &'static str,
    /// And for the authorities to trust there.
    pub ca_key: &'static str,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    pub tls: bool,
    pub ca_file: Option<PathBuf>,
    pub timeout: Duration,
}

impl Peer {
    /// `None` for a URL without a host, which the configuration's reader lets none pass.
    pub fn new(
        key: &'static str,
        ca_key: &'static str,
        url: &Url,
        ca_file: Option<PathBuf>,
        timeout: Duration,
    ) -> Option<Self> {
        Some(Self {
            key,
            ca_key,
            host: url.host_str()?.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default()?,
            tls: url.scheme() == "https",
            ca_file,
            timeout,
        })
    }

    pub async fn dns(&self) -> Verdict<Vec<SocketAddr>> {
        let host = &self.host;
        if let Ok(ip) = host.parse() {
            let found = format!("{host} is an address; no name to look up");
            return Verdict::Pass(found, vec![SocketAddr::new(ip, self.port)]);
        }
        let looked_up = tokio::time::timeout(self.timeout, net::resolve(host, self.port));
        let reason = match looked_up.await {
            Ok(Ok(addresses)) if !addresses.is_empty() => {
                let list: Vec<String> = addresses.iter().map(|a| a.ip().to_string()).collect();
                return Verdict::Pass(format!("{host} is at {}", list.join(", ")), addresses);
            }
            Ok(Ok(_)) => "it has no address".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.timeout),
        };
        Verdict::Fail(Finding::new(
            format!("{host} cannot be looked up: {reason}"),
            format!(
                "correct the host in {}, or this machine's name servers (/etc/resolv.conf)",
                self.key
            ),
        ))
    }

    /// Tries every address, as blobgate does; one is enough.
    pub async fn connect(&self, addresses: &[SocketAddr]) -> Verdict<SocketAddr> {
        let mut reached = None;
        let mut reasons = Vec::new();
        for address in addresses {
            let attempt = tokio::net::TcpStream::connect(address);
            match tokio::time::timeout(self.timeout, attempt).await {
                Ok(Ok(_)) => {
                    reached.get_or_insert(*address);
                }
                Ok(Err(error)) => reasons.push(format!("{address}: {error}")),
                Err(_) => reasons.push(format!("{address}: no answer within {:?}", self.timeout)),
            }
        }
        match (reached, reasons.as_slice()) {
            (Some(address), []) => Verdict::Pass(format!("{address} takes connections"), address),
            (Some(address), _) => {
                let others = reasons.join(", ");
                let found = format!("{address} takes connections; others do not ({others})");
                Verdict::Pass(found, address)
            }
            (None, _) => Verdict::Fail(Finding::new(
                format!("no connection: {}", reasons.join(", ")),
                format!(
                    "start the server, correct host and port in {}, or open the firewall",
                    self.key
                ),
            )),
        }
    }

    pub async fn tls(&self, address: SocketAddr) -> Verdict {
        if !self.tls {
            let found = "plain HTTP; no certificate to look at".to_owned();
            return Verdict::Pass(found, ());
        }
        let peer = self.clone();
        let handshake = tokio::task::spawn_blocking(move || peer.judge(address));
        handshake.await.unwrap_or_else(|error| {
            Verdict::Fail(Finding::new(
                format!("the handshake broke off: {error}"),
                "try again",
            ))
        })
    }

    fn judge(&self, address: SocketAddr) -> Verdict {
        let chain = match self.handshake(address, true) {
            Ok(chain) => chain,
            Err(reason) => {
                // Once more without looking, to tell whose certificate it was.
                let shown = self.handshake(address, false).unwrap_or_default();
                return Verdict::Fail(self.refused(&reason, shown.first()));
            }
        };
        let whose = format!("the certificate of {}", self.host);
        certificate::judge(&chain, &whose, "have it renewed there")
    }

    fn refused(&self, reason: &str, shown: Option<&X509>) -> Finding {
        let Some(shown) = shown else {
            return Finding::new(
                format!("no TLS with {}: {reason}", self.host),
                format!(
                    "if it speaks plain HTTP there, write http:// in {}",
                    self.key
                ),
            );
        };
        let names: Vec<String> = shown
            .subject_alt_names()
            .iter()
            .flatten()
            .filter_map(|name| name.dnsname().map(str::to_owned))
            .collect();
        let trusted = match &self.ca_file {
            Some(path) => format!("{} ({})", path.display(), self.ca_key),
            None => "the system's authorities".to_owned(),
        };
        Finding::new(
            format!(
                "the certificate that {} shows ({}; for {}; until {}) does not pass with \
                 {trusted}: {reason}",
                self.host,
                subject(shown),
                if names.is_empty() {
                    "no host name".to_owned()
                } else {
                    names.join(", ")
                },
                shown.not_after(),
            ),
            format!(
                "name the authority that issued it in {}, use a host name that it covers in {}, or \
                 renew it",
                self.ca_key, self.key
            ),
        )
    }

    /// The certificates the server shows, its own first.
    fn handshake(&self, address: SocketAddr, verify: bool) -> Result<Vec<X509>, String> {
        let setup = |error: openssl::error::ErrorStack| error.to_string();
        let mut builder = SslConnector::builder(SslMethod::tls()).map_err(setup)?;
        builder
            .set_min_proto_version(Some(SslVersion::TLS1_2))
            .map_err(setup)?;
        if let Some(path) = &self.ca_file {
            let pem = std::fs::read(path).map_err(|error| error.to_string())?;
            let mut store = X509StoreBuilder::new().map_err(setup)?;
            for authority in X509::stack_from_pem(&pem).map_err(setup)? {
                store.add_cert(authority).map_err(setup)?;
            }
            builder.set_cert_store(store.build());
        }
        if !verify {
            builder.set_verify(SslVerifyMode::NONE);
        }
        let stream = TcpStream::connect_timeout(&address, self.timeout)
            .and_then(|stream| {
                stream.set_read_timeout(Some(self.timeout))?;
                stream.set_write_timeout(Some(self.timeout))?;
                Ok(stream)
            })
            .map_err(|error| error.to_string())?;
        let configuration = builder.build().configure().map_err(setup)?;
        let configuration = configuration.verify_hostname(verify);
        let stream = configuration
            .connect(&self.host, stream)
            .map_err(|error| match error {
                HandshakeError::Failure(stream) => {
                    let verified = stream.ssl().verify_result();
                    match verified == openssl::x509::X509VerifyResult::OK {
                        true => stream.error().to_string(),
                        false => verified.error_string().to_owned(),
                    }
                }
                other => other.to_string(),
            })?;
        let chain = stream.ssl().peer_cert_chain();
        Ok(chain
            .iter()
            .flat_map(|chain| chain.iter())
            .map(ToOwned::to_owned)
            .collect())
    }
}

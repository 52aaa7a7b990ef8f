use std::io;
use std::net::SocketAddr;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_native_tls::TlsAcceptor;

use super::S3Options;
use super::service::Service;
use crate::background::Background;

/// Starts to serve and returns where.
pub(super) fn start(
    background: &Background,
    service: Service,
    options: &S3Options,
) -> io::Result<SocketAddr> {
    let mut builder = S3ServiceBuilder::new(service);
    builder.set_auth(SimpleAuth::from_single(
        options.access_key.as_str(),
        options.secret_key.as_str(),
    ));
    builder.set_host(Domain(options.domain.clone()));
    let service = builder.build();

    let acceptor = match &options.tls {
        None => None,
        Some(identity) => {
            let (certificate, key) = (identity.certificate.as_bytes(), identity.key.as_bytes());
            let identity = native_tls::Identity::from_pkcs8(certificate, key);
            let acceptor = identity.and_then(native_tls::TlsAcceptor::new);
            Some(TlsAcceptor::from(acceptor.map_err(io::Error::other)?))
        }
    };

    let listener = std::net::TcpListener::bind(options.address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let _runtime = background.enter();
    let listener = TcpListener::from_std(listener)?;
    background.spawn(accept(listener, service, acceptor));
    Ok(address)
}

async fn accept(listener: TcpListener, service: S3Service, acceptor: Option<TlsAcceptor>) {
    loop {
        // Errors here are the client's, gone before it was accepted.
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let service = service.clone();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Only costs speed.
            let _ = stream.set_nodelay(true);
            match acceptor {
                None => serve(stream, service).await,
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, service).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, service: S3Service) {
    // A connection that breaks is the client's business, and often the test's point.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Path style for every host but the domain's subdomains, which name a bucket.
struct Domain(String);

impl S3Host for Domain {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> s3s::S3Result<VirtualHost<'a>> {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let bucket = name
            .strip_suffix(self.0.as_str())
            .and_then(|bucket| bucket.strip_suffix('.'));
        Ok(match bucket {
            Some(bucket) => VirtualHost::new(self.0.as_str()).with_bucket(bucket),
            None => VirtualHost::new(host),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_subdomains_of_the_domain_name_a_bucket() {
        let domain = Domain("localhost".to_owned());
        for (host, bucket) in [
            ("127.0.0.1:9000", None),
            ("localhost:9000", None),
            ("registry.localhost:9000", Some("registry")),
            ("a.b.localhost", Some("a.b")),
            ("elsewhere.example", None),
        ] {
            let parsed = domain.parse_host_header(host).unwrap();
            assert_eq!(parsed.bucket(), bucket, "{host}");
        }
    }
}

//! The client over HTTP/2, which blobgate speaks with TLS only.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use h2::SendStream;
use http::Request;
use openssl::ssl::{SslConnector, SslMethod};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::Result;
use crate::client::REPOSITORY;
use crate::payload::Blob;

/// Pushes a blob by PUT over a connection of its own, and fails unless it was taken.
pub fn push(host: SocketAddr, ca: &Path, blob: &Blob) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (client, connection) = h2::client::handshake(connect(host, ca).await?).await?;
        let driver = tokio::spawn(connection);
        let request = Request::put(format!(
            "https://localhost/v2/{REPOSITORY}/blobs/{}",
            blob.digest
        ));
        let request = request.header("content-length", blob.size).body(())?;
        let (answer, mut body) = client.ready().await?.send_request(request, false)?;
        for chunk in blob.all() {
            send(&mut body, chunk).await?;
        }
        body.send_data(Bytes::new(), true)?;
        let status = answer.await?.status();
        driver.abort();
        match status.as_u16() {
            201 => Ok(()),
            status => Err(format!("status {status} instead of 201").into()),
        }
    })
}

async fn connect(host: SocketAddr, ca: &Path) -> Result<SslStream<TcpStream>> {
    let stream = TcpStream::connect(host).await?;
    stream.set_nodelay(true)?;
    let mut connector = SslConnector::builder(SslMethod::tls())?;
    connector.set_ca_file(ca)?;
    connector.set_alpn_protos(b"\x02h2")?;
    let ssl = connector.build().configure()?.into_ssl("localhost")?;
    let mut stream = SslStream::new(ssl, stream)?;
    Pin::new(&mut stream).connect().await?;
    Ok(stream)
}

/// Sends as flow control lets it through.
async fn send(body: &mut SendStream<Bytes>, mut chunk: Bytes) -> Result<()> {
    while !chunk.is_empty() {
        body.reserve_capacity(chunk.len());
        let capacity = poll_fn(|cx| body.poll_capacity(cx)).await;
        let capacity = capacity.ok_or("the server closed the stream")??;
        body.send_data(chunk.split_to(capacity.min(chunk.len())), false)?;
    }
    Ok(())
}

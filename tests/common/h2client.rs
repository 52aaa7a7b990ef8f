//! An HTTP/2 client that sends exactly what a test wants, when it wants.
#![allow(dead_code)] // every test binary uses a part of it

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use openssl::ssl::{SslConnector, SslMethod};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// How long to wait for anything before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection, driven in the background until it is dropped.
pub struct Connection {
    sender: SendRequest<Bytes>,
    driver: tokio::task::JoinHandle<()>,
}

/// One request, its body still to be sent.
pub struct Stream {
    answer: ResponseFuture,
    body: SendStream<Bytes>,
}

/// A TLS connection on which these protocols are offered, as ALPN writes them.
pub async fn tls(address: SocketAddr, ca: &Path, protocols: &[u8]) -> SslStream<TcpStream> {
    let stream = within("connecting", TcpStream::connect(address))
        .await
        .expect("TCP");
    let mut connector = SslConnector::builder(SslMethod::tls()).expect("TLS");
    connector.set_ca_file(ca).expect("the authority");
    connector.set_alpn_protos(protocols).expect("ALPN");
    let ssl = connector
        .build()
        .configure()
        .expect("TLS")
        .into_ssl("localhost");
    let mut stream = SslStream::new(ssl.expect("TLS"), stream).expect("TLS");
    within("TLS", Pin::new(&mut stream).connect())
        .await
        .expect("a handshake");
    let selected = stream.ssl().selected_alpn_protocol();
    assert_eq!(selected, protocols.get(1..));
    stream
}

/// Reads until the server ends the connection, in whatever way.
pub async fn ended(stream: &mut SslStream<TcpStream>) {
    let mut buffer = [0; 4096];
    while let Ok(1..) = within("the end", stream.read(&mut buffer)).await {}
}

impl Connection {
    pub async fn open(address: SocketAddr, ca: &Path) -> Self {
        let stream = tls(address, ca, b"\x02h2").await;
        let (sender, connection) = within("HTTP/2", h2::client::handshake(stream))
            .await
            .expect("HTTP/2");
        let driver = tokio::spawn(async move {
            // How it ends is told to each stream.
            let _ = connection.await;
        });
        Self { sender, driver }
    }

    /// Sends a request's header.
    pub async fn begin(&mut self, method: &str, path: &str) -> Stream {
        self.announce(method, path, None).await
    }

    /// The same, with the body's length announced.
    pub async fn announce(&mut self, method: &str, path: &str, length: Option<u64>) -> Stream {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"));
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let request = request.body(()).expect("a request");
        let mut ready = within("a free stream", self.sender.clone().ready())
            .await
            .expect("ready");
        let (answer, body) = ready.send_request(request, false).expect("a stream");
        Stream { answer, body }
    }

    /// Sends a request without a body; its status.
    pub async fn get(&mut self, path: &str) -> u16 {
        let mut stream = self.begin("GET", path).await;
        stream.send(Bytes::new(), true).await;
        stream.answer().await.0
    }
}

impl Drop for Connection {
    /// Ends it as a client does that dies: no word in HTTP/2, none in TLS.
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Stream {
    /// Sends bytes as flow control lets them through.
    pub async fn send(&mut self, mut bytes: Bytes, end: bool) {
        while !bytes.is_empty() {
            self.body.reserve_capacity(bytes.len());
            let capacity = within("a window", poll_fn(|cx| self.body.poll_capacity(cx)));
            let capacity = capacity.await.expect("an open stream").expect("capacity");
            let now = bytes.split_to(capacity.min(bytes.len()));
            self.body
                .send_data(now, end && bytes.is_empty())
                .expect("an open stream");
            if end && bytes.is_empty() {
                return;
            }
        }
        if end {
            self.body
                .send_data(Bytes::new(), true)
                .expect("an open stream");
        }
    }

    /// Status and body of the answer.
    pub async fn answer(&mut self) -> (u16, String) {
        let answer = within("an answer", &mut self.answer)
            .await
            .expect("an answer");
        let status = answer.status().as_u16();
        (status, text(answer).await)
    }

    /// Gives the stream up.
    pub fn cancel(&mut self) {
        self.body.send_reset(Reason::CANCEL);
    }

    /// Waits until the server gives the stream up, and says why.
    pub async fn reset(&mut self) -> Reason {
        within("a reset", poll_fn(|cx| self.body.poll_reset(cx)))
            .await
            .expect("a reset")
    }
}

async fn text(answer: Response<RecvStream>) -> String {
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while let Some(data) = within("a body", body.data()).await {
        let data = data.expect("a whole body");
        let _ = body.flow_control().release_capacity(data.len());
        text.extend_from_slice(&data);
    }
    String::from_utf8(text).expect("text")
}

async fn within<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(done) => done,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

//! An HTTP/2 client that sends exactly what a test wants, when it wants.

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
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

/// How long to wait for anything before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection, driven in the background.
pub struct Connection {
    sender: SendRequest<Bytes>,
}

/// One request, its body still to be sent.
pub struct Stream {
    answer: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Connection {
    pub async fn open(address: SocketAddr, ca: &Path) -> Self {
        let stream = within("connecting", TcpStream::connect(address))
            .await
            .expect("TCP");
        let mut connector = SslConnector::builder(SslMethod::tls()).expect("TLS");
        connector.set_ca_file(ca).expect("the authority");
        connector.set_alpn_protos(b"\x02h2").expect("ALPN");
        let ssl = connector
            .build()
            .configure()
            .expect("TLS")
            .into_ssl("localhost");
        let mut stream = SslStream::new(ssl.expect("TLS"), stream).expect("TLS");
        within("TLS", Pin::new(&mut stream).connect())
            .await
            .expect("a handshake");
        assert_eq!(stream.ssl().selected_alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = within("HTTP/2", h2::client::handshake(stream))
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        Self { sender }
    }

    /// Sends a request's header.
    pub async fn begin(&mut self, method: &str, path: &str) -> Stream {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .body(())
            .expect("a request");
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

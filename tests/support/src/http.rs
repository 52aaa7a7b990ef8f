//! A bare HTTP/1.1 client that sends whatever bytes a test wants and reads what comes back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long to wait for bytes before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two drops of a dribbling client.
const DRIBBLE: Duration = Duration::from_millis(20);

/// A response as read from the wire.
#[derive(Debug, Clone)]
pub struct RawResponse {
    /// The status.
    pub status: u16,
    /// Names as sent, and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl RawResponse {
    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = |(n, _): &&(String, Vec<u8>)| n.eq_ignore_ascii_case(name);
        let (_, value) = self.headers.iter().find(found)?;
        std::str::from_utf8(value).ok()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    /// Read, but not yet asked for.
    buffer: Vec<u8>,
}

impl RawConnection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        bounded(self.stream.write_all(bytes.as_ref())).await
    }

    /// Sends these bytes over and over until an answer begins or the connection ends. Returns how
    /// many bytes the other side, and the buffers between, had taken by then.
    pub async fn send_until_answered(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let mut taken = 0;
        let send = async {
            let mut at = 0;
            loop {
                tokio::select! {
                    // An answer that has come is seen before anything else is sent.
                    biased;
                    ready = self.stream.readable() => return ready.map(|()| taken),
                    sent = self.stream.writable() => sent?,
                }
                match self.stream.try_write(&bytes[at..]) {
                    Ok(len) => {
                        taken += len as u64;
                        at = (at + len) % bytes.len();
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        };
        bounded(send).await
    }

    /// Sends these bytes again and again, with pauses, until an answer begins or the connection
    /// ends; tells whether it was an answer.
    pub async fn dribble(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let dribble = async {
            loop {
                // Writing fails where the connection is closed; what came before is still there.
                let _ = self.stream.write_all(bytes).await;
                let pause = tokio::time::timeout(DRIBBLE, self.ended());
                if let Ok(ended) = pause.await {
                    return ended.map(|ended| !ended);
                }
            }
        };
        bounded(dribble).await
    }

    /// Says that no more bytes come, but goes on reading.
    pub async fn finish_sending(&mut self) -> io::Result<()> {
        bounded(self.stream.shutdown()).await
    }

    /// Ends the connection with a reset.
    pub fn reset(self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    /// Reads one response, interim ones (1xx) included. `UnexpectedEof` when the connection ends
    /// before or within it.
    pub async fn response(&mut self) -> io::Result<RawResponse> {
        self.response_to("GET").await
    }

    /// As [`RawConnection::response`], but to a request with this method: HEAD has no body.
    pub async fn response_to(&mut self, method: &str) -> io::Result<RawResponse> {
        let mut response = loop {
            if let Some(response) = self.parse_head()? {
                break response;
            }
            self.fill().await?;
        };
        let length = response.header("content-length").map(str::parse::<usize>);
        let chunked = response
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        let bodiless = response.status < 200 || matches!(response.status, 204 | 304);
        response.body = if bodiless || method == "HEAD" {
            Vec::new()
        } else if chunked {
            self.chunks().await?
        } else if let Some(length) = length {
            self.take(length.map_err(io::Error::other)?).await?
        } else {
            self.rest().await?
        };
        Ok(response)
    }

    /// Waits for bytes, which are kept, or for the connection's end; tells whether it was the end.
    pub async fn ended(&mut self) -> io::Result<bool> {
        match self.fill().await {
            Ok(()) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(error),
            Err(_) => Ok(true),
        }
    }

    /// Everything up to the connection's end. A reset counts as one.
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
                Err(_) => return Ok(std::mem::take(&mut self.buffer)),
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        match bounded(self.stream.read_buf(&mut self.buffer)).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < len {
            self.fill().await?;
        }
        let rest = self.buffer.split_off(len);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(httparse::Status::Partial) => self.fill().await?,
                Ok(httparse::Status::Complete((line, len))) => {
                    self.take(line).await?;
                    let chunk = self.take(len as usize + 2).await?;
                    if len == 0 {
                        return Ok(body);
                    }
                    body.extend_from_slice(&chunk[..len as usize]);
                }
                Err(_) => return Err(io::Error::other("not a chunk")),
            }
        }
    }

    fn parse_head(&mut self) -> io::Result<Option<RawResponse>> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let status = head.parse(&self.buffer).map_err(io::Error::other)?;
        let httparse::Status::Complete(len) = status else {
            return Ok(None);
        };
        let header = |header: &httparse::Header<'_>| (header.name.into(), header.value.to_vec());
        let response = RawResponse {
            status: head.code.unwrap_or(0),
            headers: head.headers.iter().map(header).collect(),
            body: Vec::new(),
        };
        self.buffer.drain(..len);
        Ok(Some(response))
    }
}

async fn bounded<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, step).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

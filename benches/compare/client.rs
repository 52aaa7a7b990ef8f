//! The client: HTTP/1.1 as bare as can be, so that little of what is measured is its own. Blocking,
//! one connection, bodies written straight from memory that all pushes share.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use openssl::ssl::{SslConnector, SslMethod, SslStream};

use crate::Result;
use crate::payload::Blob;

/// Longest wait for a byte, for a push that waits for its turn included.
const PATIENCE: Duration = Duration::from_secs(900);

pub const REPOSITORY: &str = "bench/blobs";

/// How a blob is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// PUT by digest.
    Put,
    /// POST, then PUT with the whole body.
    Session,
    /// POST, PATCH with the whole body, then an empty PUT.
    Chunked,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

pub struct Client {
    stream: Stream,
    host: SocketAddr,
    buffer: Vec<u8>,
}

pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    /// Of the body, bytes.
    length: u64,
    /// The body's beginning.
    text: String,
}

impl Client {
    pub fn connect(host: SocketAddr) -> io::Result<Self> {
        Ok(Self::new(Stream::Plain(connect(host)?), host))
    }

    /// `ca` is the authority to trust.
    pub fn connect_tls(host: SocketAddr, ca: &Path) -> Result<Self> {
        let mut connector = SslConnector::builder(SslMethod::tls())?;
        connector.set_ca_file(ca)?;
        let stream = connector.build().connect("localhost", connect(host)?)?;
        Ok(Self::new(Stream::Tls(Box::new(stream)), host))
    }

    fn new(stream: Stream, host: SocketAddr) -> Self {
        Self {
            stream,
            host,
            buffer: vec![0; 256 << 10],
        }
    }

    /// Pushes a blob, and fails unless it was taken. With [`Manner::Chunked`], how long the PATCH
    /// took.
    pub fn push(&mut self, blob: &Blob, manner: Manner) -> Result<Option<Duration>> {
        let digest = &blob.digest;
        if manner == Manner::Put {
            let target = format!("/v2/{REPOSITORY}/blobs/{digest}");
            self.request("PUT", &target, Some(blob))?.must_be(201)?;
            return Ok(None);
        }
        let target = format!("/v2/{REPOSITORY}/blobs/uploads/");
        let location = self
            .request("POST", &target, None)?
            .must_be(202)?
            .location()?;
        if manner == Manner::Session {
            let target = with_digest(&location, digest);
            self.request("PUT", &target, Some(blob))?.must_be(201)?;
            return Ok(None);
        }
        let began = Instant::now();
        let patched = self.request("PATCH", &location, Some(blob))?.must_be(202)?;
        let took = began.elapsed();
        let target = with_digest(&patched.location()?, digest);
        self.request("PUT", &target, None)?.must_be(201)?;
        Ok(Some(took))
    }

    /// Pulls a blob, whose bytes are counted and dropped.
    pub fn pull(&mut self, blob: &Blob) -> Result<()> {
        let target = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
        let answer = self.request("GET", &target, None)?.must_be(200)?;
        if answer.length != blob.size {
            return Err(format!("GET gave {} of {} bytes", answer.length, blob.size).into());
        }
        Ok(())
    }

    /// Sends a request and reads its answer to the end.
    pub fn request(&mut self, method: &str, target: &str, body: Option<&Blob>) -> Result<Answer> {
        let length = body.map_or(0, |blob| blob.size);
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            self.host
        );
        let sent = self.stream.write_all(head.as_bytes());
        let sent = sent.and_then(|()| body.map_or(Ok(()), |blob| blob.write_to(&mut self.stream)));
        // A server that gives up early may have said why.
        match (self.answer(method), sent) {
            (Ok(answer), Ok(())) => Ok(answer),
            (Ok(answer), Err(error)) => Err(format!(
                "{method} was cut off ({error}) with status {}: {}",
                answer.status, answer.text
            )
            .into()),
            (Err(error), _) => Err(format!("{method} {target}: {error}").into()),
        }
    }

    fn answer(&mut self, method: &str) -> Result<Answer> {
        let mut filled = 0;
        let (mut answer, head) = loop {
            let read = self.stream.read(&mut self.buffer[filled..])?;
            if read == 0 {
                return Err("the connection ended before an answer".into());
            }
            filled += read;
            if let Some(parsed) = parse(&self.buffer[..filled])? {
                break parsed;
            }
        };
        let bodiless = method == "HEAD" || answer.status == 204;
        let length = answer
            .header("content-length")
            .map(str::parse)
            .transpose()?;
        answer.length = match length {
            _ if bodiless => 0,
            Some(length) => length,
            None => return Err(format!("status {} without a length", answer.status).into()),
        };
        answer.text = String::from_utf8_lossy(&self.buffer[head..filled.min(head + 500)]).into();
        let mut left = answer.length.saturating_sub((filled - head) as u64);
        while left > 0 {
            let read = self.stream.read(&mut self.buffer)?;
            if read == 0 {
                return Err("the answer's body ended early".into());
            }
            left = left.saturating_sub(read as u64);
        }
        Ok(answer)
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// An error, with what the server said, unless it is this status.
    pub fn must_be(self, status: u16) -> Result<Self> {
        if self.status == status {
            return Ok(self);
        }
        Err(format!("status {} instead of {status}: {}", self.status, self.text).into())
    }

    /// Where to go on, without the host: that is the one already talked to.
    fn location(&self) -> Result<String> {
        let location = self
            .header("location")
            .ok_or("an answer without Location")?;
        let path = match location.split_once("://") {
            Some((_, rest)) => rest.find('/').map(|at| &rest[at..]),
            None => Some(location),
        };
        Ok(path.ok_or("a Location without a path")?.to_owned())
    }
}

fn with_digest(location: &str, digest: &blobgate::registry::Digest) -> String {
    let joint = if location.contains('?') { '&' } else { '?' };
    format!("{location}{joint}digest={digest}")
}

fn connect(host: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(host)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The head and its length, once it is whole.
fn parse(bytes: &[u8]) -> Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(len) = head.parse(bytes)? else {
        return Ok(None);
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |header: &httparse::Header<'_>| (header.name.to_owned(), text(header.value));
    let answer = Answer {
        status: head.code.unwrap_or(0),
        headers: head.headers.iter().map(header).collect(),
        length: 0,
        text: String::new(),
    };
    Ok(Some((answer, len)))
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

//! As little of an HTTP/1.1 server as the bench's own servers need: a thread a connection, blocking,
//! bodies with a length only. They are here to cost nothing, not to be right about HTTP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use rustix::net::RecvFlags;

const HEAD: usize = 16 << 10;
/// Read at a time from a body. Larger than the kernel's default receive buffer is of no use.
const CHUNK: usize = 256 << 10;

pub struct Request {
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Of the body, bytes.
    pub length: u64,
    /// Whether the client waits to be asked for the body.
    pub expects: bool,
}

pub struct Connection {
    stream: TcpStream,
    /// Read, but not yet used.
    ahead: Vec<u8>,
    chunk: Vec<u8>,
}

/// Listens on a free loopback port.
pub fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves every connection on a thread of its own, for ever.
pub fn serve(
    listener: &TcpListener,
    handle: impl Fn(&mut Connection, Request) -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<()> {
    let handle = Arc::new(handle);
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let handle = Arc::clone(&handle);
        std::thread::spawn(move || {
            let mut connection = Connection {
                stream,
                ahead: Vec::new(),
                chunk: vec![0; CHUNK],
            };
            let served = connection.requests(&*handle);
            if let Err(error) = served
                && error.kind() != io::ErrorKind::ConnectionReset
            {
                eprintln!("connection: {error}");
            }
        });
    }
}

impl Connection {
    fn requests(
        &mut self,
        handle: &dyn Fn(&mut Connection, Request) -> io::Result<()>,
    ) -> io::Result<()> {
        while let Some(request) = self.next_request()? {
            handle(self, request)?;
        }
        Ok(())
    }

    /// `None` when the client has closed the connection.
    fn next_request(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some(request) = self.parse_head()? {
                return Ok(Some(request));
            }
            let read = self.stream.read(&mut self.chunk[..HEAD])?;
            if read == 0 {
                return Ok(None);
            }
            self.ahead.extend_from_slice(&self.chunk[..read]);
        }
    }

    fn parse_head(&mut self) -> io::Result<Option<Request>> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut headers);
        let status = head.parse(&self.ahead).map_err(io::Error::other)?;
        let httparse::Status::Complete(len) = status else {
            return Ok(None);
        };
        let header = |name: &str| {
            let found = head
                .headers
                .iter()
                .find(|h| h.name.eq_ignore_ascii_case(name))?;
            std::str::from_utf8(found.value).ok()
        };
        if header("transfer-encoding").is_some() {
            return Err(io::Error::other("a body without a length"));
        }
        let request = Request {
            method: head.method.unwrap_or_default().to_owned(),
            target: head.path.unwrap_or_default().to_owned(),
            length: header("content-length")
                .and_then(|l| l.parse().ok())
                .unwrap_or(0),
            expects: header("expect").is_some(),
        };
        self.ahead.drain(..len);
        Ok(Some(request))
    }

    /// Hands over a request's body in the pieces in which it comes.
    pub fn body(
        &mut self,
        request: &Request,
        mut each: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.ask_for_body(request)?;
        let ahead = self.take_ahead(request.length);
        each(&ahead)?;
        let mut left = request.length - ahead.len() as u64;
        while left > 0 {
            let room = self
                .chunk
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.stream.read(&mut self.chunk[..room])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            each(&self.chunk[..read])?;
            left -= read as u64;
        }
        Ok(())
    }

    /// Drops a request's body within the kernel, without a copy.
    pub fn discard(&mut self, request: &Request) -> io::Result<()> {
        self.ask_for_body(request)?;
        let mut left = request.length - self.take_ahead(request.length).len() as u64;
        while left > 0 {
            let room = self
                .chunk
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let dropped =
                rustix::net::recv(&self.stream, &mut self.chunk[..room], RecvFlags::TRUNC);
            match dropped?.1 as u64 {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                dropped => left -= dropped,
            }
        }
        Ok(())
    }

    /// `head` is the status and the headers but the length, each line with its end.
    pub fn answer(&mut self, head: &str, body: &str) -> io::Result<()> {
        let answer = format!(
            "HTTP/1.1 {head}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(answer.as_bytes())
    }

    /// To a HEAD request: the length is the object's.
    pub fn answer_head(&mut self, length: u64) -> io::Result<()> {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        self.stream.write_all(answer.as_bytes())
    }

    fn ask_for_body(&mut self, request: &Request) -> io::Result<()> {
        if request.expects {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        Ok(())
    }

    fn take_ahead(&mut self, most: u64) -> Vec<u8> {
        let len = self
            .ahead
            .len()
            .min(usize::try_from(most).unwrap_or(usize::MAX));
        self.ahead.drain(..len).collect()
    }
}

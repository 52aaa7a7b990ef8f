//! An HTTP server that gives the answers it was told, one per request, and keeps the requests.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with one request.
#[derive(Debug, Clone)]
pub enum Step {
    Answer {
        status: u16,
        headers: Vec<(&'static str, Vec<u8>)>,
        body: String,
    },
    /// Reads the request and never answers.
    Hang,
    /// Reads the request and resets the connection.
    Reset,
    /// Reads the request and closes the connection without an answer.
    Close,
    /// Reads the head, takes no byte of the body, and never answers.
    TakeNothing,
    /// Reads the head, answers with this status, and closes without taking the body.
    Refuse(u16),
    /// Promises more body than it sends, then closes.
    CutShort,
}

pub fn answer(status: u16, body: &str) -> Step {
    Step::Answer {
        status,
        headers: Vec::new(),
        body: body.to_owned(),
    }
}

pub fn error(status: u16, code: &str) -> Step {
    answer(
        status,
        &format!("<Error><Code>{code}</Code><Message>scripted</Message></Error>"),
    )
}

impl Step {
    pub fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        match &mut self {
            Step::Answer { headers, .. } => headers.push((name, value.as_ref().to_vec())),
            other => panic!("{other:?} has no headers"),
        }
        self
    }
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Counts connections from 0.
    pub connection: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice");
        value
    }

    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    script: Arc<Mutex<VecDeque<Step>>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub async fn start(script: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            requests: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                let server = accepting.clone();
                tokio::spawn(async move { server.serve(socket, connection).await });
            }
        });
        server
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Method and target of each request.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }

    /// Where nothing listens.
    pub fn nowhere() -> Self {
        Server {
            address: ([127, 0, 0, 1], 1).into(),
            script: Arc::default(),
            requests: Arc::default(),
        }
    }

    /// Fails where the script goes on.
    pub fn assert_played(&self) {
        let left = self.script.lock().unwrap();
        assert!(left.is_empty(), "not asked for: {left:?}");
    }

    async fn serve(&self, mut socket: TcpStream, connection: usize) {
        let mut read = Vec::new();
        loop {
            let Some(mut request) = read_head(&mut socket, &mut read, connection).await else {
                return;
            };
            // A request beyond the script is answered so that no retry hides it.
            let next = self.script.lock().unwrap().pop_front();
            let step = next.unwrap_or_else(|| error(418, "BeyondTheScript"));
            if !matches!(step, Step::TakeNothing | Step::Refuse(_)) {
                let length = request.header("content-length").map_or(0, |length| {
                    length.parse::<usize>().expect("a decimal content-length")
                });
                while read.len() < length {
                    if socket.read_buf(&mut read).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                request.body = read.drain(..length).collect();
            }
            let head_only = request.method == "HEAD";
            self.requests.lock().unwrap().push(request);
            match step {
                Step::Answer {
                    status,
                    headers,
                    body,
                } => {
                    let mut answer = format!("HTTP/1.1 {status} Scripted\r\n").into_bytes();
                    let has_length = headers.iter().any(|(name, _)| *name == "content-length");
                    for (name, value) in headers {
                        answer.extend_from_slice(name.as_bytes());
                        answer.extend_from_slice(b": ");
                        answer.extend_from_slice(&value);
                        answer.extend_from_slice(b"\r\n");
                    }
                    if !has_length {
                        let length = format!("content-length: {}\r\n", body.len());
                        answer.extend_from_slice(length.as_bytes());
                    }
                    answer.extend_from_slice(b"\r\n");
                    if !head_only {
                        answer.extend_from_slice(body.as_bytes());
                    }
                    socket.write_all(&answer).await.unwrap();
                }
                Step::Hang | Step::TakeNothing => std::future::pending().await,
                Step::Reset => {
                    socket.set_zero_linger().unwrap();
                    return;
                }
                Step::Close => return,
                Step::Refuse(status) => {
                    let answer = format!(
                        "HTTP/1.1 {status} Scripted\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                    );
                    socket.write_all(answer.as_bytes()).await.unwrap();
                    return;
                }
                Step::CutShort => {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort";
                    socket.write_all(answer).await.unwrap();
                    return;
                }
            }
        }
    }
}

async fn read_head(
    socket: &mut TcpStream,
    read: &mut Vec<u8>,
    connection: usize,
) -> Option<Request> {
    let end = loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(read).await.unwrap_or(0) == 0 {
            return None;
        }
    };
    let head = String::from_utf8(read.drain(..end + 4).collect()).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    Some(Request {
        method: first.next().unwrap().to_owned(),
        target: first.next().unwrap().to_owned(),
        headers: lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect(),
        body: Vec::new(),
        connection,
    })
}

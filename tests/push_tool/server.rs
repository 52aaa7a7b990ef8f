//! A server of one screen: it asks a closure what to do with each request, does it, and remembers
//! what came.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What to do with a request whose head has come.
pub enum Plan {
    /// Take the whole body, asking for it where the client waits, then answer.
    Answer(Reply),
    /// Take the whole body without ever asking for it.
    Silent(Reply),
    /// Answer at once and close, without a look at the body.
    Early(Reply),
    /// Take some of the body, then cut the connection.
    Reset,
}

pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

pub fn reply(status: u16) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: String::new(),
    }
}

impl Reply {
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// An OCI error.
    pub fn error(self, code: &str, message: &str) -> Self {
        let error = serde_json::json!({"errors": [{"code": code, "message": message}]});
        self.body(error.to_string())
    }
}

#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub method: String,
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How many requests of this method came before.
    pub nth: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n == name)?;
        Some(value)
    }
}

pub struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    pub fn start(plan: impl Fn(&Seen) -> Plan + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let seen = server.seen.clone();
        let plan = Arc::new(plan);
        // The threads end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, plan) = (seen.clone(), plan.clone());
                std::thread::spawn(move || {
                    // Clients that go away are part of the game.
                    let _ = serve(stream.unwrap(), &seen, &*plan);
                });
            }
        });
        server
    }

    /// A registry that has nothing and takes everything: pings, pushes by digest, manifests.
    pub fn generous() -> Self {
        Self::start(generous)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn of(&self, method: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.method == method);
        seen
    }
}

pub fn generous(seen: &Seen) -> Plan {
    Plan::Answer(match seen.method.as_str() {
        "GET" => reply(200),
        "HEAD" => reply(404),
        "PUT" => reply(201),
        _ => reply(500),
    })
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Seen>>,
    plan: &(dyn Fn(&Seen) -> Plan + Send + Sync),
) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let Some(mut seen) = read_head(&mut reader)? else {
            return Ok(());
        };
        let len: usize = seen
            .header("content-length")
            .map_or(0, |len| len.parse().unwrap());
        let waits = seen.header("expect").is_some();
        let index = {
            let mut log = log.lock().unwrap();
            seen.nth = log.iter().filter(|s| s.method == seen.method).count();
            log.push(seen.clone());
            log.len() - 1
        };
        let (reply, close) = match plan(&seen) {
            Plan::Early(reply) => (reply, true),
            Plan::Reset => {
                writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                reader.read_exact(&mut vec![0; len / 2])?;
                // Closing with bytes unread resets the connection.
                return Ok(());
            }
            plan @ (Plan::Answer(_) | Plan::Silent(_)) => {
                if waits && matches!(plan, Plan::Answer(_)) {
                    writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                }
                let mut body = vec![0; len];
                reader.read_exact(&mut body)?;
                log.lock().unwrap()[index].body = body;
                let (Plan::Answer(reply) | Plan::Silent(reply)) = plan else {
                    unreachable!();
                };
                (reply, false)
            }
        };
        let mut head = format!("HTTP/1.1 {} Said\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if close {
            head.push_str("Connection: close\r\n");
        }
        let body = if seen.method == "HEAD" {
            ""
        } else {
            &reply.body
        };
        let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", reply.body.len());
        writer.write_all(answer.as_bytes())?;
        if close {
            return Ok(());
        }
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let mut first = lines[0].split(' ');
    let headers = lines[1..].iter().map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    Ok(Some(Seen {
        method: first.next().unwrap().to_owned(),
        target: first.next().unwrap().to_owned(),
        headers: headers.collect(),
        ..Seen::default()
    }))
}

//! An S3 store that takes everything, drops the bytes and remembers only the sizes. It checks no
//! signature and parses no more than it must.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use crate::Result;
use crate::control::{self, Observed};
use crate::wire::{self, Connection, Request};

struct Sink {
    began: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: HashMap<String, u64>,
    /// Bytes so far, by upload id.
    uploads: HashMap<String, u64>,
    calls: Vec<(&'static str, u64)>,
    /// Uploads ever begun.
    begun: u64,
}

pub fn run() -> Result<()> {
    let sink = Arc::new(Sink {
        began: Instant::now(),
        state: Mutex::default(),
    });
    let control = control::serve(Arc::clone(&sink))?;
    let (listener, address) = wire::listen()?;
    println!("listening on http://{address} control {control}");
    Ok(wire::serve(&listener, move |connection, request| {
        sink.handle(connection, &request)
    })?)
}

impl Observed for Sink {
    fn clear(&self) {
        let mut state = self.state();
        let begun = state.begun;
        *state = State {
            begun,
            ..State::default()
        };
    }

    fn calls(&self) -> Vec<(String, u64)> {
        let call = |(operation, at): &(&str, u64)| (operation.to_string(), *at);
        self.state().calls.iter().map(call).collect()
    }

    fn size(&self, key: &str) -> Option<u64> {
        self.state().objects.get(key).copied()
    }
}

impl Sink {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the sink panicked")
    }

    fn handle(&self, connection: &mut Connection, request: &Request) -> io::Result<()> {
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((&request.target, ""));
        // `/bucket/key`
        let key = path[1..].split_once('/').map_or("", |(_, key)| key);
        let parameter = |name: &str| {
            let pairs = query
                .split('&')
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs
                .into_iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| value)
        };
        let upload = parameter("uploadId");
        let operation = match (request.method.as_str(), upload) {
            ("PUT", Some(_)) => "UploadPart",
            ("PUT", None) => "PutObject",
            ("POST", Some(_)) => "CompleteMultipartUpload",
            ("POST", None) => "CreateMultipartUpload",
            ("DELETE", Some(_)) => "AbortMultipartUpload",
            ("DELETE", None) => "DeleteObject",
            ("HEAD", _) if key.is_empty() => "HeadBucket",
            ("HEAD", _) => "HeadObject",
            _ => "List",
        };
        let at = self.began.elapsed().as_micros() as u64;
        self.state().calls.push((operation, at));
        connection.discard(request)?;
        let mut state = self.state();
        match operation {
            "UploadPart" => {
                *state
                    .uploads
                    .entry(upload.unwrap_or("").to_owned())
                    .or_insert(0) += request.length;
            }
            "PutObject" => {
                state.objects.insert(key.to_owned(), request.length);
            }
            "CreateMultipartUpload" => {
                state.begun += 1;
                let id = state.begun;
                drop(state);
                return connection.answer(OK, &created(id));
            }
            "CompleteMultipartUpload" => {
                let size = state.uploads.remove(upload.unwrap_or("")).unwrap_or(0);
                state.objects.insert(key.to_owned(), size);
                drop(state);
                return connection.answer(OK, COMPLETED);
            }
            "AbortMultipartUpload" => {
                state.uploads.remove(upload.unwrap_or(""));
            }
            "DeleteObject" => {
                state.objects.remove(key);
            }
            "HeadObject" => {
                let size = state.objects.get(key).copied();
                drop(state);
                return match size {
                    Some(size) => connection.answer_head(size),
                    None => connection.answer("404 Not Found\r\n", ""),
                };
            }
            "List" => return connection.answer(OK, LISTING),
            _ => {}
        }
        drop(state);
        connection.answer("200 OK\r\nETag: \"dropped\"\r\n", "")
    }
}

const OK: &str = "200 OK\r\nContent-Type: application/xml\r\n";

const COMPLETED: &str = "<CompleteMultipartUploadResult><ETag>\"dropped\"</ETag>\
                         </CompleteMultipartUploadResult>";

/// blobgate lists open uploads only, and there are none that it could sweep.
const LISTING: &str = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>\
                       </ListMultipartUploadsResult>";

fn created(id: u64) -> String {
    format!(
        "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
    )
}

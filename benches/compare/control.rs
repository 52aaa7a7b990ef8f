//! Questions to a store that runs in a process of its own: a line with the question, a line of JSON
//! with the answer, a connection each.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Result;
use crate::wire;

/// A store's own view of itself.
pub trait Observed: Send + Sync + 'static {
    /// Forgets every object and every call.
    fn clear(&self);
    /// S3's name of each call, and when it arrived, in microseconds of any clock.
    fn calls(&self) -> Vec<(String, u64)>;
    /// An object's size in bytes.
    fn size(&self, key: &str) -> Option<u64>;
}

/// Answers questions on a thread of its own; where.
pub fn serve(observed: Arc<impl Observed>) -> io::Result<SocketAddr> {
    let (listener, address) = wire::listen()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who asked and went away needs no answer.
            let _ = answer(stream, &*observed);
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, observed: &dyn Observed) -> io::Result<()> {
    let mut question = String::new();
    BufReader::new(&stream).read_line(&mut question)?;
    let answer = match question.trim_end().split_once(' ') {
        Some(("size", key)) => json!(observed.size(key)),
        _ if question == "calls\n" => json!(observed.calls()),
        _ => {
            observed.clear();
            Value::Null
        }
    };
    writeln!(stream, "{answer}")
}

/// The one who asks.
pub struct Control(pub SocketAddr);

/// Calls in order of arrival.
pub struct Calls(Vec<(String, u64)>);

impl Control {
    pub fn clear(&self) -> Result<()> {
        self.ask("clear")
    }

    pub fn calls(&self) -> Result<Calls> {
        let mut calls: Vec<(String, u64)> = self.ask("calls")?;
        calls.sort_unstable_by_key(|(_, at)| *at);
        Ok(Calls(calls))
    }

    pub fn size(&self, key: &str) -> Result<Option<u64>> {
        self.ask(&format!("size {key}"))
    }

    fn ask<T: DeserializeOwned>(&self, question: &str) -> Result<T> {
        let mut stream = TcpStream::connect(self.0)?;
        writeln!(stream, "{question}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Calls {
    pub fn by_operation(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (operation, _) in &self.0 {
            *counts.entry(operation.clone()).or_insert(0) += 1;
        }
        counts
    }

    /// How many came one after another, where each takes this round trip: calls that arrive closer
    /// together than that cannot have waited for each other.
    pub fn one_after_another(&self, round_trip: Duration) -> u64 {
        // Timers end late rather than early, but clocks are read at their own moments.
        let apart = round_trip.as_micros() as u64 * 9 / 10;
        let mut count = 0;
        let mut last = None;
        for (_, at) in &self.0 {
            if last.is_none_or(|last| at - last >= apart) {
                count += 1;
                last = Some(*at);
            }
        }
        count
    }
}

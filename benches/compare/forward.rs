//! What blobgate costs those who talk to the registry through it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Result;
use crate::bed::Bed;
use crate::client::{Client, Manner};
use crate::measure::{Sample, measure};
use crate::scenario::{S3, Scenario, Session, case};

/// The ways in turn.
pub fn run(session: &mut Session<'_>) -> Result<()> {
    let bed = Bed::new(session.making, S3)?;
    let ways = [
        Way {
            address: bed.registry.address(),
            patch: "PATCH straight",
            get: "GET straight",
            small: "small GET straight",
        },
        Way {
            address: bed.blobgate.address(),
            patch: "PATCH through blobgate",
            get: "GET through blobgate",
            small: "small GET through blobgate",
        },
    ];
    for run in 0..session.extent.runs {
        for way in &ways {
            let samples = way
                .measure(session, &bed, run)
                .map_err(|error| format!("{} or what follows it failed: {error}", way.patch))?;
            samples.into_iter().for_each(|sample| session.take(sample));
        }
    }
    Ok(())
}

/// The three that are measured through the registry, one way.
struct Way {
    address: SocketAddr,
    patch: &'static str,
    get: &'static str,
    small: &'static str,
}

impl Way {
    /// A blob in by POST, PATCH and PUT and out by GET; then requests that cost nothing but the way.
    fn measure(&self, session: &Session<'_>, bed: &Bed, run: usize) -> Result<Vec<Sample>> {
        let scenario = Scenario::Forward;
        let size = session.extent.forwarded;
        let blob = session.source.blob(size);
        bed.control.clear()?;
        let mut client = Client::connect(self.address)?;
        let mut patch = measure(bed, &case(scenario, bed, self.patch, size), run, || {
            let took = client.push(&blob, Manner::Chunked)?;
            Ok(took.iter().map(Duration::as_secs_f64).collect())
        })?;
        bed.verify(&blob.digest, size)?;
        // What goes before and after the PATCH is no throughput of its own.
        patch.wall = patch.latencies[0];

        let get = measure(bed, &case(scenario, bed, self.get, size), run, || {
            let began = Instant::now();
            client.pull(&blob)?;
            Ok(vec![began.elapsed().as_secs_f64()])
        })?;

        let small = measure(bed, &case(scenario, bed, self.small, 0), run, || {
            let requests = (0..session.extent.small_requests).map(|_| {
                let began = Instant::now();
                client.request("GET", "/v2/", None)?.must_be(200)?;
                Ok(began.elapsed().as_secs_f64())
            });
            requests.collect()
        })?;
        Ok(vec![patch, get, small])
    }
}

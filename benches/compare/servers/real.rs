//! The testkit's S3 server: signatures checked, bytes kept in files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use blobgate_testkit::s3::{S3Options, S3Server};

use crate::Result;
use crate::control::{self, Observed};

struct Real {
    began: Instant,
    server: S3Server,
}

pub fn run(root: PathBuf) -> Result<()> {
    let began = Instant::now();
    let server = S3Server::start(S3Options::new(root))?;
    let url = server.url();
    let control = control::serve(Arc::new(Real { began, server }))?;
    println!("listening on {url} control {control}");
    loop {
        std::thread::park();
    }
}

impl Observed for Real {
    fn clear(&self) {
        let bucket = &self.server.options().buckets[0];
        for (key, _) in self.server.objects(bucket) {
            self.server.delete_object(bucket, &key);
        }
        self.server.forget_calls();
    }

    fn calls(&self) -> Vec<(String, u64)> {
        let calls = self.server.call_log();
        let at = |at: Instant| at.duration_since(self.began).as_micros() as u64;
        let call = |call: &blobgate_testkit::s3::Call| (call.operation.to_owned(), at(call.at));
        calls.iter().map(call).collect()
    }

    fn size(&self, key: &str) -> Option<u64> {
        let objects = self.server.objects(&self.server.options().buckets[0]);
        objects
            .into_iter()
            .find(|(k, _)| k == key)
            .map(|(_, size)| size)
    }
}

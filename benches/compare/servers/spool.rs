//! Spool, then upload: the body goes into a file, hashed on its way, and from there into the store.
//! What one writes first, and what blobgate replaces. It asks nobody whether the client may push.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use blobgate::config::Config;
use blobgate::registry::{Algorithm, Digest, DigestHasher, RepositoryName};
use blobgate::store::{BlobStore, Part};
use tokio::runtime::Runtime;

use crate::Result;
use crate::client::REPOSITORY;
use crate::multipart::Uploader;
use crate::wire::{self, Connection, Request};

/// Read at a time from the file.
const CHUNK: u64 = 1 << 20;

struct Spool {
    uploader: Uploader,
    repository: RepositoryName,
    runtime: Runtime,
    dir: PathBuf,
}

pub fn run(config: &Path, dir: PathBuf) -> Result<()> {
    let config = Config::load(config)?;
    let spool = Spool {
        uploader: Uploader::new(&config)?,
        repository: REPOSITORY.parse()?,
        runtime: Runtime::new()?,
        dir,
    };
    let (listener, address) = wire::listen()?;
    println!("listening on http://{address}");
    Ok(wire::serve(&listener, move |connection, request| {
        spool.take(connection, &request)
    })?)
}

impl Spool {
    fn take(&self, connection: &mut Connection, request: &Request) -> io::Result<()> {
        let mut file = tempfile::tempfile_in(&self.dir)?;
        let mut hasher = DigestHasher::new(Algorithm::Sha256);
        connection.body(request, |bytes| {
            hasher.update(bytes);
            file.write_all(bytes)
        })?;
        let digest = hasher.finish();
        if !request.target.ends_with(&format!("/{digest}")) {
            return connection.answer("400 Bad Request\r\n", "the digest does not match");
        }
        match self.upload(&file, &digest, request.length) {
            Ok(()) => connection.answer("201 Created\r\n", ""),
            Err(error) => connection.answer("500 Internal Server Error\r\n", &error.to_string()),
        }
    }

    fn upload(&self, file: &File, digest: &Digest, size: u64) -> Result<()> {
        let read = |range: std::ops::Range<u64>| {
            let mut part = Part::default();
            for start in range.clone().step_by(CHUNK as usize) {
                let mut chunk = vec![0; CHUNK.min(range.end - start) as usize];
                file.read_exact_at(&mut chunk, start)?;
                part.push(chunk.into());
            }
            Ok(part)
        };
        self.runtime.block_on(async {
            self.uploader.upload(digest, size, read).await?;
            Ok(self.uploader.store.link(&self.repository, digest).await?)
        })
    }
}

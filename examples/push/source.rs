//! The file behind a blob: hashed once, then read as often as the push needs it.

use crate::failure::Failure;
use blobgate::registry::{Algorithm, Digest, DigestHasher};
use bytes::Bytes;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::sync::mpsc;

/// Large enough that thread switches and system calls don't show at a GiB per second.
const CHUNK: usize = 1 << 20;
/// Chunks read ahead of the network.
const READ_AHEAD: usize = 4;

/// What tells a file that was written to or replaced since it was first seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    len: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl Fingerprint {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Self {
            len: metadata.len(),
            modified: metadata.modified().ok(),
            inode,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Source {
    path: PathBuf,
    fingerprint: Fingerprint,
}

impl Source {
    pub fn new(path: &Path) -> Result<Self, Failure> {
        let metadata = std::fs::metadata(path).map_err(|error| Failure::io(path, error))?;
        if !metadata.is_file() {
            let error = io::Error::other("not a regular file: a push may have to read it twice");
            return Err(Failure::io(path, error));
        }
        Ok(Self {
            path: path.to_owned(),
            fingerprint: Fingerprint::of(&metadata),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn len(&self) -> u64 {
        self.fingerprint.len
    }

    /// Whether the file at this path is no longer the one first seen.
    pub fn has_changed(&self) -> bool {
        std::fs::metadata(&self.path).map_or(true, |metadata| {
            Fingerprint::of(&metadata) != self.fingerprint
        })
    }

    /// The file's digest, computed on a blocking thread. `on_read` hears how much was read.
    pub async fn hash(
        &self,
        algorithm: Algorithm,
        on_read: impl Fn(u64) + Send + 'static,
    ) -> Result<Digest, Failure> {
        let source = self.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            let mut hasher = DigestHasher::new(algorithm);
            let mut file = source.open()?;
            let mut buffer = vec![0; CHUNK];
            let mut total = 0;
            loop {
                let read = match file.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(Failure::io(&source.path, error)),
                };
                hasher.update(&buffer[..read]);
                total += read as u64;
                // A log that grows faster than it is read would never end.
                if total > source.len() {
                    return Err(Failure::Changed(source.path));
                }
                on_read(read as u64);
            }
            source.check(&file)?;
            Ok(hasher.finish())
        });
        hashing
            .await
            .unwrap_or_else(|error| Err(Failure::io(&self.path, io::Error::other(error))))
    }

    /// The file's bytes, exactly as many as it had when first seen, read on a blocking thread. The
    /// last chunk is held back until it is sure that nobody wrote to the file meanwhile.
    pub fn stream(&self) -> mpsc::Receiver<Result<Bytes, Failure>> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let source = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(failure) = source.send_to(&sender) {
                // The receiver may be gone, and then nobody wants to know.
                let _ = sender.blocking_send(Err(failure));
            }
        });
        receiver
    }

    fn send_to(&self, sender: &mpsc::Sender<Result<Bytes, Failure>>) -> Result<(), Failure> {
        let mut file = self.open()?;
        let mut left = self.len();
        while left > 0 {
            let want = left.min(CHUNK as u64);
            // `take` on a buffer of exactly this capacity reads without zeroing it first.
            let mut chunk = Vec::with_capacity(CHUNK.min(want as usize));
            (&mut file)
                .take(want)
                .read_to_end(&mut chunk)
                .map_err(|error| Failure::io(&self.path, error))?;
            if chunk.len() as u64 != want {
                return Err(Failure::Changed(self.path.clone()));
            }
            left -= want;
            if left == 0 {
                self.check(&file)?;
            }
            if sender.blocking_send(Ok(Bytes::from(chunk))).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn open(&self) -> Result<File, Failure> {
        let file = File::open(&self.path).map_err(|error| Failure::io(&self.path, error))?;
        self.check(&file)?;
        Ok(file)
    }

    fn check(&self, file: &File) -> Result<(), Failure> {
        let metadata = file
            .metadata()
            .map_err(|error| Failure::io(&self.path, error))?;
        if Fingerprint::of(&metadata) == self.fingerprint {
            Ok(())
        } else {
            Err(Failure::Changed(self.path.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    async fn collect(source: &Source) -> Result<Vec<u8>, Failure> {
        let mut stream = source.stream();
        let mut all = Vec::new();
        while let Some(chunk) = stream.recv().await {
            all.extend_from_slice(&chunk?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn reads_back_every_byte_of_every_size() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            file.as_file_mut().set_len(0).unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            let source = Source::new(file.path()).unwrap();
            assert_eq!(collect(&source).await.unwrap(), bytes, "{len}");
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_neither_hashed_nor_sent() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"before").unwrap();
        let source = Source::new(file.path()).unwrap();
        source.hash(Algorithm::Sha256, |_| ()).await.unwrap();
        file.write_all(b" and after").unwrap();
        assert!(source.has_changed());
        assert!(matches!(
            source.hash(Algorithm::Sha256, |_| ()).await,
            Err(Failure::Changed(_))
        ));
        assert!(matches!(collect(&source).await, Err(Failure::Changed(_))));
    }

    #[test]
    fn only_regular_files_are_pushed() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Source::new(directory.path()).is_err());
        assert!(Source::new(&directory.path().join("missing")).is_err());
    }
}

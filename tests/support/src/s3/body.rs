use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use md5::{Digest, Md5};

const READ_CHUNK: u64 = 256 * 1024;

/// The directory of the bodies' files.
#[derive(Debug, Clone)]
pub(crate) struct BodyFiles {
    dir: PathBuf,
    /// Set when the store stops: from then on files stay for the next start.
    keep: Arc<AtomicBool>,
}

/// A file that is removed when nothing refers to it any more, readers included.
#[derive(Debug)]
struct BodyFile {
    path: PathBuf,
    keep: Arc<AtomicBool>,
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        if !self.keep.load(Ordering::SeqCst) {
            // Nobody is left to tell, and the next start removes what lies about.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[derive(Debug, Clone)]
struct Segment {
    file: Arc<BodyFile>,
    offset: u64,
    len: u64,
}

/// An object's or a part's bytes: ranges of files.
///
/// Completing a multipart upload joins the parts' lists and a copy shares ranges, so both cost
/// nothing and become visible at once, however large the object.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body(Vec<Segment>);

impl BodyFiles {
    pub(crate) fn new(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self {
            dir,
            keep: Arc::new(AtomicBool::new(false)),
        })
    }

    /// From now on no file is removed.
    pub(crate) fn keep(&self) {
        self.keep.store(true, Ordering::SeqCst);
    }

    /// Writes the stream into a new file; with `md5`, also returns the content's MD5.
    pub(crate) async fn write<S, E>(
        &self,
        mut content: S,
        md5: bool,
    ) -> Result<(Body, Option<[u8; 16]>), WriteError<E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
    {
        let file = Arc::new(self.file(format!("{:032x}", fastrand::u128(..))));
        let mut target = File::create_new(&file.path).map_err(WriteError::File)?;
        let mut hasher = md5.then(Md5::new);
        let mut len = 0;
        while let Some(chunk) = content.next().await {
            let chunk = chunk.map_err(WriteError::Source)?;
            // Straight into the page cache: a hop to a blocking thread per chunk costs more.
            target.write_all(&chunk).map_err(WriteError::File)?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&chunk);
            }
            len += chunk.len() as u64;
        }
        let segment = Segment {
            file,
            offset: 0,
            len,
        };
        let digest = hasher.map(|hasher| hasher.finalize().into());
        Ok((Body(vec![segment]), digest))
    }

    /// Begins to recover the bodies that [`Body::describe`] described.
    pub(crate) fn recovery(&self) -> Recovery<'_> {
        Recovery {
            files: self,
            known: HashMap::new(),
        }
    }

    fn file(&self, name: String) -> BodyFile {
        BodyFile {
            path: self.dir.join(name),
            keep: Arc::clone(&self.keep),
        }
    }
}

/// Finds the bodies' files again after a restart.
pub(crate) struct Recovery<'a> {
    files: &'a BodyFiles,
    /// Bodies that share a file must share its removal too.
    known: HashMap<String, Arc<BodyFile>>,
}

impl Recovery<'_> {
    pub(crate) fn body(&mut self, described: Vec<(String, u64, u64)>) -> Body {
        let mut segments = Vec::new();
        for (name, offset, len) in described {
            let file = self
                .known
                .entry(name)
                .or_insert_with_key(|name| Arc::new(self.files.file(name.clone())));
            segments.push(Segment {
                file: Arc::clone(file),
                offset,
                len,
            });
        }
        Body(segments)
    }

    /// Removes the files that no recovered body uses: what a killed process left behind.
    pub(crate) fn remove_the_rest(self) -> io::Result<()> {
        for entry in fs::read_dir(&self.files.dir)? {
            let entry = entry?;
            let known = entry
                .file_name()
                .to_str()
                .map(|name| self.known.contains_key(name));
            if known != Some(true) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// What can go wrong while a body is written.
#[derive(Debug)]
pub(crate) enum WriteError<E> {
    /// The client's stream failed.
    Source(E),
    /// The file system failed.
    File(io::Error),
}

impl Body {
    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|segment| segment.len).sum()
    }

    /// The parts' bodies, one after another.
    pub(crate) fn join<'a>(bodies: impl IntoIterator<Item = &'a Body>) -> Body {
        let segments = bodies.into_iter().flat_map(|body| body.0.iter().cloned());
        Body(segments.filter(|segment| segment.len > 0).collect())
    }

    /// The bytes in `range`, which must lie within the body.
    pub(crate) fn slice(&self, range: Range<u64>) -> Body {
        let mut start = 0;
        let mut segments = Vec::new();
        for segment in &self.0 {
            let end = start + segment.len;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                segments.push(Segment {
                    file: Arc::clone(&segment.file),
                    offset: segment.offset + (from - start),
                    len: to - from,
                });
            }
            start = end;
        }
        Body(segments)
    }

    pub(crate) fn stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static {
        stream::iter(self.0).flat_map(|segment| {
            let state = (segment, None);
            stream::try_unfold(state, |(segment, file)| async move {
                if segment.len == 0 {
                    return Ok(None);
                }
                let file = match file {
                    Some(file) => file,
                    None => File::open(&segment.file.path)?,
                };
                let len = segment.len.min(READ_CHUNK);
                let mut chunk = vec![0; len as usize];
                file.read_exact_at(&mut chunk, segment.offset)?;
                let rest = Segment {
                    offset: segment.offset + len,
                    len: segment.len - len,
                    ..segment
                };
                Ok(Some((Bytes::from(chunk), (rest, Some(file)))))
            })
        })
    }

    pub(crate) fn read(&self) -> io::Result<Vec<u8>> {
        let mut content = vec![0; self.len() as usize];
        let mut at = 0;
        for segment in &self.0 {
            let end = at + segment.len as usize;
            File::open(&segment.file.path)?.read_exact_at(&mut content[at..end], segment.offset)?;
            at = end;
        }
        Ok(content)
    }

    /// File name, offset and length of each piece, for the index.
    pub(crate) fn describe(&self) -> Vec<(String, u64, u64)> {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into());
        self.0
            .iter()
            .filter_map(|s| Some((name(&s.file.path)?, s.offset, s.len)))
            .collect()
    }
}

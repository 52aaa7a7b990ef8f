//! How a process passes its listening sockets to its successor, so that no connection is refused
//! while one replaces the other.
//!
//! The successor waits at a Unix socket. The predecessor sends it the listeners and goes on serving
//! until it hears that the successor serves too: one that cannot start takes nothing away.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep, timeout};

/// How long the predecessor looks for a successor. It serves meanwhile.
const SUCCESSOR_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a successor may take from the listeners to serving.
const SERVES_WITHIN: Duration = Duration::from_secs(30);

/// More listeners than blobgate can have.
const MAX_LISTENERS: usize = 8;

/// Ancillary data needs a byte to travel with, which says what the rest means.
const LISTENERS: u8 = 1;
const SERVING: u8 = 2;

/// Hands the listeners to the successor that waits at `path`, and returns once it serves.
pub async fn offer(path: &Path, listeners: &[TcpListener]) -> io::Result<()> {
    let mut stream = find_successor(path).await?;
    let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_LISTENERS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(io::Error::other("too many listeners for one message"));
            }
            let message = [IoSlice::new(&[LISTENERS])];
            Ok(sendmsg(
                &stream,
                &message,
                &mut control,
                SendFlags::NOSIGNAL,
            )?)
        })
        .await?;
    match timeout(SERVES_WITHIN, stream.read_u8()).await {
        Ok(Ok(SERVING)) => Ok(()),
        Ok(Ok(other)) => Err(io::Error::other(format!(
            "the successor answered {other}, which has no meaning"
        ))),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(io::Error::other("the successor ended before it served"))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other(format!(
            "the successor did not serve within {SERVES_WITHIN:?}"
        ))),
    }
}

async fn find_successor(path: &Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + SUCCESSOR_WITHIN;
    loop {
        let error = match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let absent = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        );
        if !absent {
            return Err(error);
        }
        if Instant::now() >= deadline {
            return Err(io::Error::other(format!(
                "no successor waits at {} ({error})",
                path.display()
            )));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The predecessor, which goes on serving until it is told that this process serves.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

impl Predecessor {
    /// To be called once this process serves.
    pub async fn release(mut self) -> io::Result<()> {
        self.0.write_u8(SERVING).await
    }
}

/// Waits at `path` for the listeners of the process that this one succeeds.
pub async fn take(path: &Path, within: Duration) -> io::Result<(Vec<TcpListener>, Predecessor)> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    let _removed = Removed(path.to_owned());
    // Whoever can connect can give this process sockets of its own choice.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let taken = async {
        loop {
            let (stream, _) = listener.accept().await?;
            // One that only knocks is not the predecessor.
            if let Some(listeners) = receive(&stream).await? {
                return Ok((listeners, Predecessor(stream)));
            }
        }
    };
    timeout(within, taken)
        .await
        .unwrap_or_else(|_| Err(io::Error::other(format!("nothing came within {within:?}"))))
}

async fn receive(stream: &UnixStream) -> io::Result<Option<Vec<TcpListener>>> {
    stream
        .async_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_LISTENERS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut message = [0];
            let received = recvmsg(
                stream,
                &mut [IoSliceMut::new(&mut message)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )?;
            if received.bytes == 0 || message != [LISTENERS] {
                return Ok(None);
            }
            let listeners: Vec<TcpListener> = control
                .drain()
                .filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                    _ => None,
                })
                .flatten()
                .map(TcpListener::from)
                .collect();
            Ok((!listeners.is_empty()).then_some(listeners))
        })
        .await
}

/// Removes the socket that an earlier successor left behind, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is something other than a socket at this path",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes the socket's file when dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // Where it is gone already there is nothing to do.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[tokio::test]
    async fn the_predecessor_waits_until_its_successor_serves() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("upgrade");
        let (front, back) = (listener(), listener());
        let addresses = [front.local_addr().unwrap(), back.local_addr().unwrap()];
        let listeners = [front, back];
        let (offered, ()) = tokio::join!(offer(&path, &listeners), async {
            // Somebody who knocks and leaves changes nothing.
            let knock = async {
                while UnixStream::connect(&path).await.is_err() {
                    tokio::task::yield_now().await;
                }
            };
            let (taken, ()) = tokio::join!(take(&path, SOON), knock);
            let (taken, predecessor) = taken.unwrap();
            let taken: Vec<_> = taken.iter().map(|l| l.local_addr().unwrap()).collect();
            assert_eq!(taken, addresses);
            predecessor.release().await.unwrap();
        });
        offered.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_successor_that_ends_early_takes_nothing_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("upgrade");
        let listeners = [listener()];
        let (offered, taken) = tokio::join!(offer(&path, &listeners), async {
            take(&path, SOON).await.map(drop)
        });
        taken.unwrap();
        let reason = offered.unwrap_err().to_string();
        assert!(reason.contains("ended before it served"), "{reason}");
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_any_other_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("upgrade");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let late = take(&path, Duration::from_millis(1)).await.unwrap_err();
        assert!(late.to_string().contains("nothing came"), "{late}");
        assert!(!path.exists());

        fs::write(&path, "precious").unwrap();
        let error = take(&path, SOON).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}

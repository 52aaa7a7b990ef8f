//! SIGQUIT: a successor takes over the listeners, and nobody notices.

use crate::common::*;
use crate::phases::{Phase, REPOSITORY, SOON, Scene};
use crate::{assert_ends_well, one_slot};
use blobgate_testkit::blob::Blob;
use blobgate_testkit::http::RawConnection;
use blobgate_testkit::process::Blobgate;
use blobgate_testkit::stack::Stack;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const CLIENTS: usize = 4;

/// Starts a successor that waits for the listeners; returns once it waits.
async fn successor(stack: &Stack, socket: &Path) -> JoinHandle<std::io::Result<Blobgate>> {
    let mut options = stack.blobgate_options().clone();
    let admin = stack.blobgate().admin_url();
    options.dir = stack.dir().join("successor");
    options.config = options
        .config
        .set("listen.address", stack.blobgate().address().to_string())
        .set("admin.address", admin.trim_start_matches("http://"));
    let successor = tokio::task::spawn_blocking(move || Blobgate::succeed(&options));
    // Nothing but the socket's file tells it.
    let waits = async {
        while !socket.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waits = tokio::time::timeout(SOON, waits).await;
    waits.expect("the successor never came to wait");
    successor
}

/// Clients that ask, each time on a connection of its own, until they are told to stop.
struct Crowd {
    stop: Arc<AtomicBool>,
    served: watch::Receiver<u64>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Crowd {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (count, served) = watch::channel(0);
        let client = |_| {
            let (stop, count) = (Arc::clone(&stop), count.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    ask(address).await?;
                    count.send_modify(|count| *count += 1);
                }
                Ok(())
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self {
            stop,
            served,
            clients,
        }
    }

    /// Waits for this many answers from now on.
    async fn served(&mut self, more: u64) {
        let wanted = *self.served.borrow() + more;
        let served = self.served.wait_for(|count| *count >= wanted);
        let served = tokio::time::timeout(SOON, served).await;
        served
            .expect("the clients are stuck")
            .expect("no client is left");
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            assert_eq!(client.await.unwrap(), Ok(()));
        }
    }
}

async fn ask(address: SocketAddr) -> Result<(), String> {
    let failed = |step: &str, error: std::io::Error| format!("{step}: {error}");
    let mut connection = RawConnection::open(address)
        .await
        .map_err(|error| failed("connect", error))?;
    connection
        .send("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .map_err(|error| failed("send", error))?;
    let answer = connection
        .response()
        .await
        .map_err(|error| failed("read", error))?;
    match answer.status {
        200 => Ok(()),
        other => Err(format!("status {other}")),
    }
}

fn stack_with_socket() -> (Stack, PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("upgrade");
    let stack = one_slot()
        .config("upgrade_socket", socket.to_str().unwrap())
        .start()
        .unwrap();
    (stack, socket, dir)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigquit_hands_over_without_refusing_anybody() {
    let (stack, socket, _dir) = stack_with_socket();
    let address = stack.blobgate().address();
    let mut scene = Scene::enter(&stack, Phase::FirstPart).await;
    let mut crowd = Crowd::start(address);
    crowd.served(20).await;

    let successor = successor(&stack, &socket).await;
    crowd.served(20).await;
    stack.blobgate().quit();
    let successor = successor.await.unwrap().unwrap();
    assert_eq!(successor.address(), address);
    let old = stack.blobgate();
    tokio::task::block_in_place(|| old.wait_for_log("stopping:", SOON)).unwrap();
    crowd.served(20).await;

    // Health and metrics are the successor's alone.
    for _ in 0..10 {
        let url = format!("{}/readyz", successor.admin_url());
        assert_eq!(client().get(url).send().await.unwrap().status(), 200);
    }
    // What the old one has, it finishes; what is new, the new one takes.
    let fresh = Blob::new(7, PART + 1);
    let answer = stream(&stack, REPOSITORY, fresh, true).await;
    assert_eq!(answer.status(), 201);
    let logged = |process: &Blobgate, blob: Blob| {
        tokio::task::block_in_place(|| process.wait_for_log(&blob.sha256(), SOON)).unwrap();
    };
    logged(&successor, fresh);
    let push = &mut scene.pushes[0];
    assert_eq!(push.finish().await.status, 201);
    logged(old, push.blob);
    tokio::task::block_in_place(|| assert_ends_well(&stack, "handed over"));
    crowd.served(20).await;
    crowd.end().await;
    for blob in [fresh, push.blob] {
        assert_served(&stack, REPOSITORY, &blob.sha256(), &blob.bytes()).await;
    }
    assert_no_uploads(&stack);
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigquit_without_a_successor_changes_nothing() {
    let (stack, _socket, _dir) = stack_with_socket();
    let mut scene = Scene::enter(&stack, Phase::FirstPart).await;
    stack.blobgate().quit();
    let failed = || stack.blobgate().wait_for_log("not handed over", SOON);
    let line = tokio::task::block_in_place(failed).unwrap();
    assert!(line.contains("no successor waits"), "{line}");

    assert_eq!(scene.pushes[0].finish().await.status, 201);
    let blob = Blob::new(7, PART + 1);
    let answer = stream(&stack, REPOSITORY, blob, true).await;
    assert_eq!(answer.status(), 201);
    let ready = format!("{}/readyz", stack.blobgate().admin_url());
    assert_eq!(client().get(ready).send().await.unwrap().status(), 200);
    stack.blobgate().terminate();
    tokio::task::block_in_place(|| assert_ends_well(&stack, "after all"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_that_cannot_start_takes_nothing_away() {
    let (stack, socket, _dir) = stack_with_socket();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = stack.blobgate_options().clone();
    options.dir = stack.dir().join("successor");
    options.config = options
        .config
        .set("listen.address", taken.local_addr().unwrap().to_string());
    let successor = tokio::task::spawn_blocking(move || Blobgate::succeed(&options));
    while !socket.exists() && !successor.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stack.blobgate().quit();
    let error = successor.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("cannot listen on"), "{error}");
    let failed = || stack.blobgate().wait_for_log("not handed over", SOON);
    let line = tokio::task::block_in_place(failed).unwrap();
    assert!(line.contains("ended before it served"), "{line}");
    let blob = Blob::new(7, PART + 1);
    let answer = stream(&stack, REPOSITORY, blob, true).await;
    assert_eq!(answer.status(), 201);
}

//! A distant network on the way to a server: every byte arrives half a round trip late, and each
//! connection carries so many bytes a second in each direction. It works on bytes and knows no HTTP:
//! that costs little, and whatever two programs say to each other takes as long as it would.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Result;

const CHUNK: usize = 64 << 10;

/// How far ahead of the wire is read. Timers come up to some milliseconds late, and the wire must
/// not stand idle meanwhile: it would carry less than it is to.
const AHEAD: Duration = Duration::from_millis(5);

/// Chunks on their way at once in one direction. More than a round trip holds, so that this bounds
/// memory and nothing else.
const ON_THE_WAY: usize = 1024;

#[derive(Clone, Copy)]
struct Shape {
    round_trip: Duration,
    bytes_per_second: u64,
}

pub fn run(to: SocketAddr, round_trip_ms: u64, bytes_per_second: u64) -> Result<()> {
    let shape = Shape {
        round_trip: Duration::from_millis(round_trip_ms),
        bytes_per_second,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("listening on http://{}", listener.local_addr()?);
        loop {
            let (client, _) = listener.accept().await?;
            tokio::spawn(async move {
                if let Err(error) = carry(client, to, shape).await {
                    eprintln!("connection: {error}");
                }
            });
        }
    })
}

async fn carry(client: TcpStream, to: SocketAddr, shape: Shape) -> io::Result<()> {
    client.set_nodelay(true)?;
    // Opening a connection takes a round trip too.
    sleep(shape.round_trip).await;
    let server = TcpStream::connect(to).await?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::join!(
        direction(from_client, to_server, shape),
        direction(from_server, to_client, shape),
    );
    Ok(())
}

/// Carries bytes until either end closes.
async fn direction(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shape: Shape,
) {
    let (wire, mut arriving) = mpsc::channel::<(Instant, BytesMut)>(ON_THE_WAY);
    let enter = async move {
        // When the last byte so far has left for the wire.
        let mut free_at = Instant::now();
        loop {
            sleep_until(free_at - AHEAD).await;
            let mut chunk = BytesMut::with_capacity(CHUNK);
            match from.read_buf(&mut chunk).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            let seconds = chunk.len() as f64 / shape.bytes_per_second as f64;
            free_at = free_at.max(Instant::now()) + Duration::from_secs_f64(seconds);
            if wire
                .send((free_at + shape.round_trip / 2, chunk))
                .await
                .is_err()
            {
                return;
            }
        }
    };
    let leave = async move {
        while let Some((at, chunk)) = arriving.recv().await {
            sleep_until(at).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // The other side may be gone already.
        let _ = to.shutdown().await;
    };
    tokio::join!(enter, leave);
}

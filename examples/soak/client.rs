//! One push, sent in the way it is to be sent.

use std::net::SocketAddr;
use std::time::Duration;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::http::{RawConnection, RawResponse};
use reqwest::{Body, Client};

use crate::load::{Manner, Push};

const CHUNK: usize = 64 << 10;
/// A slow client's pauses, and into how many pieces it cuts its body.
const PAUSE: Duration = Duration::from_millis(40);
const PIECES: u64 = 25;

/// How a push ended, as its client saw it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    Status(u16),
    /// No answer: the connection broke, or the client broke it.
    Broken,
}

pub async fn send(client: &Client, address: SocketAddr, push: &Push, digest: &str) -> Ending {
    match push.manner {
        Manner::Announced | Manner::WrongDigest => {
            with_reqwest(client, address, push, digest, true)
        }
        Manner::Chunked => with_reqwest(client, address, push, digest, false),
        Manner::Expecting | Manner::Slow | Manner::Truncated | Manner::Reset => {
            return raw(address, push, digest).await.unwrap_or(Ending::Broken);
        }
    }
    .await
}

async fn with_reqwest(
    client: &Client,
    address: SocketAddr,
    push: &Push,
    digest: &str,
    announced: bool,
) -> Ending {
    let url = format!("http://{address}/v2/{}/blobs/{digest}", push.repository);
    let mut request = client.put(url);
    if announced {
        request = request.header("content-length", push.blob.size);
    }
    let body = Body::wrap_stream(push.blob.stream(CHUNK));
    match request.body(body).send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            // So that the connection can be used again.
            let _ = answer.bytes().await;
            Ending::Status(status)
        }
        Err(_) => Ending::Broken,
    }
}

async fn raw(address: SocketAddr, push: &Push, digest: &str) -> std::io::Result<Ending> {
    let Push { blob, manner, .. } = *push;
    let expects = manner == Manner::Expecting;
    let mut connection = RawConnection::open(address).await?;
    let head = format!(
        "PUT /v2/{}/blobs/{digest} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n{}\r\n",
        push.repository,
        blob.size,
        if expects {
            "Expect: 100-continue\r\n"
        } else {
            ""
        },
    );
    connection.send(head).await?;
    if expects {
        let answer = last_or_continue(&mut connection).await?;
        if let Some(answer) = answer {
            return Ok(Ending::Status(answer.status));
        }
    }
    let sent = match manner {
        Manner::Truncated | Manner::Reset => push.chance % blob.size.max(1),
        _ => blob.size,
    };
    let chunk = match manner {
        Manner::Slow => usize::try_from(blob.size.div_ceil(PIECES)).unwrap_or(CHUNK),
        _ => CHUNK,
    };
    send_some(&mut connection, blob, sent, chunk, manner == Manner::Slow).await?;
    match manner {
        Manner::Reset => {
            connection.reset()?;
            Ok(Ending::Broken)
        }
        Manner::Truncated => {
            connection.finish_sending().await?;
            Ok(Ending::Status(connection.response().await?.status))
        }
        _ => Ok(Ending::Status(connection.response().await?.status)),
    }
}

/// `None` when the body is asked for.
async fn last_or_continue(connection: &mut RawConnection) -> std::io::Result<Option<RawResponse>> {
    let answer = connection.response().await?;
    Ok((answer.status != 100).then_some(answer))
}

async fn send_some(
    connection: &mut RawConnection,
    blob: Blob,
    mut left: u64,
    chunk: usize,
    slowly: bool,
) -> std::io::Result<()> {
    for mut bytes in blob.chunks(chunk) {
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= bytes.len() as u64;
        connection.send(&bytes).await?;
        if left == 0 {
            break;
        }
        if slowly {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

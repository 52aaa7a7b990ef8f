//! Clients that leave, stall, lie about their framing or hold on to connections. Nothing of theirs
//! reaches the bucket unverified, the registry as a request nobody made, or the next client.
#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/h2client.rs"]
mod h2client;

mod bodies;
mod connections;
mod encrypted;
mod framing;
mod smuggling;

use blobgate_testkit::blob::Blob;
use blobgate_testkit::http::{RawConnection, RawResponse};
use blobgate_testkit::stack::Stack;
use common::*;

/// Sends one request on a connection of its own and reads the answer.
async fn ask(stack: &Stack, request: impl AsRef<[u8]>) -> std::io::Result<RawResponse> {
    let mut connection = connect(stack).await;
    connection.send(request).await?;
    connection.response().await
}

/// The registry never heard of this word, whatever carried it.
fn assert_unheard(stack: &Stack, word: &str) {
    let heard = stack.registry_faults().records().into_iter();
    let heard: Vec<_> = heard.filter(|call| call.target.contains(word)).collect();
    assert!(heard.is_empty(), "{heard:#?}");
}

/// The answer is this error, and the connection ends after it.
async fn assert_refused(mut connection: RawConnection, status: u16, code: &str, what: &str) {
    let answer = connection.response().await;
    let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert!(answer.text().contains(code), "{what}: {}", answer.text());
    let rest = connection.rest().await.unwrap();
    assert!(
        rest.is_empty(),
        "{what}: a second answer: {}",
        String::from_utf8_lossy(&rest)
    );
}

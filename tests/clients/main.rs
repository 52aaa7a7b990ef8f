//! Early answers, seen by real clients: Go's net/http, curl and Python's http.client, over HTTP/1.1
//! and HTTP/2, with and without `Expect: 100-continue`. Whatever happens to a push, the client sees
//! the status and its next request is answered as itself.

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod forwarded;
#[path = "../common/h2client.rs"]
mod h2client;
mod large;
mod multiplex;
mod outcomes;
mod slow;
mod tool;

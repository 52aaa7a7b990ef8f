//! Half of the limit: receives a push and sends it to the store as it comes. No hash, no parts, no
//! question to anyone.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::Result;
use crate::wire::{self, Connection, Request};

pub fn run(to: SocketAddr, bucket: &str) -> Result<()> {
    let (listener, address) = wire::listen()?;
    println!("listening on http://{address}");
    let bucket = bucket.to_owned();
    Ok(wire::serve(&listener, move |connection, request| {
        relay(connection, &request, to, &bucket)
    })?)
}

fn relay(
    connection: &mut Connection,
    request: &Request,
    to: SocketAddr,
    bucket: &str,
) -> io::Result<()> {
    // A blob's push becomes an object whose key ends in its digest.
    let key = request.target.rsplit('/').next().unwrap_or_default();
    let mut store = TcpStream::connect(to)?;
    store.set_nodelay(true)?;
    let length = request.length;
    write!(
        store,
        "PUT /{bucket}/{key} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {length}\r\n\r\n"
    )?;
    connection.body(request, |bytes| store.write_all(bytes))?;
    let mut answer = [0; 1024];
    let read = store.read(&mut answer)?;
    if !answer[..read].starts_with(b"HTTP/1.1 200") {
        return Err(io::Error::other("the store refused"));
    }
    connection.answer("201 Created\r\n", "")
}

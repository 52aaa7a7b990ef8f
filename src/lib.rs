//! A reverse proxy that streams blob pushes, verified, into the bucket of an OCI registry.
#![forbid(unsafe_code)]

pub mod config;
pub mod net;
pub mod registry;
pub mod store;

#[cfg(test)]
mod test_server;

//! A reverse proxy that streams blob pushes, verified, into the bucket of an OCI registry.
#![forbid(unsafe_code)]

mod admin;
pub mod config;
pub mod doctor;
mod health;
pub mod metrics;
pub mod net;
pub mod proxy;
pub mod registry;
pub mod request_id;
mod server;
pub mod store;
#[cfg(test)]
mod test_server;
pub mod upload;
pub mod upstream;

pub use proxy::ACCESS_LOG_TARGET;
pub use server::{RunError, Start, run};

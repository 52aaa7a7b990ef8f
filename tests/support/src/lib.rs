//! Starts what blobgate's tests, benches and examples run against: an S3 server, a registry,
//! proxies that inject faults, and blobgate itself.
#![forbid(unsafe_code)]

mod background;
pub mod blob;
mod daemon;
pub mod faults;
pub mod http;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod registry;
pub mod s3;
pub mod stack;
pub mod tls;
pub mod usage;

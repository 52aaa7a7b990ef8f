//! A reverse proxy that streams blob pushes, verified, into the bucket of an OCI registry.
#![forbid(unsafe_code)]

pub mod config;
pub mod registry;
pub mod store;

// Stand-in: the real `run` and `RunError` come with the server and replace what follows, to the
// end of the file. `main` needs only their names, `run`'s signature and `RunError: Error`.

#[derive(Debug, thiserror::Error)]
#[error("this build has no server")]
pub struct RunError;

pub fn run(_config: config::Config) -> Result<(), RunError> {
    Err(RunError)
}

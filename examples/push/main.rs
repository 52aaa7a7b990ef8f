//! Pushes files, or a whole OCI image layout, into a registry: by digest where the registry is a
//! blobgate, through an upload session where it isn't. `push --help` tells the rest.
#![forbid(unsafe_code)]

mod args;
mod auth;
mod blob;
mod body;
mod endpoint;
mod failure;
mod http_client;
mod layout;
mod progress;
mod registry;
mod report;
mod retry;
mod run;
mod source;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::from(run::FAILED);
        }
    };
    let code = runtime.block_on(run::run(args));
    // A thread may still wait for a slow disk; nothing it reads is wanted any more.
    runtime.shutdown_background();
    ExitCode::from(code)
}

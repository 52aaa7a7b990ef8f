//! The HTTP side: every request is either a blob push, handled here, or forwarded.

mod access;
mod body;
mod door;
mod doubt;
mod expect;
mod forward;
mod push;
mod reply;
mod respond;
mod service;
mod windows;

pub use access::{ACCESS_LOG_TARGET, AccessLog};
pub use door::{Counting, Door, Patience};
pub use forward::{Forwarding, SetupError as ForwardingError};
pub use push::Pushes;
pub use service::{Gate, Timing};

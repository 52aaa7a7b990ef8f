//! The registry protocol, without HTTP server and store: what a request path means, repository
//! names, digests, and the errors a registry answers with.

mod digest;
mod error;
mod name;
mod route;

pub use digest::{Algorithm, Digest, DigestError, DigestHasher};
pub use error::{ErrorBody, ErrorCode};
pub use name::{NameError, RepositoryName};
pub use route::{BlobPush, Route, RouteError, route};

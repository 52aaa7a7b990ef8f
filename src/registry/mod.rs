//! The registry protocol, without HTTP server and store: what a request path means, repository
//! names, digests, the errors a registry answers with, and how it is logged in to.

mod challenge;
mod digest;
mod error;
mod login;
mod name;
mod route;

pub use challenge::{Bearer, Challenge, challenge};
pub use digest::{Algorithm, Digest, DigestError, DigestHasher};
pub use error::{ErrorBody, ErrorCode};
pub use login::{
    DockerLogin, basic_authorization, bearer_authorization, docker_config_path, docker_login,
};
pub use name::{NameError, RepositoryName};
pub use route::{BlobPush, Route, RouteError, route};

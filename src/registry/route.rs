use super::{Digest, DigestError, NameError, RepositoryName};
use http::Method;

/// What blobgate does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `PUT /v2/<name>/blobs/<digest>`
    BlobPush(BlobPush),
    /// Everything else: the upstream's.
    Forward,
}

/// A blob and the repository it is pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobPush {
    pub name: RepositoryName,
    pub digest: Digest,
}

/// A blob push that names no possible repository or blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// Decides by method and raw (undecoded) path, without query.
///
/// A `PUT` whose path ends in `/blobs/<one segment>` is a blob push and nothing else: it is parsed
/// or refused, never forwarded, as no registry has another meaning for it. The only encoding taken
/// is `%3A` for the digest's colon.
pub fn route(method: &Method, path: &str) -> Result<Route, RouteError> {
    if method != Method::PUT {
        return Ok(Route::Forward);
    }
    let Some((head, digest)) = path.rsplit_once('/') else {
        return Ok(Route::Forward);
    };
    let Some(name) = head.strip_prefix("/v2/").and_then(|rest| {
        rest.strip_suffix("/blobs")
            .or((rest == "blobs").then_some(""))
    }) else {
        return Ok(Route::Forward);
    };

    let name = name.parse()?;
    let colon = digest.find("%3A").or_else(|| digest.find("%3a"));
    let digest = match colon {
        Some(at) => format!("{}:{}", &digest[..at], &digest[at + 3..]).parse()?,
        None => digest.parse()?,
    };
    Ok(Route::BlobPush(BlobPush { name, digest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex() -> String {
        "0123456789abcdef".repeat(4)
    }

    fn put(path: &str) -> Result<Route, RouteError> {
        route(&Method::PUT, path)
    }

    #[test]
    fn a_put_by_digest_is_a_blob_push() {
        for (name, colon) in [
            ("a", ":"),
            ("a/b", "%3A"),
            ("a/blobs/uploads", "%3a"),
            ("blobs", ":"),
        ] {
            let push = put(&format!("/v2/{name}/blobs/sha256{colon}{}", hex()));
            let Ok(Route::BlobPush(push)) = push else {
                panic!("{name}: {push:?}");
            };
            assert_eq!(push.name.as_str(), name);
            assert_eq!(push.digest.to_string(), format!("sha256:{}", hex()));
        }
    }

    #[test]
    fn everything_else_is_forwarded() {
        let blob = format!("/v2/a/blobs/sha256:{}", hex());
        for method in [
            Method::GET,
            Method::HEAD,
            Method::DELETE,
            Method::POST,
            Method::PATCH,
        ] {
            assert_eq!(route(&method, &blob), Ok(Route::Forward), "{method}");
        }
        for path in [
            "/",
            "",
            "*",
            "/v2/",
            "/v2/a/manifests/latest",
            "/v2/a/blobs/uploads/",
            "/v2/a/blobs/uploads/9d1a2c3e-0000-4000-8000-000000000000",
            "/v1/a/blobs/x",
            "/V2/a/blobs/x",
        ] {
            assert_eq!(put(path), Ok(Route::Forward), "{path}");
        }
    }

    #[test]
    fn a_bad_name_or_digest_is_refused() {
        let hex = hex();
        for name in [
            "", "/a", "a/", "..", "a/../b", "a//b", "A", "a%2Fb", "%61", "a/.", "./a",
        ] {
            let answer = put(&format!("/v2/{name}/blobs/sha256:{hex}"));
            assert!(
                matches!(answer, Err(RouteError::Name(_))),
                "{name}: {answer:?}"
            );
        }
        assert_eq!(
            put(&format!("/v2/blobs/sha256:{hex}")),
            Err(RouteError::Name(NameError::Empty))
        );
        for digest in [
            "",
            "uploads",
            "..",
            "sha256:",
            &format!("sha256:{}", hex.to_uppercase()),
            &format!("sha256:{hex}00"),
            &format!("sha256%3A%3A{hex}"),
            &format!("sha256:%3A{hex}"),
            &format!("sha256%253A{hex}"),
            &format!("sha256:{hex}%2F"),
            &format!("md5:{hex}"),
        ] {
            let answer = put(&format!("/v2/a/blobs/{digest}"));
            assert!(
                matches!(answer, Err(RouteError::Digest(_))),
                "{digest}: {answer:?}"
            );
        }
    }
}

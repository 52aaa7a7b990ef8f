//! The proof that registry and blobgate look at the same bucket in the same way: a blob written as
//! blobgate writes it is read through the registry.

use super::permissions::Trial;
use super::registry::Client;
use super::report::{Finding, Verdict};
use crate::config;
use crate::net;
use crate::registry::RepositoryName;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};

/// Longer than any canary, bytes.
const MAX_ANSWER: usize = 1 << 16;

/// The blob itself is there already; what is missing is the link.
pub async fn sing(trial: &Trial<'_>, client: &Client<'_>, name: &RepositoryName) -> Verdict {
    let digest = &trial.specimen.digest;
    if let Some((key, _)) = trial.layout.link(name, digest)
        && let Err(error) = trial.write_link(&key, name, digest).await
    {
        return Verdict::Fail(Finding::new(
            format!(
                "the canary's link in {name} cannot be written: {}",
                error.message
            ),
            super::store::remedy(
                &error,
                "s3:PutObject",
                &format!("arn:aws:s3:::{}/{key}", trial.config.name),
            ),
        ));
    }
    let path = format!("/v2/{name}/blobs/{digest}");
    let head = client.upstream.ask(Method::HEAD, &path, client.headers());
    let seen = match head.await {
        Ok(answer) => answer.status(),
        Err(error) => return unasked(&error.to_string()),
    };
    match seen {
        StatusCode::OK | StatusCode::TEMPORARY_REDIRECT => {}
        StatusCode::NOT_FOUND => return unseen(),
        status => return unasked(&format!("HEAD is answered {status}")),
    }
    let get = client.upstream.ask(Method::GET, &path, client.headers());
    let answer = match get.await {
        Ok(answer) => answer,
        Err(error) => return unasked(&error.to_string()),
    };
    let (answer, way) = match answer.status() {
        StatusCode::TEMPORARY_REDIRECT => match follow(trial.config, &answer).await {
            Ok(answer) => (answer, " by its redirect to the store"),
            // Clients may well reach what this machine does not.
            Err(reason) => {
                let found = format!(
                    "the registry has the canary, and sends clients to the store for it, which \
                     cannot be reached from here: {reason}"
                );
                return Verdict::Warn(
                    Finding::new(
                        found,
                        "see that clients can reach the store, or set the registry's \
                         storage.redirect.disable",
                    ),
                    (),
                );
            }
        },
        _ => (answer, ""),
    };
    if answer.status() == StatusCode::OK && *answer.body() == trial.specimen.content {
        let found = format!("a blob written to the bucket is read through the registry{way}");
        return Verdict::Pass(found, ());
    }
    match answer.status() {
        StatusCode::OK => Verdict::Fail(Finding::new(
            "the registry gives other bytes than were written",
            "see what lies between: a cache, or another bucket of the same name",
        )),
        StatusCode::NOT_FOUND => unseen(),
        status => unasked(&format!("GET is answered {status}")),
    }
}

/// Where the registry sends clients. The address has a signature in it and is not shown.
async fn follow(
    bucket: &config::Bucket,
    answer: &Response<Bytes>,
) -> Result<Response<Bytes>, String> {
    let location = answer.headers().get(header::LOCATION);
    let location = location
        .and_then(|location| location.to_str().ok())
        .ok_or("the redirect has no Location")?;
    let client = net::Client::new(&net::Options {
        connect_timeout: bucket.connect_timeout,
        idle_timeout: bucket.idle_timeout,
        pool_idle_timeout: bucket.idle_timeout,
        pool_size: 1,
        encrypted: true,
        ca_file: bucket.ca_file.clone(),
    })
    .map_err(|error| error.to_string())?;
    let request = Request::builder()
        .method(Method::GET)
        .uri(location)
        .body(net::empty())
        .map_err(|_| "the redirect's Location is no URL")?;
    let answer = client.call_within(bucket.call_timeout, request, MAX_ANSWER);
    answer.await.map_err(|error| error.to_string())
}

fn unseen() -> Verdict {
    Verdict::Fail(Finding::new(
        "the registry does not see a blob that was written to the bucket (404)",
        "give blobgate the bucket.name, bucket.endpoint, bucket.root_directory and bucket.layout of \
         the registry's storage.s3: `blobgate config from-registry` reads them",
    ))
}

fn unasked(reason: &str) -> Verdict {
    Verdict::Fail(Finding::new(
        format!("the registry could not be asked for the canary: {reason}"),
        "see that the user may pull from --repository, and what the registry's log says",
    ))
}

//! The bucket itself: the store's clock, the credentials, whether it is there.

use super::report::{Finding, Verdict};
use crate::config;
use crate::net;
use crate::store::s3::{self, S3Store};
use crate::store::{BlobStore, FaultClass, StoreError, UploadLister};
use http::{Method, Request, header};
use std::time::{Duration, SystemTime};
use url::Url;

/// S3 refuses signatures whose time is further off than this.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html> (`RequestTimeTooSkewed`)
const SKEW_REFUSED: Duration = Duration::from_secs(15 * 60);

/// A clock kept by NTP is never this far off.
const SKEW_ODD: Duration = Duration::from_secs(60);

/// Whatever hands out credentials has new ones ready by then.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html>
const ENDING: Duration = Duration::from_secs(5 * 60);

/// The longest answer looked at, bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Compares this machine's clock with the `Date` of an answer. It needs no credentials: a refusal has
/// a date as well.
pub async fn clock(bucket: &config::Bucket, url: &Url) -> Verdict {
    let client = net::Client::new(&net::Options {
        connect_timeout: bucket.connect_timeout,
        idle_timeout: bucket.idle_timeout,
        pool_idle_timeout: bucket.idle_timeout,
        pool_size: 1,
        encrypted: true,
        ca_file: bucket.ca_file.clone(),
    });
    let remedy = "see bucket.endpoint: is it an S3 store?";
    let client = match client {
        Ok(client) => client,
        Err(error) => return Verdict::Fail(Finding::new(error.to_string(), remedy)),
    };
    let request = Request::builder()
        .method(Method::HEAD)
        .uri(url.as_str())
        .body(net::empty());
    let request = match request {
        Ok(request) => request,
        Err(error) => return Verdict::Fail(Finding::new(error.to_string(), remedy)),
    };
    let asked = SystemTime::now();
    let answer = match client
        .call_within(bucket.call_timeout, request, MAX_ANSWER)
        .await
    {
        Ok(answer) => answer,
        Err(error) => {
            let found = format!("the store does not answer: {error}");
            return Verdict::Fail(Finding::new(found, remedy));
        }
    };
    let round_trip = asked.elapsed().unwrap_or_default();
    let date = answer.headers().get(header::DATE);
    let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    match date {
        Some(date) => judge_skew(asked + round_trip / 2, date),
        None => Verdict::Warn(
            Finding::new(
                "the store's answer has no date to compare this machine's clock with",
                "compare the clocks yourself: S3 refuses signatures that are 15 minutes off",
            ),
            (),
        ),
    }
}

fn judge_skew(here: SystemTime, there: SystemTime) -> Verdict {
    let (skew, direction) = match here.duration_since(there) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    // The date has whole seconds.
    let found = format!(
        "this machine's clock is {} {direction} the store's",
        humantime::format_duration(Duration::from_secs(skew.as_secs()))
    );
    let remedy = "set the clock, and keep it by NTP: S3 refuses signatures that are 15 minutes off";
    if skew >= SKEW_REFUSED {
        Verdict::Fail(Finding::new(found, remedy))
    } else if skew >= SKEW_ODD {
        Verdict::Warn(Finding::new(found, remedy), ())
    } else {
        Verdict::Pass(found, ())
    }
}

/// Whether there are credentials, and where from; nothing of the credentials themselves.
pub async fn credentials(config: &config::Credentials) -> Verdict {
    match s3::find_credentials(config).await {
        Ok(origin) => {
            let left = origin
                .expires
                .map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
            let found = format!("found in: {}", origin.place);
            match left {
                None => Verdict::Pass(found, ()),
                Some(left) => {
                    let whole = Duration::from_secs(left.as_secs());
                    let found = format!("{found}; good for {}", humantime::format_duration(whole));
                    match left < ENDING {
                        true => Verdict::Warn(
                            Finding::new(found, "see that they are renewed before they end"),
                            (),
                        ),
                        false => Verdict::Pass(found, ()),
                    }
                }
            }
        }
        Err(reason) => Verdict::Fail(Finding::new(
            reason,
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile in \
             bucket.credentials.profile, or give the machine a role",
        )),
    }
}

/// Whether the store takes the signature. Asked by a listing, as a refused HEAD has no body to say
/// why; being forbidden to list is not the point here.
pub async fn signature(store: &S3Store) -> Verdict {
    let Err(error) = store.list_uploads(None).await else {
        return Verdict::Pass("the store takes the credentials".to_owned(), ());
    };
    let code = error.code.as_deref().unwrap_or_default();
    let remedy = match (code, error.class) {
        ("InvalidAccessKeyId", _) => {
            "the store does not know the access key: give that of an existing user, for this store"
        }
        ("SignatureDoesNotMatch", _) => {
            "the secret does not belong to the access key: give both of the same key; with an \
             endpoint, see that no proxy before it changes Host or path"
        }
        ("RequestTimeTooSkewed", _) => "set this machine's clock",
        ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired", _) => {
            "the session token has ended or is broken: get new credentials"
        }
        ("AuthorizationHeaderMalformed" | "PermanentRedirect", _) => {
            "set bucket.region to the bucket's own"
        }
        // Known, and forbidden to list; or asked of a bucket that is not there.
        ("AccessDenied" | "", FaultClass::Denied)
        | (_, FaultClass::NotFound | FaultClass::Rejected) => {
            let found = "the store takes the credentials".to_owned();
            return Verdict::Pass(found, ());
        }
        (_, FaultClass::Denied) => {
            "the store does not take the access key: give that of an existing user with an account \
             in order"
        }
        (_, _) => "see that the store is up, and bucket.endpoint right",
    };
    Verdict::Fail(Finding::new(error.message, remedy))
}

/// What is known of the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    There,
    /// Blobs may still be written and read: the store only refuses to tell.
    Hidden,
    Unusable,
}

pub async fn exists(store: &S3Store, config: &config::Bucket) -> (Bucket, Verdict) {
    let name = &config.name;
    let Err(error) = store.check().await else {
        let found = format!("the bucket {name} is there");
        return (Bucket::There, Verdict::Pass(found, ()));
    };
    let (bucket, remedy) = match error.class {
        FaultClass::NotFound => (
            Bucket::Unusable,
            "write the registry's own bucket in bucket.name, with its bucket.endpoint and \
             bucket.region; blobgate creates none"
                .to_owned(),
        ),
        FaultClass::Denied => (
            Bucket::Hidden,
            allow("s3:ListBucket", &format!("arn:aws:s3:::{name}")),
        ),
        FaultClass::Rejected => (
            Bucket::Unusable,
            "set bucket.region to the bucket's own, and bucket.endpoint to where it is".to_owned(),
        ),
        _ => (Bucket::Unusable, passing()),
    };
    let finding = Finding::new(error.message, remedy);
    (bucket, Verdict::Fail(finding))
}

/// What to do about a call that an S3 policy refuses.
pub fn allow(action: &str, resource: &str) -> String {
    format!("allow {action} on {resource} to blobgate's credentials")
}

fn passing() -> String {
    "see that the store is up and not overloaded, then try again".to_owned()
}

/// What to do about a failed write or question, for which `action` must be allowed on `resource`.
pub fn remedy(error: &StoreError, action: &str, resource: &str) -> String {
    match error.class {
        FaultClass::Denied => allow(action, resource),
        FaultClass::NotFound => {
            "the store has lost it meanwhile: does something else abort uploads or delete objects \
             here?"
                .to_owned()
        }
        FaultClass::Rejected => {
            "the store does not take the call as it is: compare bucket.encrypt, bucket.kms_key_id, \
             bucket.storage_class and bucket.acl with what it supports"
                .to_owned()
        }
        FaultClass::Throttled
        | FaultClass::Unavailable
        | FaultClass::Connection
        | FaultClass::Timeout => passing(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_judged_by_how_far_it_is_off() {
        let now = SystemTime::now();
        let judged = |ahead: u64| judge_skew(now + Duration::from_secs(ahead), now);
        assert!(matches!(judged(2), Verdict::Pass(..)));
        assert!(matches!(judged(61), Verdict::Warn(..)));
        let Verdict::Fail(finding) = judged(1000) else {
            panic!("16 minutes pass");
        };
        assert!(finding.found.contains("16m 40s ahead of"), "{finding:?}");
        let behind = judge_skew(now, now + Duration::from_secs(1000));
        let Verdict::Fail(finding) = behind else {
            panic!("16 minutes pass");
        };
        assert!(finding.found.contains("16m 40s behind"), "{finding:?}");
    }
}

//! The `bucket` section.

use super::kind::{self, Kind};
use super::load::ca_file;
use super::section::{Reader, Section};
use super::{Bucket, Credentials, LayoutKind, Secret};
use std::net::Ipv4Addr;
use url::{Host, Url};

const LAYOUTS: &[(&str, LayoutKind)] = &[
    ("distribution", LayoutKind::Distribution),
    ("flat", LayoutKind::Flat),
];

/// Those distribution's S3 driver takes; what is read back must be readable at once. `NONE` leaves
/// the header out.
const STORAGE_CLASSES: &[(&str, Option<&str>)] = &[
    ("STANDARD", Some("STANDARD")),
    ("REDUCED_REDUNDANCY", Some("REDUCED_REDUNDANCY")),
    ("STANDARD_IA", Some("STANDARD_IA")),
    ("ONEZONE_IA", Some("ONEZONE_IA")),
    ("INTELLIGENT_TIERING", Some("INTELLIGENT_TIERING")),
    ("OUTPOSTS", Some("OUTPOSTS")),
    ("GLACIER_IR", Some("GLACIER_IR")),
    ("NONE", None),
];

/// S3's canned ACLs of an object.
const ACLS: &[(&str, &str)] = &[
    ("private", "private"),
    ("public-read", "public-read"),
    ("public-read-write", "public-read-write"),
    ("authenticated-read", "authenticated-read"),
    ("aws-exec-read", "aws-exec-read"),
    ("bucket-owner-read", "bucket-owner-read"),
    ("bucket-owner-full-control", "bucket-owner-full-control"),
];

pub(super) fn bucket(reader: &Reader, section: &Section) -> Option<Bucket> {
    let remedy = "write the name of the bucket the registry keeps its blobs in";
    let name = section.required("name", &bucket_name(), remedy);
    let region = section.or("region", "us-east-1", &region());
    let endpoint = section.optional("endpoint", &kind::base_url());
    let root_directory = section.optional_with("root_directory", "empty", &root_directory());
    let layout = section.or("layout", "distribution", &kind::one_of(LAYOUTS));
    let path_style = section.optional_with(
        "path_style",
        "true with an endpoint, else false",
        &kind::flag(),
    );
    let ca_file = section.optional("ca_file", &ca_file());
    let encrypt = section.or("encrypt", "false", &kind::flag());
    let kms_key_id = section.optional("kms_key_id", &kind::token("the id or ARN of a KMS key"));
    let storage_class = section.optional("storage_class", &kind::one_of(STORAGE_CLASSES));
    let acl = section.optional("acl", &kind::one_of(ACLS));
    let credentials = credentials(reader, &section.section("credentials"));
    let connect_timeout = section.or("connect_timeout", "5s", &kind::timeout());
    let idle_timeout = section.or("idle_timeout", "30s", &kind::timeout());
    let call_timeout = section.or("call_timeout", "10m", &kind::timeout());
    let max_attempts = section.or("max_attempts", "6", &kind::count(1..=20));
    let retry_budget = section.or("retry_budget", "10m", &kind::timeout());

    if encrypt == Some(false) && matches!(kms_key_id, Some(Some(_))) {
        let remedy = "add `encrypt: true`, or leave `kms_key_id` out";
        reader.fault("bucket.kms_key_id", "`bucket.encrypt` is false", remedy);
    }
    if let (Some(endpoint), Some(Some(_))) = (&endpoint, &ca_file)
        && is_plain(endpoint)
    {
        let remedy = "leave `ca_file` out, or write the endpoint with https";
        reader.fault("bucket.ca_file", "`bucket.endpoint` is plain http", remedy);
    }
    let path_style = match (path_style, &endpoint) {
        (Some(None), Some(endpoint)) => Some(endpoint.is_some()),
        (given, _) => given.flatten(),
    };
    if let (Some(name), Some(endpoint), Some(false)) = (&name, &endpoint, path_style) {
        check_host_style(reader, name, endpoint);
    }
    Some(Bucket {
        name: name?,
        region: region?,
        endpoint: endpoint?,
        root_directory: root_directory?.unwrap_or_default(),
        layout: layout?,
        path_style: path_style?,
        ca_file: ca_file?,
        encrypt: encrypt?,
        kms_key_id: kms_key_id?,
        storage_class: storage_class?.flatten().map(str::to_owned),
        acl: acl?.map(str::to_owned),
        credentials: credentials?,
        connect_timeout: connect_timeout?,
        idle_timeout: idle_timeout?,
        call_timeout: call_timeout?,
        // At most 20.
        max_attempts: max_attempts? as u32,
        retry_budget: retry_budget?,
    })
}

fn is_plain(endpoint: &Option<Url>) -> bool {
    endpoint.as_ref().is_some_and(|url| url.scheme() == "http")
}

/// Without path style the bucket's name becomes the first label of the host.
fn check_host_style(reader: &Reader, name: &str, endpoint: &Option<Url>) {
    let host = endpoint.as_ref().and_then(Url::host);
    let problem = if matches!(host, Some(Host::Ipv4(_) | Host::Ipv6(_))) {
        "false, and the endpoint is an IP address, which takes no bucket name before it"
    } else if name.contains('.') && !is_plain(endpoint) {
        "false, and the dot in `bucket.name` makes a host that no certificate covers"
    } else {
        return;
    };
    reader.fault("bucket.path_style", problem, "write `path_style: true`");
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
fn bucket_name() -> Kind<String> {
    kind::text("a bucket name", |name| {
        let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let remedy = if !(3..=63).contains(&name.len()) {
            "a bucket name has 3 to 63 characters"
        } else if !name.chars().all(|c| outer(c) || c == '.' || c == '-') {
            "a bucket name has only lower-case letters, digits, dots and hyphens"
        } else if !name.starts_with(outer) || !name.ends_with(outer) {
            "a bucket name begins and ends with a lower-case letter or digit"
        } else if name.contains("..") {
            "a bucket name has no two dots side by side"
        } else if name.parse::<Ipv4Addr>().is_ok() {
            "a bucket name is not an IP address"
        } else {
            return Ok(name.to_owned());
        };
        Err(remedy.to_owned())
    })
}

fn region() -> Kind<String> {
    kind::text("a region's name", |region| {
        // It becomes part of AWS's host name and of every signature.
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if region.chars().all(fits) {
            Ok(region.to_owned())
        } else {
            Err("write letters, digits and hyphens, such as us-east-1 or auto".to_owned())
        }
    })
}

/// Distribution takes its `rootdirectory` with or without slashes around it, and so do we. What
/// would make other keys than the registry's is refused.
fn root_directory() -> Kind<String> {
    // An object's key has up to 1024 bytes; the longest one below the root (a link to a sha512 in
    // a repository of the longest name) leaves this many.
    const LONGEST: usize = 512;
    kind::text("a key prefix", |root| {
        let trimmed = root.strip_prefix('/').unwrap_or(root);
        let trimmed = trimmed.strip_suffix('/').unwrap_or(trimmed);
        let remedy = if trimmed.is_empty() {
            return Ok(String::new());
        } else if trimmed.split('/').any(str::is_empty) {
            "write single slashes"
        } else if trimmed.split('/').any(|part| part == "." || part == "..") {
            "write it without `.` and `..`, which object keys do not resolve"
        } else if trimmed.chars().any(char::is_control) {
            "write it without control characters"
        } else if trimmed.len() > LONGEST {
            "write 512 bytes or less"
        } else {
            return Ok(trimmed.to_owned());
        };
        Err(remedy.to_owned())
    })
}

fn credentials(reader: &Reader, section: &Section) -> Option<Credentials> {
    let id = section.optional("access_key_id", &kind::token("an access key's id").hidden());
    let secret = section.optional("secret_access_key", &kind::token("its secret").hidden());
    let token = section.optional("session_token", &kind::token("a token").hidden());
    let profile = section.optional("profile", &kind::token("the name of a profile"));
    let fault = |key: &str, problem: &str, remedy: &str| {
        reader.fault(&format!("bucket.credentials.{key}"), problem, remedy);
        None
    };
    let both = "give both `access_key_id` and `secret_access_key`, or neither to take them from \
                the environment, a profile or the machine's role";
    match (id?, secret?, token?, profile?) {
        (None, None, None, profile) => Some(Credentials::Chain { profile }),
        (Some(_), None, ..) => fault("secret_access_key", "missing beside `access_key_id`", both),
        (None, Some(_), ..) => fault("access_key_id", "missing beside `secret_access_key`", both),
        (None, None, Some(_), _) => fault("session_token", "given without a key", both),
        (Some(_), Some(_), _, Some(_)) => fault(
            "profile",
            "given beside `access_key_id`",
            "keep one of the two",
        ),
        (Some(access_key_id), Some(secret), session_token, None) => Some(Credentials::Static {
            access_key_id,
            secret_access_key: Secret::new(secret),
            session_token: session_token.map(Secret::new),
        }),
    }
}

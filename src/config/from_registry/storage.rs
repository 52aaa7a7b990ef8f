//! `storage`, made into the `bucket` section.

use super::document::Document;
use super::tree::Tree;
use super::{ACCESS_KEY, Notes, SECRET_KEY, Source};

/// Keys of `storage` that are no driver.
const NO_DRIVERS: [&str; 5] = ["maintenance", "cache", "delete", "redirect", "tag"];

/// Parameters that have no counterpart and need none: they change neither what lies in the bucket
/// nor where.
const IMMATERIAL: [&str; 6] = [
    "chunksize",
    "multipartcopychunksize",
    "multipartcopymaxconcurrency",
    "multipartcopythresholdsize",
    "useragent",
    "loglevel",
];

/// Parameters that are looked at below.
const KNOWN: [&str; 18] = [
    "accesskey",
    "secretkey",
    "region",
    "regionendpoint",
    "forcepathstyle",
    "bucket",
    "encrypt",
    "keyid",
    "secure",
    "skipverify",
    "v4auth",
    "rootdirectory",
    "storageclass",
    "objectacl",
    "accelerate",
    "usedualstack",
    "usefipsendpoint",
    "sessiontoken",
];

/// The S3 driver's parameters under the name that the file has for it.
struct Driver<'a> {
    tree: &'a Tree,
    path: String,
}

impl Driver<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.path)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.tree.text(&self.key(name))
    }

    fn flag(&self, name: &str, default: bool, notes: &mut Notes) -> bool {
        self.tree.flag(&self.key(name), default, notes)
    }
}

pub fn bucket(tree: &Tree, source: &Source, document: &mut Document, notes: &mut Notes) {
    let Some(path) = driver(tree, notes) else {
        return;
    };
    let driver = Driver { tree, path };
    document.section(
        "bucket",
        &format!("The registry's bucket, from {}.", driver.path),
    );
    match driver.text("bucket") {
        Some(bucket) => document.quoted(1, "name", bucket),
        None => notes.refuse(
            &driver.key("bucket"),
            "missing",
            "set it, in the file or by REGISTRY_STORAGE_S3_BUCKET",
        ),
    }
    place(&driver, document, notes);
    if let Some(root) = driver.text("rootdirectory") {
        document.quoted(1, "root_directory", root.trim_matches('/'));
    }
    attributes(&driver, document, notes);
    credentials(&driver, source, document, notes);
    warn_of_the_rest(&driver, document, notes);
}

/// The path of the one driver's section.
fn driver(tree: &Tree, notes: &mut Notes) -> Option<String> {
    let drivers: Vec<String> = tree
        .keys("storage")
        .into_iter()
        .filter(|key| !NO_DRIVERS.contains(&key.as_str()))
        .collect();
    match drivers.as_slice() {
        [one] if one == "s3" || one == "s3aws" => Some(format!("storage.{one}")),
        [] => {
            notes.refuse(
                "storage",
                "it names no storage driver",
                "blobgate needs a registry with storage.s3",
            );
            None
        }
        [other] => {
            notes.refuse(
                &format!("storage.{}", other.escape_debug()),
                "the registry keeps its blobs elsewhere than in an S3 bucket",
                "blobgate writes to S3: it can stand only before a registry with storage.s3",
            );
            None
        }
        several => {
            notes.refuse(
                "storage",
                format!("it names several storage drivers: {}", several.join(", ")),
                "leave one, as the registry itself demands",
            );
            None
        }
    }
}

/// Region, endpoint and addressing.
fn place(driver: &Driver, document: &mut Document, notes: &mut Notes) {
    let secure = driver.flag("secure", true, notes);
    let endpoint = driver.text("regionendpoint");
    match (driver.text("region"), &endpoint) {
        (Some(region), _) => document.quoted(1, "region", region),
        (None, Some(_)) => document.remark(
            1,
            "The registry names no region; with an endpoint it is part of the signature only.",
        ),
        (None, None) => notes.refuse(
            &driver.key("region"),
            "missing, and without regionendpoint the registry needs it as well",
            "set it",
        ),
    }
    let endpoint = endpoint.map(|endpoint| match endpoint.contains("://") {
        // As the AWS SDK does: `secure` counts only where there is no scheme.
        true => endpoint,
        false if secure => format!("https://{endpoint}"),
        false => format!("http://{endpoint}"),
    });
    match &endpoint {
        Some(endpoint) => document.quoted(1, "endpoint", endpoint.trim_end_matches('/')),
        None if !secure => notes.warn(format!(
            "{}: blobgate talks to AWS by https only, which is the same bucket",
            driver.key("secure")
        )),
        None => {}
    }
    path_style(driver, endpoint.as_deref(), document, notes);
    let encrypted = endpoint.as_ref().is_none_or(|at| at.starts_with("https"));
    if driver.flag("skipverify", false, notes) && encrypted {
        notes.warn(format!(
            "{}: blobgate always verifies the store's certificate; name the authority that issued \
             it in bucket.ca_file, unless the system knows it",
            driver.key("skipverify")
        ));
        document.remark(1, "The authority that issued the store's certificate:");
        document.example(1, "ca_file", "/etc/blobgate/store-ca.crt");
    }
    if !driver.flag("v4auth", true, notes) {
        notes.warn(format!(
            "{}: blobgate signs with version 4 only; see that the store takes it",
            driver.key("v4auth")
        ));
    }
    for (name, host) in [
        ("accelerate", "s3-accelerate.amazonaws.com"),
        ("usedualstack", "s3.dualstack.<region>.amazonaws.com"),
        ("usefipsendpoint", "s3-fips.<region>.amazonaws.com"),
    ] {
        if driver.flag(name, false, notes) && endpoint.is_none() {
            notes.warn(format!(
                "{}: blobgate reaches the same bucket at AWS's ordinary endpoint; for this one, \
                 write bucket.endpoint: https://{host} and bucket.path_style: false",
                driver.key(name)
            ));
        }
    }
}

fn path_style(driver: &Driver, endpoint: Option<&str>, document: &mut Document, notes: &mut Notes) {
    let encrypted = endpoint.is_none_or(|endpoint| endpoint.starts_with("https"));
    let dotted = driver.text("bucket").is_some_and(|name| name.contains('.'));
    if dotted && encrypted {
        // The AWS SDK does the same: no certificate covers the host that would be needed.
        document.plain(1, "path_style", true);
    } else if driver.text("forcepathstyle").is_some() {
        let forced = driver.flag("forcepathstyle", true, notes);
        document.plain(1, "path_style", forced);
    } else if endpoint.is_some() {
        document.remark(
            1,
            "forcepathstyle is not set, and means true to the registry in 2.8, false in 3.x. Most \
             stores take both.",
        );
        document.example(1, "path_style", "true");
    }
}

/// What objects are written with.
fn attributes(driver: &Driver, document: &mut Document, notes: &mut Notes) {
    let encrypt = driver.flag("encrypt", false, notes);
    if encrypt {
        document.plain(1, "encrypt", true);
    }
    match driver.text("keyid") {
        Some(key) if encrypt => document.quoted(1, "kms_key_id", key),
        Some(_) => notes.warn(format!(
            "{}: left out, as the registry ignores it without encrypt",
            driver.key("keyid")
        )),
        None => {}
    }
    if let Some(class) = driver.text("storageclass") {
        document.quoted(1, "storage_class", class.to_ascii_uppercase());
    }
    if let Some(acl) = driver.text("objectacl") {
        document.quoted(1, "acl", acl);
    }
}

fn credentials(driver: &Driver, source: &Source, document: &mut Document, notes: &mut Notes) {
    let keys = (driver.text("accesskey"), driver.text("secretkey"));
    match keys {
        (Some(key), Some(secret)) if source.with_secrets => {
            document.subsection(
                "credentials",
                "The registry's own key. Keep this file private.",
            );
            document.quoted(2, "access_key_id", key);
            document.quoted(2, "secret_access_key", secret);
        }
        (Some(_), Some(_)) => {
            notes.warn(format!(
                "{}, {}: not copied; give {ACCESS_KEY} and {SECRET_KEY} to blobgate's environment, \
                 of the same key or of one with the permissions in docs/OPERATIONS.md \
                 (--with-secrets copies them)",
                driver.key("accesskey"),
                driver.key("secretkey"),
            ));
            document.subsection(
                "credentials",
                "The registry has a fixed key. Its values stand in no file here: set these \
                 variables.",
            );
            document.plain(2, "access_key_id", format!("${{{ACCESS_KEY}}}"));
            document.plain(2, "secret_access_key", format!("${{{SECRET_KEY}}}"));
        }
        (key, secret) => {
            if key.is_some() || secret.is_some() {
                notes.warn(format!(
                    "{}, {}: only one of them is set, which the registry ignores as well",
                    driver.key("accesskey"),
                    driver.key("secretkey"),
                ));
            }
            document.remark(
                1,
                "The registry finds its credentials by itself, and so does blobgate: in the \
                 environment, a profile, the container or the instance (docs/CONFIGURATION.md, \
                 \"Credentials\"; no web identity, no IMDSv2).",
            );
            document.plain(1, "credentials", "{}");
        }
    }
}

fn warn_of_the_rest(driver: &Driver, document: &mut Document, notes: &mut Notes) {
    let names = driver.tree.keys(&driver.path);
    let immaterial: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| IMMATERIAL.contains(name))
        .collect();
    if !immaterial.is_empty() {
        document.remark(
            1,
            &format!(
                "Left out, as they change nothing of what lies in the bucket: {}.",
                immaterial.join(", ")
            ),
        );
    }
    for name in &names {
        if !KNOWN.contains(&name.as_str()) && !IMMATERIAL.contains(&name.as_str()) {
            notes.warn(format!(
                "{}: not known to blobgate, and left out; see that it changes neither keys nor \
                 content of what the registry writes",
                driver.key(&name.escape_debug().to_string())
            ));
        }
    }
}

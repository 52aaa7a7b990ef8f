//! What is warned of, what is refused, and what must not get through.

use super::*;

/// Added to the configuration as a document of its own, with part of the warning.
#[test]
fn what_needs_a_hand_is_said_twice() {
    for (text, expected) in [
        (with("skipverify: true"), "bucket.ca_file"),
        (with("v4auth: false"), "version 4"),
        (with("secure: false"), "https only"),
        (with("keyid: abc"), "without encrypt"),
        (with("accesskey: abc"), "only one of them"),
        (with("accelerate: true"), "s3-accelerate"),
        (with("usedualstack: true"), "dualstack"),
        (with("usefipsendpoint: true"), "s3-fips"),
        (with("mystery: 7"), "storage.s3.mystery: not known"),
        (
            S3.replace("':5001'", "':5001', host: 'https://u:hunter2@a.test'"),
            "clients to a.test",
        ),
        (
            S3.replace("http:", "  maintenance: {readonly: {enabled: true}}\nhttp:"),
            "read-only",
        ),
        (
            format!("{S3}notifications: {{endpoints: [{{name: a}}]}}\n"),
            "no event",
        ),
        (
            format!("{S3}middleware: {{repository: [{{name: a}}]}}\n"),
            "middleware.repository",
        ),
        (
            S3.replace("':5001'", "':5001', tls: {letsencrypt: {cachefile: /x}}"),
            "obtains no certificates",
        ),
    ] {
        let (_, translation) = made(&source(&text, &[]));
        let warnings = translation.warnings.join("\n");
        assert!(warnings.contains(expected), "{expected}: {warnings}");
        assert!(!warnings.contains("hunter2"), "{warnings}");
        let comments: Vec<&str> = translation
            .yaml
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix('#'))
            .flat_map(str::split_whitespace)
            .collect();
        let comments = comments.join(" ");
        for warning in &translation.warnings {
            assert!(comments.contains(warning.as_str()), "{warning}\n{comments}");
        }
    }
    let immaterial = made(&source(&with("chunksize: 5242880, useragent: x"), &[]));
    assert_eq!(immaterial.1.warnings, [""; 0]);
    assert!(immaterial.1.yaml.contains("chunksize, useragent"));
}

#[test]
fn registries_that_blobgate_cannot_stand_before_are_refused() {
    for (text, key, expected) in [
        (
            S3.replace("s3:", "filesystem:"),
            "storage.filesystem",
            "S3 bucket",
        ),
        (
            S3.replace("  s3:", "  filesystem: {}\n  s3:"),
            "storage",
            "several",
        ),
        (
            "version: 0.1\nhttp: {addr: ':1'}\n".to_owned(),
            "storage",
            "no storage driver",
        ),
        (
            S3.replace("bucket: blobs, ", ""),
            "storage.s3.bucket",
            "missing",
        ),
        (
            S3.replace(", region: eu-west-1", ""),
            "storage.s3.region",
            "missing",
        ),
        (
            with("encrypt: perhaps"),
            "storage.s3.encrypt",
            "not a boolean",
        ),
        (
            format!("{S3}proxy: {{remoteurl: 'https://a'}}\n"),
            "proxy.remoteurl",
            "pull-through",
        ),
        (
            S3.replace("':5001'", "':5001', prefix: /x/"),
            "http.prefix",
            "below a path",
        ),
        (
            S3.replace("':5001'", "':5001', tls: {clientcas: [a]}"),
            "http.tls.clientcas",
            "certificate",
        ),
        (S3.replace("addr: ':5001'", ""), "http.addr", "reached"),
        (
            with("storageclass: EXPRESS_ONEZONE"),
            "bucket.storage_class",
            "expected one of",
        ),
        (
            with("regionendpoint: 'https://a/s3'"),
            "bucket.endpoint",
            "leave out the path",
        ),
        (
            with("rootdirectory: a//b"),
            "bucket.root_directory",
            "single slashes",
        ),
        ("storage: {s3: {}}".to_owned(), "", "no `version`"),
        ("version: [".to_owned(), "", "not usable YAML at line"),
    ] {
        let refusal = match translate(&source(&text, &[])) {
            Err(refusal) => refusal,
            Ok(translation) => panic!("{text}\nbecame\n{}", translation.yaml),
        };
        let fault = &refusal.faults()[0];
        assert_eq!(fault.key, key, "{refusal}");
        assert!(
            refusal.to_string().contains(expected),
            "{expected}: {refusal}"
        );
    }
    // All reasons at once.
    let text = format!(
        "{}proxy: {{remoteurl: 'https://a'}}\n",
        S3.replace("s3:", "gcs:")
    );
    let refusal = match translate(&source(&text, &[])) {
        Err(refusal) => refusal,
        Ok(translation) => panic!("{}", translation.yaml),
    };
    assert_eq!(refusal.faults().len(), 2, "{refusal}");
}

/// Nothing of the registry's file can become YAML of its own in ours.
#[test]
fn values_cannot_break_out() {
    for root in [
        "a: b", "a # b", "a\"b", "a$b", "${HOME}", "a'b", "- a", "{a}",
    ] {
        let quoted = root.replace('\'', "''");
        let bucket = bucket(&format!("rootdirectory: '{quoted}'"));
        assert_eq!(bucket.root_directory, root);
    }
    let mut source = source(S3, &[]);
    source.name = "a\nadmin: {address: '0.0.0.0:1'}".to_owned();
    assert_eq!(made(&source).0.admin.address.map(|a| a.port()), Some(9090));
}

//! What is refused, and what is said about it: the key, and what to write instead.

use super::super::{Config, ConfigErrors};
use super::cases::CASES;
use super::{env, parse, with};
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::symm::Cipher;
use openssl::x509::X509;
use std::path::Path;

fn refused(text: &str) -> ConfigErrors {
    match parse(text) {
        Ok(_) => panic!("{text}\nis taken"),
        Err(errors) => errors,
    }
}

#[test]
fn each_fault_is_told_with_its_key_and_its_remedy() {
    let mut wrong = Vec::new();
    for (text, key, expected) in CASES {
        let errors = refused(&with(text));
        let shown = errors.to_string();
        let well_told = match errors.faults() {
            [fault] => {
                fault.key == *key
                    && shown.contains(expected)
                    && !fault.remedy.is_empty()
                    && !shown.contains("hunter2")
                    && !shown.contains("31337")
                    && !shown.ends_with('.')
                    && !shown.contains('\n')
            }
            _ => false,
        };
        if !well_told {
            wrong.push(format!("of {text}, not `{expected}` but:\n{shown}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn all_faults_come_at_once() {
    let errors = refused(
        "listen: {address: nowhere, tls: {certificate: /nonexistent/a, key: /nonexistent/b}}\n\
         upstream: {connect_timeout: 0s}\n\
         bucket: [registry]\n\
         upload: {part_size: 1MiB, part_concurrency: '${NOPE}', memory_budget: 1MiB}\n\
         threads: many\nthread: 4\n",
    );
    let keys: Vec<&str> = errors
        .faults()
        .iter()
        .map(|fault| fault.key.as_str())
        .collect();
    let expected = [
        "listen.address",
        "listen.tls.certificate",
        "listen.tls.key",
        "upstream.url",
        "upstream.connect_timeout",
        // Not a section: that its keys are missing is no further fault.
        "bucket",
        // Nor is it said of a faulty part size whether the budget holds it.
        "upload.part_size",
        "upload.part_concurrency",
        "upload.memory_budget",
        "threads",
        "thread",
    ];
    assert_eq!(keys, expected, "{errors}");
    assert_eq!(errors.to_string().lines().count(), expected.len());
}

#[test]
fn an_empty_file_is_told_what_it_needs() {
    for text in ["", "# nothing yet\n", "---\n", "{}"] {
        let errors = refused(text);
        let keys: Vec<&str> = errors
            .faults()
            .iter()
            .map(|fault| fault.key.as_str())
            .collect();
        assert_eq!(keys, ["upstream.url", "bucket.name"], "of {text:?}");
    }
}

#[test]
fn what_is_no_mapping_is_refused_as_a_whole() {
    let cases = [
        ("just text", "found no keys at the top"),
        ("- a\n- b\n", "found no keys at the top"),
        ("a: [", "not usable YAML"),
        ("a: 1\n---\nb: 2\n", "more than one document"),
        (
            "upload:\n  part_size: 16MiB\n  part_size: 32MiB\n",
            "duplicate entry with key \"part_size\"",
        ),
        ("upload:\n\tpart_size: 16MiB\n", "line 2"),
    ];
    for (text, expected) in cases {
        let shown = refused(text).to_string();
        assert!(shown.contains(expected), "of {text:?}: {shown}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let shown = Config::load(Path::new("nonexistent.yaml"))
        .unwrap_err()
        .to_string();
    assert!(
        shown.contains("the file cannot be read: No such file"),
        "{shown}"
    );
}

fn certificate(key: &PKey<Private>) -> Vec<u8> {
    let mut builder = X509::builder().unwrap();
    builder.set_pubkey(key).unwrap();
    builder
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(1).unwrap())
        .unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    builder.build().to_pem().unwrap()
}

#[test]
fn certificate_and_key_must_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let write = |name: &str, pem: Vec<u8>| std::fs::write(path(name), pem).unwrap();
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let other = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    write("own.crt", certificate(&key));
    write("own.key", key.private_key_to_pem_pkcs8().unwrap());
    write("other.key", other.private_key_to_pem_pkcs8().unwrap());
    let cipher = Cipher::aes_256_cbc();
    write(
        "locked.key",
        key.private_key_to_pem_pkcs8_passphrase(cipher, b"word")
            .unwrap(),
    );

    let tls = |certificate: Option<&str>, key: Option<&str>| {
        let quoted =
            |name: Option<&str>| name.map_or("~".to_owned(), |name| format!("'{}'", path(name)));
        let (certificate, key) = (quoted(certificate), quoted(key));
        let text = format!("listen: {{tls: {{certificate: {certificate}, key: {key}}}}}");
        Config::parse(&with(&text), env)
    };
    let good = tls(Some("own.crt"), Some("own.key")).unwrap();
    assert!(good.listen.tls.is_some());
    assert!(parse(&good.to_string()).is_ok(), "{good}");

    let cases = [
        (
            Some("own.crt"),
            Some("other.key"),
            "listen.tls.key",
            "not that of the certificate",
        ),
        (
            Some("own.crt"),
            Some("own.crt"),
            "listen.tls.key",
            "holds no PEM private key",
        ),
        (
            Some("own.crt"),
            Some("locked.key"),
            "listen.tls.key",
            "without a password",
        ),
        (
            Some("own.key"),
            Some("own.key"),
            "listen.tls.certificate",
            "holds no PEM certificate",
        ),
        (Some("own.crt"), None, "listen.tls.key", "give both"),
        (None, Some("own.key"), "listen.tls.certificate", "give both"),
    ];
    for (certificate, key, faulty, expected) in cases {
        let errors = tls(certificate, key).unwrap_err();
        let shown = errors.to_string();
        assert_eq!(errors.faults().len(), 1, "{shown}");
        assert_eq!(errors.faults()[0].key, faulty, "{shown}");
        assert!(shown.contains(expected), "{shown}");
    }

    for section in [
        "upstream: {url: 'http://a'",
        "bucket: {name: bucket, endpoint: 'http://a'",
    ] {
        let text = format!("{section}, ca_file: '{}'}}", path("own.crt"));
        let shown = refused(&with(&text)).to_string();
        assert!(
            shown.contains("is plain http; leave `ca_file` out"),
            "{shown}"
        );
    }
}

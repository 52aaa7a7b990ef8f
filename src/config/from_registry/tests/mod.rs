//! What each of distribution's settings becomes, and what is said of those that become nothing.

mod refusals;

use super::*;
use crate::config::Credentials;

const S3: &str = "\
version: 0.1
storage:
  s3: {bucket: blobs, region: eu-west-1}
http: {addr: ':5001'}
";

fn source(text: &str, environment: &[(&str, &str)]) -> Source {
    Source {
        name: "config.yml".to_owned(),
        text: text.to_owned(),
        environment: environment
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        upstream: None,
        listen: None,
        with_secrets: false,
    }
}

fn env(name: &str) -> Option<String> {
    [ACCESS_KEY, SECRET_KEY]
        .contains(&name)
        .then(|| "given".to_owned())
}

fn made(source: &Source) -> (Config, Translation) {
    match translate(source) {
        Ok(translation) => {
            let config = Config::parse(&translation.yaml, env)
                .unwrap_or_else(|errors| panic!("{errors}\n{}", translation.yaml));
            (config, translation)
        }
        Err(refusal) => panic!("{}\n{refusal}", source.text),
    }
}

/// The configuration with more parameters of the S3 driver, or with another bucket.
fn with(parameters: &str) -> String {
    let name = if parameters.contains("bucket: ") {
        ""
    } else {
        "bucket: blobs, "
    };
    S3.replace(
        "bucket: blobs, region: eu-west-1",
        &format!("{name}region: eu-west-1, {parameters}"),
    )
}

fn bucket(parameters: &str) -> crate::config::Bucket {
    made(&source(&with(parameters), &[])).0.bucket
}

#[test]
fn the_bucket_is_the_registrys() {
    let plain = bucket("rootdirectory: /some/root/");
    assert_eq!(
        (plain.name.as_str(), plain.region.as_str()),
        ("blobs", "eu-west-1")
    );
    assert_eq!(plain.root_directory, "some/root");
    assert!(plain.endpoint.is_none() && !plain.path_style && !plain.encrypt);
    assert!(matches!(
        plain.credentials,
        Credentials::Chain { profile: None }
    ));

    let written = bucket(
        "encrypt: true, keyid: 'arn:aws:kms:x', storageclass: standard_ia, objectacl: public-read",
    );
    assert!(written.encrypt);
    assert_eq!(written.kms_key_id.as_deref(), Some("arn:aws:kms:x"));
    assert_eq!(written.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(written.acl.as_deref(), Some("public-read"));
    assert_eq!(bucket("storageclass: NONE").storage_class, None);
    // As the registry does, keyid counts with encrypt only.
    assert_eq!(bucket("keyid: abc").kms_key_id, None);
    assert_eq!(bucket("bucket: 12345").name, "12345");
}

#[test]
fn the_endpoint_is_the_registrys() {
    for (parameters, endpoint, path_style) in [
        (
            "regionendpoint: 'http://minio:9000'",
            "http://minio:9000/",
            true,
        ),
        (
            "regionendpoint: 'http://minio:9000/'",
            "http://minio:9000/",
            true,
        ),
        ("regionendpoint: 'minio:9000'", "https://minio:9000/", true),
        (
            "regionendpoint: 'minio:9000', secure: false",
            "http://minio:9000/",
            true,
        ),
        (
            "regionendpoint: 'minio:9000', secure: 'no'",
            "http://minio:9000/",
            true,
        ),
        // Where there is a scheme, it counts alone.
        (
            "regionendpoint: 'https://minio', secure: false",
            "https://minio/",
            true,
        ),
        (
            "regionendpoint: 'http://minio', forcepathstyle: false",
            "http://minio/",
            false,
        ),
        (
            "regionendpoint: 'http://minio', forcepathstyle: 'True'",
            "http://minio/",
            true,
        ),
        (
            "regionendpoint: 'https://minio', forcepathstyle: off, bucket: a.b",
            "https://minio/",
            true,
        ),
    ] {
        let bucket = bucket(parameters);
        let found = bucket.endpoint.as_ref().map(Url::as_str);
        assert_eq!(found, Some(endpoint), "{parameters}");
        assert_eq!(bucket.path_style, path_style, "{parameters}");
    }
    assert!(
        bucket("bucket: a.b").path_style,
        "no certificate covers a.b.s3.amazonaws.com"
    );
    let regionless = S3.replace("region: eu-west-1", "regionendpoint: 'http://minio'");
    assert_eq!(made(&source(&regionless, &[])).0.bucket.region, "us-east-1");
}

#[test]
fn secrets_are_copied_only_when_asked_for() {
    let text = with("accesskey: AKIAKEY, secretkey: 'hun$ter2'");
    let mut source = source(&text, &[]);
    let (config, translation) = made(&source);
    assert!(matches!(
        config.bucket.credentials,
        Credentials::Static { access_key_id, .. } if access_key_id == "given"
    ));
    let all = translation.yaml.clone() + &translation.warnings.join("\n");
    assert!(!all.contains("AKIAKEY") && !all.contains("hun$"), "{all}");
    assert!(translation.warnings[0].contains(SECRET_KEY), "{all}");
    // Without the variables blobgate says so, instead of going by other credentials.
    let refused = Config::parse(&translation.yaml, |_| None).unwrap_err();
    assert!(refused.to_string().contains(SECRET_KEY), "{refused}");

    source.with_secrets = true;
    match made(&source).0.bucket.credentials {
        Credentials::Static {
            access_key_id,
            secret_access_key,
            ..
        } => {
            assert_eq!(access_key_id, "AKIAKEY");
            assert_eq!(secret_access_key.expose(), "hun$ter2");
        }
        chain => panic!("{chain:?}"),
    }
}

#[test]
fn the_environment_counts_as_for_the_registry() {
    let text = "version: 0.1\nstorage: inmemory\nhttp: {addr: ':5001'}\n";
    let environment = [
        ("REGISTRY_STORAGE", "s3"),
        ("REGISTRY_STORAGE_S3_BUCKET", "of-environment"),
        ("REGISTRY_STORAGE_S3_REGION", "eu-west-1"),
        ("REGISTRY_STORAGE_S3_ENCRYPT", "true"),
        ("REGISTRY_STORAGE_S3_ACCESSKEY", "AKIAKEY"),
        ("REGISTRY_STORAGE_S3_SECRETKEY", "hunter2"),
        ("REGISTRY_HTTP_ADDR", "127.0.0.1:7000"),
        // An orchestrator's, for a service of this name.
        ("REGISTRY_PORT", "tcp://10.0.0.1:5000"),
        ("STORAGE_S3_BUCKET", "not-this"),
    ];
    let (config, translation) = made(&source(text, &environment));
    assert_eq!(config.bucket.name, "of-environment");
    assert!(config.bucket.encrypt);
    assert_eq!(config.upstream.url.as_str(), "http://127.0.0.1:7000/");
    assert!(
        translation
            .yaml
            .contains("# - REGISTRY_STORAGE_S3_BUCKET\n")
    );
    assert!(!translation.yaml.contains("REGISTRY_PORT"));
    assert!(!translation.yaml.contains("hunter2"));

    // Over a file that has it otherwise, in any case.
    let (config, _) = made(&source(S3, &[("REGISTRY_STORAGE_S3_BUCKET", "other")]));
    assert_eq!(
        (config.bucket.name.as_str(), config.bucket.region.as_str()),
        ("other", "eu-west-1")
    );
}

#[test]
fn an_environment_file_is_read() {
    let text =
        "# a comment\nREGISTRY_A=1\n REGISTRY_B = \"two words\"\nexport REGISTRY_C='x=y'\n\n";
    let expected = [
        ("REGISTRY_A", "1"),
        ("REGISTRY_B", "two words"),
        ("REGISTRY_C", "x=y"),
    ];
    let expected: Vec<_> = expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    assert_eq!(variables(text), expected);
}

#[test]
fn the_upstream_is_where_the_registry_listens() {
    for (addr, url, listen) in [
        (":5001", "http://127.0.0.1:5001/", 5000),
        ("0.0.0.0:5001", "http://127.0.0.1:5001/", 5000),
        ("[::]:5001", "http://127.0.0.1:5001/", 5000),
        ("[::1]:5001", "http://[::1]:5001/", 5000),
        ("localhost:5001", "http://localhost:5001/", 5000),
        ("10.0.0.7:5001", "http://10.0.0.7:5001/", 5000),
        // Which leaves blobgate another.
        (":5000", "http://127.0.0.1:5000/", 5080),
    ] {
        let (config, _) = made(&source(&S3.replace(":5001", addr), &[]));
        assert_eq!(config.upstream.url.as_str(), url, "{addr}");
        assert_eq!(config.listen.address.port(), listen, "{addr}");
    }
    let debugged = S3.replace("':5001'", "':5000', debug: {addr: ':9090'}");
    let (config, _) = made(&source(&debugged, &[]));
    assert_eq!(
        config.admin.address.map(|address| address.port()),
        Some(9091)
    );

    let mut told = source(
        &S3.replace("addr: ':5001'", "net: unix, addr: /run/registry"),
        &[],
    );
    assert!(translate(&told).is_err());
    told.upstream = Some("http://registry:5000".parse().unwrap());
    told.listen = Some("127.0.0.1:8000".parse().unwrap());
    let (config, _) = made(&told);
    assert_eq!(config.upstream.url.as_str(), "http://registry:5000/");
    assert_eq!(config.listen.address.port(), 8000);
}

#[test]
fn a_certificate_is_taken_over_where_it_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let made_for = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let pair = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(path("crt"), pair.cert.pem()).unwrap();
        std::fs::write(path("key"), pair.signing_key.serialize_pem()).unwrap();
        let tls = format!(
            "addr: ':5001', tls: {{certificate: '{}', key: '{}'}}",
            path("crt"),
            path("key")
        );
        made(&source(&S3.replace("addr: ':5001'", &tls), &[]))
    };
    for (names, url, warned) in [
        (
            &["localhost", "registry.test"][..],
            "https://localhost:5001/",
            false,
        ),
        (
            &["*.test", "registry.test"],
            "https://registry.test:5001/",
            true,
        ),
        (&["127.0.0.1"], "https://127.0.0.1:5001/", false),
        (&["*.test"], "https://127.0.0.1:5001/", true),
    ] {
        let (config, translation) = made_for(names);
        assert_eq!(config.upstream.url.as_str(), url, "{names:?}");
        assert!(config.listen.tls.is_some());
        assert_eq!(
            !translation.warnings.is_empty(),
            warned,
            "{:?}",
            translation.warnings
        );
    }
    let unreadable = "addr: ':5001', tls: {certificate: /nonexistent/crt, key: /nonexistent/key}";
    let (config, translation) = made(&source(&S3.replace("addr: ':5001'", unreadable), &[]));
    assert_eq!(config.upstream.url.as_str(), "https://127.0.0.1:5001/");
    assert!(config.listen.tls.is_none());
    assert_eq!(translation.warnings.len(), 2, "{:?}", translation.warnings);
}

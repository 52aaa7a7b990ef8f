//! What a valid configuration comes to.

use super::super::{Config, Credentials, LayoutKind, LogFormat};
use super::{MINIMAL, parse, with};
use log::LevelFilter;
use std::time::Duration;

fn valid(text: &str) -> Config {
    match parse(&with(text)) {
        Ok(config) => config,
        Err(errors) => panic!("{text}\nis refused:\n{errors}"),
    }
}

#[test]
fn the_minimal_configuration_takes_all_defaults() {
    let config = parse(MINIMAL).unwrap();
    let secs = Duration::from_secs;
    assert_eq!(config.listen.address.to_string(), "0.0.0.0:5000");
    assert!(config.listen.tls.is_none());
    assert!(!config.listen.trust_forwarded);
    assert_eq!(config.listen.header_timeout, secs(30));
    assert_eq!(config.listen.keepalive_timeout, secs(75));
    assert_eq!(config.listen.max_connections, 4096);
    assert_eq!(config.listen.http2_memory, 256 << 20);
    assert_eq!(config.upstream.url.as_str(), "http://127.0.0.1:5001/");
    assert_eq!(config.upstream.connect_timeout, secs(5));
    assert_eq!(config.upstream.idle_timeout, secs(300));
    assert_eq!(config.upstream.probe_timeout, secs(15));
    let bucket = &config.bucket;
    assert_eq!(
        (bucket.name.as_str(), bucket.region.as_str()),
        ("registry", "us-east-1")
    );
    assert!(bucket.endpoint.is_none() && bucket.ca_file.is_none());
    assert_eq!(bucket.root_directory, "");
    assert_eq!(bucket.layout, LayoutKind::Distribution);
    assert!(!bucket.path_style && !bucket.encrypt);
    assert!(bucket.kms_key_id.is_none() && bucket.storage_class.is_none() && bucket.acl.is_none());
    assert!(matches!(
        bucket.credentials,
        Credentials::Chain { profile: None }
    ));
    assert_eq!(bucket.connect_timeout, secs(5));
    assert_eq!(bucket.idle_timeout, secs(30));
    assert_eq!(bucket.call_timeout, secs(600));
    assert_eq!(bucket.max_attempts, 6);
    assert_eq!(bucket.retry_budget, secs(600));
    let upload = &config.upload;
    assert_eq!(upload.part_size, 16 << 20);
    assert_eq!(upload.part_concurrency, 4);
    assert_eq!(upload.max_part_concurrency, 16);
    assert_eq!(upload.max_blob_size, 1 << 40);
    assert_eq!(upload.max_streaming, 8);
    assert_eq!(upload.memory_budget, 512 << 20);
    assert_eq!(upload.admission_timeout, secs(60));
    assert_eq!(upload.idle_timeout, secs(60));
    assert_eq!((upload.min_rate, upload.min_rate_window), (4096, secs(60)));
    assert!(config.sweep.enabled && !config.sweep.dry_run);
    assert_eq!(config.sweep.interval, secs(3600));
    assert_eq!(config.sweep.older_than, secs(24 * 3600));
    assert_eq!(config.admin.address.unwrap().to_string(), "127.0.0.1:9090");
    assert_eq!(config.log.level, LevelFilter::Info);
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.admin.check_interval, Some(Duration::from_secs(15)));
    assert!((1..=512).contains(&config.threads));
    assert_eq!(config.grace_period, secs(300));
}

#[test]
fn placeholders_work_for_every_kind_of_value() {
    let config = valid(
        "upstream: {url: 'https://${HOST}:${PORT:-5001}'}\n\
         bucket: {name: '${HOST}', path_style: '${YES}', credentials: {access_key_id: AK$$IA, \
         secret_access_key: '${SECRET}', session_token: '${NOPE:-}'}}\n\
         upload: {part_size: '${PART}', part_concurrency: '${FOUR}'}\n\
         threads: '${FOUR}'\n",
    );
    assert_eq!(config.upstream.url.as_str(), "https://registry.test:5001/");
    assert_eq!(config.bucket.name, "registry.test");
    assert!(config.bucket.path_style);
    assert_eq!(config.upload.part_size, 32 << 20);
    assert_eq!((config.upload.part_concurrency, config.threads), (4, 4));
    let Credentials::Static {
        access_key_id,
        secret_access_key,
        session_token,
    } = config.bucket.credentials
    else {
        panic!("not static");
    };
    assert_eq!(access_key_id, "AK$IA");
    assert_eq!(secret_access_key.expose(), "wJalrXUtnFEMI/K7MDENG$");
    assert!(session_token.is_none());
}

#[test]
fn a_blank_value_is_the_default() {
    let config = valid(
        "upload: {part_size: , max_blob_size: '', min_rate: '${NOPE:-}'}\n\
         bucket: {name: registry, endpoint: , acl: '', credentials: }\n\
         sweep:\nlisten: {tls: {certificate: , key: ''}}\n",
    );
    assert_eq!(
        format!("{config:?}"),
        format!("{:?}", parse(MINIMAL).unwrap())
    );
}

#[test]
fn the_admin_listener_can_be_off() {
    for off in ["off", "'off'", "false", "~", "", "''"] {
        let config = valid(&format!("admin: {{address: {off}}}"));
        assert_eq!(config.admin.address, None, "of {off:?}");
    }
}

#[test]
fn path_style_follows_the_endpoint_unless_given() {
    let cases = [
        ("", false),
        (", path_style: true", true),
        (", endpoint: 'http://127.0.0.1:9000'", true),
        (", endpoint: 'http://store.test', path_style: true", true),
        (", endpoint: 'http://store.test', path_style: false", false),
    ];
    for (keys, expected) in cases {
        let config = valid(&format!("bucket: {{name: registry{keys}}}"));
        assert_eq!(config.bucket.path_style, expected, "of {keys:?}");
    }
}

#[test]
fn root_directories_lose_their_outer_slashes() {
    let cases = [
        ("", ""),
        ("/", ""),
        ("a", "a"),
        ("/a/", "a"),
        ("/a/b", "a/b"),
        ("a b.c/", "a b.c"),
    ];
    for (written, expected) in cases {
        let config = valid(&format!(
            "bucket: {{name: registry, root_directory: '{written}'}}"
        ));
        assert_eq!(config.bucket.root_directory, expected, "of {written:?}");
    }
}

#[test]
fn storage_classes_are_those_of_distribution() {
    let cases = [
        ("standard", Some("STANDARD")),
        ("INTELLIGENT_TIERING", Some("INTELLIGENT_TIERING")),
        ("NONE", None),
        ("", None),
    ];
    for (written, expected) in cases {
        let config = valid(&format!(
            "bucket: {{name: registry, storage_class: {written}}}"
        ));
        assert_eq!(
            config.bucket.storage_class.as_deref(),
            expected,
            "of {written:?}"
        );
    }
}

#[test]
fn what_is_unusual_but_right_is_taken() {
    let cases = [
        "listen: {address: '[::]:5000'}",
        "listen: {address: '127.0.0.1:0'}\nadmin: {address: '127.0.0.1:0'}",
        "listen: {address: '127.0.0.1:5000'}\nadmin: {address: '127.0.0.2:5000'}",
        "listen: {address: '0.0.0.0:5000'}\nupstream: {url: 'http://[::1]:5000'}",
        "listen: {address: '0.0.0.0:5000'}\nupstream: {url: 'http://10.0.0.7:5000'}",
        "upstream: {url: 'HTTP://Registry.Test/'}",
        "upstream: {url: 'https://[2001:db8::1]:443'}",
        "bucket: {name: my.bucket, endpoint: 'http://store.test', path_style: false}",
        "bucket: {name: my.bucket, path_style: true}",
        "bucket: {name: registry, region: auto, credentials: {profile: registry}}",
        "bucket: {name: registry, encrypt: true, kms_key_id: 'arn:aws:kms:eu-west-1:1:key/a'}",
        "upload: {max_blob_size: 5TiB, memory_budget: 525MiB}\nsweep: {older_than: 39h}",
        "upload: {part_size: 5MiB, memory_budget: 5MiB, max_blob_size: 48GiB}",
        "upload: {min_rate: 0}\nsweep: {enabled: false}",
        "upload: {max_blob_size: 10GiB}\nsweep: {older_than: 2h}",
        "upload: {part_size: 16777216, part_concurrency: '8'}",
        "grace_period: 1h 30m",
        "log: {level: INFO}",
    ];
    for text in cases {
        valid(text);
    }
}

#[test]
fn secrets_are_never_printed_and_the_rest_reads_back() {
    let texts = [
        "bucket: {name: registry, credentials: {access_key_id: AKIDENT, \
         secret_access_key: '${SECRET}', session_token: tok3n}}",
        "bucket: {name: registry, endpoint: 'http://store.test:9000', root_directory: 'a$$b \"c\"', \
         layout: flat, path_style: false, encrypt: true, kms_key_id: key, storage_class: \
         ONEZONE_IA, acl: private, credentials: {profile: p}, max_attempts: 3}\n\
         upload: {min_rate: 0, max_blob_size: 1000001}\nsweep: {enabled: false}\n\
         admin: {address: off, check_interval: off}\nlog: {level: trace, format: json}\nthreads: 3\ngrace_period: 1500ms",
        "",
    ];
    for text in texts {
        let config = valid(text);
        let (shown, debug) = (config.to_string(), format!("{config:?}"));
        for secret in ["wJalrXUtnFEMI", "AKIDENT", "tok3n"] {
            assert!(
                !shown.contains(secret) && !debug.contains(secret),
                "{shown}\n{debug}"
            );
        }
        let again = parse(&shown).unwrap_or_else(|errors| panic!("{shown}\n{errors}"));
        assert_eq!(format!("{again:?}"), debug);
        assert_eq!(again.to_string(), shown);
    }
}

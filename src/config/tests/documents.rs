//! `proxy.yaml` and `docs/CONFIGURATION.md` name the keys and defaults the loader knows: no fewer,
//! no more, no others.

use super::super::load;
use super::super::section::Key;
use super::{env, parse};
use serde_yaml::Value;
use std::collections::BTreeMap;

const PROXY_YAML: &str = include_str!("../../../proxy.yaml");
const MANUAL: &str = include_str!("../../../docs/CONFIGURATION.md");

/// Keys to which `proxy.yaml` gives a value for the local stack instead of the default.
const SET_FOR_LOCAL_STACK: [&str; 4] = [
    "upstream.url",
    "bucket.name",
    "bucket.endpoint",
    "bucket.path_style",
];

fn known() -> Vec<Key> {
    let root = serde_yaml::from_str(super::MINIMAL).unwrap();
    load::read(&root, &env).unwrap().1
}

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let Value::Mapping(entries) = value else {
        let text = serde_yaml::to_string(value).unwrap();
        into.insert(path.to_owned(), text.trim_end().to_owned());
        return;
    };
    for (key, value) in entries {
        let key = key.as_str().unwrap();
        let full = if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        };
        flatten(&full, value, into);
    }
}

/// `proxy.yaml` with `#key:` uncommented; prose comments have a space after the `#`.
fn proxy_yaml_in_full() -> BTreeMap<String, String> {
    let uncommented: String = PROXY_YAML
        .lines()
        .map(|line| match line.trim_start().strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => {
                format!("{}{rest}\n", &line[..line.len() - rest.len() - 1])
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let mut keys = BTreeMap::new();
    flatten("", &serde_yaml::from_str(&uncommented).unwrap(), &mut keys);
    keys
}

#[test]
fn proxy_yaml_has_every_key_and_no_other() {
    let mut shown = proxy_yaml_in_full();
    for key in known() {
        assert!(
            shown.remove(&key.path).is_some(),
            "{} is not in proxy.yaml",
            key.path
        );
    }
    assert!(shown.is_empty(), "no such keys: {shown:?}");
}

#[test]
fn proxy_yaml_shows_the_defaults() {
    let mut shipped = BTreeMap::new();
    flatten("", &serde_yaml::from_str(PROXY_YAML).unwrap(), &mut shipped);
    let known: BTreeMap<String, &str> = known()
        .into_iter()
        .map(|key| (key.path, key.default))
        .collect();
    for (key, value) in shipped {
        if !SET_FOR_LOCAL_STACK.contains(&key.as_str()) {
            assert_eq!(value, known[&key], "of {key}");
        }
    }
}

#[test]
fn proxy_yaml_works_as_shipped() {
    let config = parse(PROXY_YAML).unwrap();
    assert_eq!(config.upstream.url.as_str(), "http://127.0.0.1:5001/");
    assert_eq!(config.bucket.name, "registry");
    assert!(config.bucket.path_style);
}

/// Key and default of every row in the manual's tables of keys.
fn manual() -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut in_table_of_keys = false;
    for line in MANUAL.lines() {
        if line.starts_with("| Key | Type | Default |") {
            in_table_of_keys = true;
        } else if !line.starts_with('|') {
            in_table_of_keys = false;
        } else if in_table_of_keys && !line.starts_with("|---") {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            assert_eq!(cells.len(), 5, "{line}");
            assert!(cells.iter().all(|cell| !cell.is_empty()), "{line}");
            rows.push((cells[0].replace('`', ""), cells[2].replace('`', "")));
        }
    }
    rows
}

#[test]
fn the_manual_has_every_key_with_its_default_and_no_other() {
    let expected: Vec<(String, String)> = known()
        .into_iter()
        .map(|key| (key.path, key.default.to_owned()))
        .collect();
    for row in &expected {
        assert!(manual().contains(row), "the manual has no row for {row:?}");
    }
    assert_eq!(
        manual(),
        expected,
        "the manual has more, or in another order"
    );
}

//! distribution's configuration as it reads it: the file, then the environment.

use super::{ConfigErrors, Notes};
use serde_yaml::{Mapping, Value};

const PREFIX: &str = "REGISTRY_";

/// The parts of distribution's configuration that matter here. Others are not looked at, and what
/// an orchestrator sets for a service called `registry` (`REGISTRY_PORT`) is none of them.
const PARTS: [&str; 5] = ["storage", "http", "proxy", "middleware", "notifications"];

pub struct Tree {
    root: Value,
    /// Names of the variables that were taken, in their order.
    pub overrides: Vec<String>,
}

impl Tree {
    pub fn read(text: &str, environment: &[(String, String)]) -> Result<Self, ConfigErrors> {
        let unusable = |reason: String| {
            ConfigErrors::whole(reason, "name distribution's own configuration, a YAML file")
        };
        let mut root: Value = serde_yaml::from_str(text)
            // The parser's message tells a place, and could tell a value.
            .map_err(|error| match error.location() {
                Some(at) => unusable(format!(
                    "not usable YAML at line {}, column {}",
                    at.line(),
                    at.column()
                )),
                None => unusable("not usable YAML".to_owned()),
            })?;
        root.apply_merge()
            .map_err(|_| unusable("its YAML merge keys (`<<`) cannot be followed".to_owned()))?;
        if !root.is_mapping() || root.get("version").is_none() {
            return Err(unusable(
                "it has no `version`, as distribution's has".to_owned(),
            ));
        }
        let mut tree = Self {
            root,
            overrides: Vec::new(),
        };
        tree.override_from(environment);
        Ok(tree)
    }

    /// distribution applies them in the order of their names, so that a longer name comes after the
    /// shorter one that it begins with (`configuration/parser.go`).
    fn override_from(&mut self, environment: &[(String, String)]) {
        let mut variables: Vec<_> = environment
            .iter()
            .filter_map(|(name, value)| Some((name, name.strip_prefix(PREFIX)?, value)))
            .collect();
        variables.sort();
        for (name, path, value) in variables {
            let path: Vec<&str> = path.split('_').collect();
            if !PARTS.iter().any(|part| part.eq_ignore_ascii_case(path[0])) {
                continue;
            }
            // What is no YAML is a text.
            let value = serde_yaml::from_str(value).unwrap_or(Value::String(value.clone()));
            if set(&mut self.root, &path, value) {
                self.overrides.push(name.clone());
            }
        }
    }

    pub fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.root, |at, key| at.get(key))
    }

    /// A value as distribution would print it; `None` where it is absent or empty.
    pub fn text(&self, path: &str) -> Option<String> {
        let text = match self.get(path)? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => return None,
        };
        Some(text).filter(|text| !text.is_empty())
    }

    /// What distribution's YAML 1.1 and Go's `strconv.ParseBool` take for a boolean.
    pub fn flag(&self, path: &str, default: bool, notes: &mut Notes) -> bool {
        let Some(text) = self.text(path) else {
            return default;
        };
        match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "t" | "1" => true,
            "false" | "no" | "off" | "n" | "f" | "0" => false,
            _ => {
                notes.refuse(path, "not a boolean", "write true or false");
                default
            }
        }
    }

    pub fn has_entries(&self, path: &str) -> bool {
        match self.get(path) {
            Some(Value::Sequence(entries)) => !entries.is_empty(),
            Some(Value::Mapping(entries)) => !entries.is_empty(),
            _ => false,
        }
    }

    /// The keys of a section, those of `storage` also where it names a driver and nothing else.
    pub fn keys(&self, path: &str) -> Vec<String> {
        match self.get(path) {
            Some(Value::Mapping(entries)) => {
                let names = entries.keys().filter_map(Value::as_str);
                names.map(str::to_owned).collect()
            }
            Some(Value::String(only)) => vec![only.clone()],
            _ => Vec::new(),
        }
    }
}

/// Sets what `path` leads to, whatever the case; false where it leads into a list.
fn set(at: &mut Value, path: &[&str], value: Value) -> bool {
    let Some((first, rest)) = path.split_first() else {
        *at = value;
        return true;
    };
    match at {
        Value::Sequence(_) => return false,
        Value::Mapping(_) => {}
        // `storage: s3`, a driver by its name alone.
        Value::String(name) => {
            let driver = Value::String(std::mem::take(name));
            *at = Value::Mapping(Mapping::from_iter([(driver, Value::Null)]));
        }
        _ => *at = Value::Mapping(Mapping::new()),
    }
    let Value::Mapping(entries) = at else {
        return false;
    };
    let same = |key: &&Value| {
        key.as_str()
            .is_some_and(|key| key.eq_ignore_ascii_case(first))
    };
    let key = entries.keys().find(same).cloned();
    let key = key.unwrap_or_else(|| Value::String(first.to_ascii_lowercase()));
    set(entries.entry(key).or_insert(Value::Null), rest, value)
}

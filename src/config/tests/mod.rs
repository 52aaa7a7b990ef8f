mod cases;
mod documents;
mod faults;
mod values;

use super::{Config, ConfigErrors};

/// The least a configuration must have.
const MINIMAL: &str = "upstream: {url: http://127.0.0.1:5001}\nbucket: {name: registry}\n";

fn env(name: &str) -> Option<String> {
    let value = match name {
        "SECRET" => "wJalrXUtnFEMI/K7MDENG$",
        "PART" => "32MiB",
        "TINY" => "1MiB",
        "FOUR" => "4",
        "YES" => "true",
        "HOST" => "registry.test",
        "INJECTION" => "registry\n  encrypt: true",
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, env)
}

/// `MINIMAL` with the given YAML after it; where it holds `upstream:` or `bucket:`, without
/// MINIMAL's own.
fn with(text: &str) -> String {
    let own = MINIMAL.lines().filter(|line| {
        let section = line.split_once(':').map_or("", |(section, _)| section);
        !text
            .lines()
            .any(|line| line.starts_with(&format!("{section}:")))
    });
    own.chain(text.lines())
        .map(|line| format!("{line}\n"))
        .collect()
}

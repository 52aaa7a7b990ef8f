//! `${NAME}` and `${NAME:-default}` in a string of the configuration, `$$` for a dollar.
//!
//! This runs on each scalar after the YAML was parsed: a value from the environment can hold
//! anything and still never becomes YAML.

/// What is wrong with one placeholder. The text around it may be a secret and is never repeated.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadPlaceholder {
    pub problem: String,
    pub remedy: String,
}

/// The text with every placeholder replaced, or everything that is wrong with it.
pub(super) fn interpolate(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Vec<BadPlaceholder>> {
    let mut out = String::with_capacity(text.len());
    let mut bad = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some(end) = after.find('}') else {
                bad.push(syntax("`${` without a closing `}`"));
                break;
            };
            match placeholder(&after[..end], env) {
                Ok(value) => out.push_str(&value),
                Err(fault) => bad.push(fault),
            }
            rest = &after[end + 1..];
        } else {
            bad.push(syntax("a single `$`"));
        }
    }
    out.push_str(rest);
    if bad.is_empty() { Ok(out) } else { Err(bad) }
}

fn placeholder(
    inner: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, BadPlaceholder> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_variable_name(name) {
        return Err(syntax("`${…}` without a variable's name in it"));
    }
    if default.is_some_and(|default| default.contains('$')) {
        return Err(BadPlaceholder {
            problem: format!("the default of `${{{name}:-…}}` holds a `$`"),
            remedy: "a default is taken as it stands; placeholders do not nest".to_owned(),
        });
    }
    // A variable that is set but empty counts as missing, as in a shell's `:-`: an empty secret
    // or file name must not quietly mean "not configured".
    match (env(name).filter(|value| !value.is_empty()), default) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(BadPlaceholder {
            problem: format!("environment variable {name} is not set, or empty"),
            remedy: format!("set it, or write `${{{name}:-default}}`"),
        }),
    }
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn syntax(found: &str) -> BadPlaceholder {
    BadPlaceholder {
        problem: format!("found {found}"),
        remedy: "write `${NAME}` or `${NAME:-default}`, and `$$` for a dollar".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.test".to_owned()),
            "_P2" => Some("5000".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${HOST}: [a, $$b]\nkey: value".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn placeholders_take_values_and_defaults() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("${HOST}", "example.test"),
            ("http://${HOST}:${_P2}/", "http://example.test:5000/"),
            ("${HOST:-other}", "example.test"),
            ("${NOPE:-other}", "other"),
            ("${NOPE:-}", ""),
            ("${EMPTY:-other}", "other"),
            ("${NOPE:-a:-b}", "a:-b"),
            ("$$", "$"),
            ("$${HOST}", "${HOST}"),
            ("a$$b$$", "a$b$"),
            ("ä${HOST}ö", "äexample.testö"),
            // What the environment holds is not looked at again.
            ("${TRICKY}", "${HOST}: [a, $$b]\nkey: value"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                interpolate(text, &env).as_deref(),
                Ok(expected),
                "of {text:?}"
            );
        }
    }

    #[test]
    fn faults_name_the_variable_and_never_the_text() {
        let cases: [(&str, &[&str]); 12] = [
            ("${NOPE}", &["environment variable NOPE is not set"]),
            ("${EMPTY}", &["environment variable EMPTY is not set"]),
            ("${ONE}-${TWO}", &["variable ONE ", "variable TWO "]),
            ("secret${HOST", &["without a closing"]),
            ("secret$", &["a single `$`"]),
            ("secret$HOST", &["a single `$`"]),
            ("secret${}", &["without a variable's name"]),
            ("secret${9}", &["without a variable's name"]),
            ("secret${A B}", &["without a variable's name"]),
            ("secret${A-b}", &["without a variable's name"]),
            ("secret${:-b}", &["without a variable's name"]),
            ("secret${A:-${B}}", &["the default of `${A:-…}`"]),
        ];
        for (text, expected) in cases {
            let bad = interpolate(text, &env).unwrap_err();
            assert_eq!(bad.len(), expected.len(), "of {text:?}: {bad:?}");
            for (bad, expected) in bad.iter().zip(expected) {
                assert!(bad.problem.contains(expected), "of {text:?}: {bad:?}");
                assert!(!bad.problem.contains("secret"), "of {text:?}: {bad:?}");
                assert!(!bad.remedy.is_empty());
            }
        }
    }
}

use std::fmt;
use std::str::FromStr;

/// Longest repository name, in characters; distribution's `RepositoryNameTotalLengthMax`
/// (`reference/reference.go`).
pub const MAX_LENGTH: usize = 255;

/// A repository name by distribution's grammar: path components joined by `/`, each of lower-case
/// letters and digits, with single `.`, one or two `_`, or any number of `-` between them.
///
/// [OCI distribution specification, "Pulling
/// manifests"](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests)
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepositoryName(String);

/// Why a string is no repository name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("the repository name is empty")]
    Empty,
    #[error("the repository name has {0} characters, more than {MAX_LENGTH}")]
    TooLong(usize),
    #[error(
        "a repository name is made of components joined by '/', each of a-z and 0-9 with single \
         '.', one or two '_' or any number of '-' between them"
    )]
    Grammar,
}

impl RepositoryName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_LENGTH {
            return Err(NameError::TooLong(text.chars().count()));
        }
        if !text.split('/').all(is_component) {
            return Err(NameError::Grammar);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    // Between alphanumerics, each run of other characters must be one separator.
    alphanumeric(first)
        && alphanumeric(last)
        && bytes
            .split(|&b| alphanumeric(b))
            .all(|run| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|&b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_distribution_takes() {
        let longest = format!("a/{}", "b".repeat(253));
        for text in [
            "a",
            "0",
            "library/ubuntu",
            "a.b",
            "a_b",
            "a__b",
            "a-b",
            "a---b",
            "a/b/c/d",
            "blobs/uploads",
            "a1.b2_c3__d4-e5",
            &longest,
        ] {
            assert_eq!(text.parse::<RepositoryName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn refuses_what_distribution_refuses() {
        for text in [
            "A", "a..b", "a___b", "a._b", "-a", "a-", ".a", "a.", "_a", "a/", "/a", "a//b", "..",
            "a/../b", ".", "a%2Fb", "a b", "a\\b", "ä", "a:b", "a/-", "a\0b", "a_-b",
        ] {
            assert_eq!(
                text.parse::<RepositoryName>(),
                Err(NameError::Grammar),
                "{text}"
            );
        }
        assert_eq!("".parse::<RepositoryName>(), Err(NameError::Empty));
        assert_eq!(
            "a".repeat(256).parse::<RepositoryName>(),
            Err(NameError::TooLong(256))
        );
    }
}

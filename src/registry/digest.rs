use sha2::{Sha256, Sha512};
use std::fmt;
use std::str::FromStr;

/// The registered digest algorithms, [OCI image specification, descriptor, "Registered
/// Algorithms"](https://github.com/opencontainers/image-spec/blob/main/descriptor.md#registered-algorithms).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Number of hex digits in a digest of this algorithm.
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest, `<algorithm>:<hex>`, known to have the right length and only lower-case hex digits, so
/// that it may become part of an object key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// Why a string is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("a digest is written <algorithm>:<hex>, with one colon")]
    Form,
    #[error("the digest algorithm must be sha256 or sha512")]
    Algorithm,
    #[error("a {algorithm} digest has {expected} hex digits, this one has {found} characters")]
    Length {
        algorithm: &'static str,
        expected: usize,
        found: usize,
    },
    #[error("a digest's hex digits are 0-9 and a-f, in lower case")]
    Hex,
}

impl Digest {
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex digits, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (algorithm, hex) = text.split_once(':').ok_or(DigestError::Form)?;
        let algorithm = match algorithm {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::Algorithm),
        };
        if hex.len() != algorithm.hex_len() {
            return Err(DigestError::Length {
                algorithm: algorithm.as_str(),
                expected: algorithm.hex_len(),
                found: hex.chars().count(),
            });
        }
        if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestError::Hex);
        }
        Ok(Self {
            algorithm,
            hex: hex.to_owned(),
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

/// A running digest of either algorithm.
#[derive(Clone)]
pub enum DigestHasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl DigestHasher {
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Digest::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Digest::new()),
        }
    }

    pub fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(hasher) => sha2::Digest::update(hasher, data),
            Self::Sha512(hasher) => sha2::Digest::update(hasher, data),
        }
    }

    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest {
                algorithm: Algorithm::Sha256,
                hex: format!("{:x}", sha2::Digest::finalize(hasher)),
            },
            Self::Sha512(hasher) => Digest {
                algorithm: Algorithm::Sha512,
                hex: format!("{:x}", sha2::Digest::finalize(hasher)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_SHA256: &str =
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn parses_and_prints_both_algorithms() {
        let sha512 = format!("sha512:{}", "0a".repeat(64));
        for text in [EMPTY_SHA256, &sha512] {
            assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_everything_else() {
        let hex = "a".repeat(64);
        let cases = [
            ("".to_owned(), DigestError::Form),
            (hex.clone(), DigestError::Form),
            (format!("md5:{hex}"), DigestError::Algorithm),
            (format!("SHA256:{hex}"), DigestError::Algorithm),
            (format!(":{hex}"), DigestError::Algorithm),
            (format!("sha256:{}", "A".repeat(64)), DigestError::Hex),
            (format!("sha256:{}g", "a".repeat(63)), DigestError::Hex),
            (format!("sha256:{}/../..", "a".repeat(58)), DigestError::Hex),
            (
                format!("sha256:{hex}0"),
                DigestError::Length {
                    algorithm: "sha256",
                    expected: 64,
                    found: 65,
                },
            ),
            (
                format!("sha512:{hex}"),
                DigestError::Length {
                    algorithm: "sha512",
                    expected: 128,
                    found: 64,
                },
            ),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
    }

    #[test]
    fn hashes_like_the_standard_says() {
        // FIPS 180-4 example values for the message "abc" and the empty message.
        let mut sha512 = DigestHasher::new(Algorithm::Sha512);
        sha512.update(b"a");
        sha512.update(b"bc");
        assert_eq!(
            sha512.finish().to_string(),
            "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        );
        assert_eq!(
            DigestHasher::new(Algorithm::Sha256).finish().to_string(),
            EMPTY_SHA256
        );
    }
}

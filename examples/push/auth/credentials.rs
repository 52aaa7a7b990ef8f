//! Where the user's credentials come from.

use std::path::{Path, PathBuf};

/// No `Debug`: a secret must not get into a message by accident.
#[derive(Clone)]
pub enum Credentials {
    None,
    Basic { user: String, password: String },
    Token(Token),
}

#[derive(Clone)]
pub struct Token {
    pub value: String,
    /// Read again when the registry refuses the token: whoever wrote the file may have renewed it.
    pub file: Option<PathBuf>,
}

impl Token {
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the token file {}: {error}", path.display()))?;
        if text.trim().is_empty() {
            return Err(format!("the token file {} is empty", path.display()));
        }
        Ok(Self {
            value: text.trim().to_owned(),
            file: Some(path.to_owned()),
        })
    }
}

//! The credentials file, `~/.aws/credentials`. rusoto's reader cuts a session token off at its first
//! `=`, and base64 tends to end in some.

use configparser::ini::Ini;
use rusoto_credential::{AwsCredentials, CredentialsError, ProvideAwsCredentials};
use std::path::PathBuf;

/// One profile of the file, read anew at each lookup, so that rotated keys are found.
pub(super) struct ProfileFile {
    path: Option<PathBuf>,
    profile: String,
}

impl ProfileFile {
    /// Where AWS's own tools look.
    /// <https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html>
    pub fn new(profile: Option<&str>) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = variable("AWS_SHARED_CREDENTIALS_FILE")
            .map(PathBuf::from)
            .or_else(|| Some(std::env::home_dir()?.join(".aws").join("credentials")));
        let profile = profile
            .map(str::to_owned)
            .or_else(|| variable("AWS_PROFILE")?.into_string().ok());
        Self {
            path,
            profile: profile.unwrap_or_else(|| "default".to_owned()),
        }
    }

    #[cfg(test)]
    pub fn at(path: &std::path::Path, profile: &str) -> Self {
        Self {
            path: Some(path.to_owned()),
            profile: profile.to_owned(),
        }
    }

    /// The profile's name and where it is looked for.
    pub fn place(&self) -> String {
        match &self.path {
            Some(path) => format!("profile {} in {}", self.profile, path.display()),
            None => format!("profile {}, without a home to look in", self.profile),
        }
    }

    fn parse(&self, text: &str) -> Result<AwsCredentials, CredentialsError> {
        let mut format = Ini::new_cs().defaults();
        // Secrets may hold any of the characters that begin a comment or part a key elsewhere.
        format.delimiters = vec!['='];
        format.inline_comment_symbols = Some(Vec::new());
        let mut ini = Ini::new_from_defaults(format);
        ini.read(text.to_owned())
            .map_err(|_| CredentialsError::new("the file is no INI file"))?;
        let value = |key| {
            ini.get(&self.profile, key)
                .filter(|value| !value.is_empty())
        };
        let (Some(key), Some(secret)) =
            (value("aws_access_key_id"), value("aws_secret_access_key"))
        else {
            return Err(CredentialsError::new(
                "it has no such profile with aws_access_key_id and aws_secret_access_key",
            ));
        };
        let token = value("aws_session_token").or_else(|| value("aws_security_token"));
        Ok(AwsCredentials::new(key, secret, token, None))
    }
}

#[async_trait::async_trait]
impl ProvideAwsCredentials for ProfileFile {
    async fn credentials(&self) -> Result<AwsCredentials, CredentialsError> {
        let Some(path) = &self.path else {
            return Err(CredentialsError::new("there is no home directory"));
        };
        let text = tokio::fs::read_to_string(path)
            .await
            .map_err(|error| CredentialsError::new(error.to_string()))?;
        self.parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: &str) -> ProfileFile {
        ProfileFile::at("unread".as_ref(), name)
    }

    const FILE: &str = "# a comment\n\
        [default]\n\
        aws_access_key_id=AKID\n\
        aws_secret_access_key = a+b/c#d;e:f=\n\
        \n\
        [other]\n\
        aws_access_key_id = OTHER\n\
        aws_secret_access_key = secret\n\
        aws_session_token = FwoGZXIvYXdzE==\n\
        [empty]\n\
        region = eu-west-1\n";

    #[test]
    fn keys_come_whole() {
        let found = profile("default").parse(FILE).unwrap();
        assert_eq!(found.aws_access_key_id(), "AKID");
        assert_eq!(found.aws_secret_access_key(), "a+b/c#d;e:f=");
        assert_eq!(found.token(), &None);

        let found = profile("other").parse(FILE).unwrap();
        assert_eq!(found.aws_access_key_id(), "OTHER");
        assert_eq!(found.token().as_deref(), Some("FwoGZXIvYXdzE=="));
    }

    #[test]
    fn a_profile_without_keys_is_told() {
        for name in ["empty", "missing"] {
            let error = profile(name).parse(FILE).unwrap_err();
            assert!(error.message.contains("no such profile"), "{error}");
        }
    }
}

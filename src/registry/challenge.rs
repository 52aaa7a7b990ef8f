//! Reads `WWW-Authenticate`: [RFC 9110,
//! "WWW-Authenticate"](https://www.rfc-editor.org/rfc/rfc9110.html#name-www-authenticate).

use http::{HeaderMap, header};

/// How the registry wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    Basic,
    /// [Token authentication](https://distribution.github.io/distribution/spec/auth/token/).
    Bearer(Bearer),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    pub realm: String,
    pub service: Option<String>,
    pub scope: Option<String>,
    /// Why the last token was not enough.
    pub error: Option<String>,
}

/// The challenge to answer: a token service before the password itself.
pub fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let offers: Vec<Offer> = headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(offers)
        .collect();
    let bearer = offers.iter().find_map(|offer| {
        let realm = offer.scheme.eq_ignore_ascii_case("bearer");
        realm.then(|| offer.get("realm")).flatten().map(|realm| {
            Challenge::Bearer(Bearer {
                realm,
                service: offer.get("service"),
                scope: offer.get("scope"),
                error: offer.get("error"),
            })
        })
    });
    bearer.or_else(|| {
        let basic = |offer: &Offer| offer.scheme.eq_ignore_ascii_case("basic");
        offers.iter().any(basic).then_some(Challenge::Basic)
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Offer {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Offer {
    fn get(&self, name: &str) -> Option<String> {
        let named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        let (_, value) = self.parameters.iter().find(named)?;
        Some(value.clone())
    }
}

/// All challenges in one header. Commas separate both challenges and their parameters, so a word
/// begins a new challenge unless `=` follows it.
fn offers(header: &str) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
        let (word, after) = split_token(rest);
        if word.is_empty() {
            // Skip what has no business here, rather than loop on it.
            let mut chars = rest.chars();
            if chars.next().is_none() {
                return offers;
            }
            rest = chars.as_str();
            continue;
        }
        let after = after.trim_start();
        match (after.strip_prefix('='), offers.last_mut()) {
            (Some(value), Some(offer)) => {
                let (value, after) = split_value(value.trim_start());
                offer.parameters.push((word.to_owned(), value));
                rest = after;
            }
            _ => {
                offers.push(Offer {
                    scheme: word.to_owned(),
                    parameters: Vec::new(),
                });
                rest = after;
            }
        }
    }
}

fn split_token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        // Lenient: some servers leave a URL unquoted.
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => value.extend(chars.next()),
            c => value.push(c),
        }
    }
    (value, chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Option<Challenge> {
        challenge(&HeaderMap::from_iter(
            values
                .iter()
                .map(|value| (header::WWW_AUTHENTICATE, value.parse().unwrap())),
        ))
    }

    #[test]
    fn reads_a_token_challenge() {
        let expected = Bearer {
            realm: "https://auth.test/token".into(),
            service: Some("registry, \"inner\"".into()),
            scope: Some("repository:a/b:pull,push".into()),
            error: None,
        };
        for value in [
            r#"Bearer realm="https://auth.test/token",service="registry, \"inner\"",scope="repository:a/b:pull,push""#,
            r#"bearer  Realm = "https://auth.test/token" , SERVICE="registry, \"inner\"", scope="repository:a/b:pull,push""#,
            r#"Basic realm="r", Bearer realm=https://auth.test/token, service="registry, \"inner\"",scope="repository:a/b:pull,push""#,
        ] {
            assert_eq!(
                parse(&[value]),
                Some(Challenge::Bearer(expected.clone())),
                "{value}"
            );
        }
    }

    #[test]
    fn takes_a_token_before_a_password() {
        let bearer = parse(&[
            r#"Basic realm="a""#,
            r#"Bearer realm="https://a.test",error="invalid_token""#,
        ]);
        let Some(Challenge::Bearer(bearer)) = bearer else {
            panic!("{bearer:?}");
        };
        assert_eq!(bearer.error.as_deref(), Some("invalid_token"));
        assert_eq!(
            parse(&[r#"Basic realm="Registry Realm""#]),
            Some(Challenge::Basic)
        );
        assert_eq!(parse(&["Negotiate", "Basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn survives_nonsense() {
        for value in [
            "",
            ",,,",
            "=",
            "Bearer",
            "Bearer service=\"x\"",
            "Negotiate YWJj==",
            "\"",
            "realm=\"x",
            "{}@:/",
        ] {
            assert_eq!(parse(&[value]), None, "{value}");
        }
        assert_eq!(parse(&[]), None);
        // An unfinished string still names its realm.
        assert!(parse(&["Bearer realm=\"https://a.test"]).is_some());
    }
}

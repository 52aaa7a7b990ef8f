//! What the value of a key can be: how its text is read, and what is said when it cannot.

use super::units::{format_duration, format_size, parse_duration, parse_size};
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

/// Reads a value's text; the error is the remedy.
type Parse<T> = Box<dyn Fn(&str) -> Result<T, String>>;

pub(super) struct Kind<T> {
    /// Completes "expected …".
    pub expected: String,
    pub parse: Parse<T>,
    /// The value as an error message may show it; `None` where it may not.
    pub show: Option<fn(&str) -> String>,
    /// Free text, which YAML must not have taken for a number or boolean: the spelling is lost
    /// then (`007`, `1e3`).
    pub verbatim: bool,
}

impl<T> Kind<T> {
    fn new(
        expected: impl Into<String>,
        parse: impl Fn(&str) -> Result<T, String> + 'static,
    ) -> Self {
        Self {
            expected: expected.into(),
            parse: Box::new(parse),
            show: Some(show_plain),
            verbatim: false,
        }
    }

    /// The same value, never shown.
    pub fn hidden(self) -> Self {
        Self { show: None, ..self }
    }
}

fn show_plain(value: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = value.chars().take(LONGEST).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    format!("`{}`", shown.escape_debug())
}

/// Bytes. `why` says where the limits come from; may be empty.
pub(super) fn size(range: RangeInclusive<u64>, why: &'static str) -> Kind<u64> {
    let expected = format!(
        "a size from {} to {}",
        format_size(*range.start()),
        format_size(*range.end())
    );
    Kind::new(expected, move |text| {
        within(parse_size(text)?, &range, why, |bytes| format_size(*bytes))
    })
}

pub(super) fn duration(range: RangeInclusive<Duration>, why: &'static str) -> Kind<Duration> {
    let expected = format!(
        "a duration from {} to {}",
        format_duration(*range.start()),
        format_duration(*range.end())
    );
    Kind::new(expected, move |text| {
        within(parse_duration(text)?, &range, why, |duration| {
            format_duration(*duration)
        })
    })
}

/// `None` for `off`.
pub(super) fn duration_or_off(range: RangeInclusive<Duration>) -> Kind<Option<Duration>> {
    let duration = duration(range, "");
    let expected = format!("{}, or off", duration.expected);
    Kind::new(expected, move |text| match text.trim() {
        "off" | "false" => Ok(None),
        text => (duration.parse)(text).map(Some),
    })
}

/// A waiting time: no operation is done in less than a millisecond, nor worth a day's wait.
pub(super) fn timeout() -> Kind<Duration> {
    duration(Duration::from_millis(1)..=super::units::DAY, "")
}

pub(super) fn count(range: RangeInclusive<usize>) -> Kind<usize> {
    let expected = format!("a whole number from {} to {}", range.start(), range.end());
    Kind::new(expected, move |text| {
        let text = text.trim();
        let remedy = || "write digits only".to_owned();
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(remedy());
        }
        // All digits and yet no number: too long, or empty.
        let number = text.parse::<usize>().map_err(|_| remedy())?;
        within(number, &range, "", usize::to_string)
    })
}

fn within<T: PartialOrd>(
    value: T,
    range: &RangeInclusive<T>,
    why: &str,
    format: impl Fn(&T) -> String,
) -> Result<T, String> {
    let remedy = if value < *range.start() {
        format!("write {} or more", format(range.start()))
    } else if value > *range.end() {
        format!("write {} or less", format(range.end()))
    } else {
        return Ok(value);
    };
    Err(match why {
        "" => remedy,
        why => format!("{why}; {remedy}"),
    })
}

pub(super) fn flag() -> Kind<bool> {
    Kind::new("true or false", |text| match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("write true or false".to_owned()),
    })
}

pub(super) fn address() -> Kind<SocketAddr> {
    Kind::new("an IP address and a port", |text| {
        text.trim().parse().map_err(|_| {
            "write for example 0.0.0.0:5000, 127.0.0.1:5000 or [::]:5000; host names are not taken"
                .to_owned()
        })
    })
}

/// `None` for `off`.
pub(super) fn address_or_off() -> Kind<Option<SocketAddr>> {
    let address = address();
    Kind::new("an IP address and a port, or off", move |text| {
        match text.trim() {
            "off" | "false" => Ok(None),
            text => (address.parse)(text).map(Some),
        }
    })
}

/// One of the words, with what each stands for.
pub(super) fn one_of<T: Clone + 'static>(words: &'static [(&'static str, T)]) -> Kind<T> {
    let list = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
    let list = list.join(", ");
    Kind::new(format!("one of {list}"), move |text| {
        let text = text.trim();
        let same = |(word, _): &&(&str, T)| word.eq_ignore_ascii_case(text);
        let found = words.iter().find(same).map(|(_, value)| value.clone());
        found.ok_or_else(
            || match nearest(text, words.iter().map(|(word, _)| *word)) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("write one of {list}"),
            },
        )
    })
}

/// The candidate that `text` is most likely a slip of.
pub(super) fn nearest<'a>(
    text: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let text = text.to_lowercase();
    candidates
        .map(|candidate| {
            let likeness = strsim::jaro_winkler(&text, &candidate.to_lowercase());
            (likeness, candidate)
        })
        .filter(|(likeness, _)| *likeness >= 0.84)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Free text that `check` passes, or turns into what is meant; its error is the remedy.
pub(super) fn text<T>(
    expected: &'static str,
    check: impl Fn(&str) -> Result<T, String> + 'static,
) -> Kind<T> {
    Kind {
        verbatim: true,
        ..Kind::new(expected, check)
    }
}

/// Text that goes into a request header or signature as it stands.
pub(super) fn token(expected: &'static str) -> Kind<String> {
    text(expected, |text| {
        // An invisible newline at the end of a secret is a long search.
        if text.chars().all(|c| c.is_ascii_graphic()) {
            Ok(text.to_owned())
        } else {
            Err("write it without spaces, line breaks and characters outside ASCII".to_owned())
        }
    })
}

/// A file that `check` passes; its error says what is wrong with it.
pub(super) fn file(
    expected: &'static str,
    check: impl Fn(&Path) -> Result<(), String> + 'static,
) -> Kind<PathBuf> {
    text(expected, move |text| {
        let path = PathBuf::from(text);
        check(&path)?;
        Ok(path)
    })
}

/// For [`file`]: the file need not be there yet, but its folder must.
pub(super) fn in_a_folder(path: &Path) -> Result<(), String> {
    match path.parent() {
        Some(folder) if folder.is_dir() => Ok(()),
        _ => Err(format!("{} lies in no folder", path.display())),
    }
}

/// `http` or `https`, a host, perhaps a port, and nothing else.
pub(super) fn base_url() -> Kind<Url> {
    let expected = "a URL of http or https, a host and perhaps a port";
    Kind {
        show: Some(|value| show_plain(&without_user(value))),
        ..text(expected, parse_base_url)
    }
}

fn parse_base_url(text: &str) -> Result<Url, String> {
    let scheme_given = ["http://", "https://"].iter().any(|scheme| {
        text.get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    });
    if !scheme_given {
        return Err(match text.contains("://") {
            true => "only http and https are spoken".to_owned(),
            false => "begin it with http:// or https://".to_owned(),
        });
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("write it without spaces, line breaks and backslashes".to_owned());
    }
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let extra = if !url.username().is_empty() || url.password().is_some() {
        "user and password"
    } else if url.path() != "/" {
        "path"
    } else if url.query().is_some() {
        "query"
    } else if url.fragment().is_some() {
        "fragment"
    } else if url.port() == Some(0) {
        return Err("port 0 cannot be connected to".to_owned());
    } else {
        return Ok(url);
    };
    let port = url.port().map(|port| format!(":{port}"));
    Err(format!(
        "leave out the {extra}: {}://{}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        port.unwrap_or_default()
    ))
}

fn without_user(url: &str) -> String {
    let start = url.find("//").map_or(0, |slashes| slashes + 2);
    match url.rfind('@') {
        Some(at) if at >= start => format!("{}***{}", &url[..start], &url[at..]),
        _ => url.to_owned(),
    }
}

/// A list as a message shows it.
pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(", ")
}

//! The reader: walks the YAML, notes every key it is asked for, and gathers every fault it meets.

use super::fault::Fault;
use super::interpolate::interpolate;
use super::kind::{Kind, list, nearest};
use serde_yaml::{Mapping, Value};
use std::cell::RefCell;

/// One key the loader knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// `upload.part_size`
    pub path: String,
    /// The default as a person would write it, or in words where it depends.
    pub default: &'static str,
}

/// The default of a key that has none and need not be set.
const NONE: &str = "none";
/// The default of a key that must be set.
const REQUIRED: &str = "required";

/// Every accessor below gives `None` exactly where it has noted a fault, so that a caller can read
/// all keys, check what it got, and only then give up.
pub(super) struct Reader<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    faults: RefCell<Vec<Fault>>,
    keys: RefCell<Vec<Key>>,
    sections: RefCell<Vec<String>>,
}

pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    /// Empty for the root.
    path: String,
    entries: Entries<'a>,
}

enum Entries<'a> {
    Given(&'a Mapping),
    Absent,
    /// Not a mapping; the fault is noted, and what is missing in it is no further one.
    Faulty,
}

enum Found {
    Absent,
    /// Null or an empty text.
    Blank,
    Value(Scalar),
    Faulty,
}

struct Scalar {
    value: String,
    /// As the file has it, where that is not the value.
    written: Option<String>,
    /// YAML took it for a number or boolean.
    literal: bool,
}

impl<'a> Reader<'a> {
    pub fn new(env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            env,
            faults: RefCell::default(),
            keys: RefCell::default(),
            sections: RefCell::default(),
        }
    }

    pub fn root(&'a self, entries: &'a Mapping) -> Section<'a> {
        Section {
            reader: self,
            path: String::new(),
            entries: Entries::Given(entries),
        }
    }

    pub fn fault(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.faults.borrow_mut().push(Fault {
            key: key.to_owned(),
            problem: problem.into(),
            remedy: remedy.into(),
        });
    }

    /// Notes every key of the file that nobody asked for. To be called when all reading is done.
    pub fn refuse_unknown(&self, root: &Mapping) {
        self.refuse_unknown_in("", root);
    }

    fn refuse_unknown_in(&self, path: &str, entries: &Mapping) {
        for (key, value) in entries {
            let name = match key {
                Value::String(name) => name.clone(),
                other => serde_yaml::to_string(other)
                    .map(|text| text.trim_end().to_owned())
                    .unwrap_or_default(),
            };
            let full = join(path, &name);
            if self.sections.borrow().contains(&full) {
                if let Value::Mapping(entries) = value {
                    self.refuse_unknown_in(&full, entries);
                }
            } else if !self.keys.borrow().iter().any(|key| key.path == full) {
                self.fault(&full, "there is no such key", self.suggest(path, &name));
            }
        }
    }

    /// What the unknown key `name` in section `path` was likely meant to be.
    fn suggest(&self, path: &str, name: &str) -> String {
        let keys = self.keys.borrow();
        let sections = self.sections.borrow();
        let all = || {
            let keys = keys.iter().map(|key| key.path.as_str());
            keys.chain(sections.iter().map(String::as_str))
        };
        let here: Vec<&str> = all().filter_map(|full| child_of(path, full)).collect();
        if let Some(near) = nearest(name, here.iter().copied()) {
            return format!("did you mean `{near}`?");
        }
        let elsewhere = all().find(|full| full.rsplit('.').next() == Some(name));
        match elsewhere {
            Some(full) => format!("did you mean `{full}`?"),
            None => format!("known here: {}", list(here)),
        }
    }

    pub fn finish(self) -> (Vec<Fault>, Vec<Key>) {
        (self.faults.into_inner(), self.keys.into_inner())
    }
}

impl<'a> Section<'a> {
    pub fn section(&self, key: &'static str) -> Section<'a> {
        let path = self.full(key);
        self.reader.sections.borrow_mut().push(path.clone());
        let entries = match self.entry(key) {
            _ if matches!(self.entries, Entries::Faulty) => Entries::Faulty,
            None | Some(Value::Null) => Entries::Absent,
            Some(Value::Mapping(entries)) => Entries::Given(entries),
            Some(other) => {
                let problem = format!("found {}, expected a section with keys", kind_of(other));
                let remedy = "write its keys below it, each indented by two spaces";
                self.reader.fault(&path, problem, remedy);
                Entries::Faulty
            }
        };
        Section {
            reader: self.reader,
            path,
            entries,
        }
    }

    /// A key that must be set.
    pub fn required<T>(
        &self,
        key: &'static str,
        kind: &Kind<T>,
        remedy: &'static str,
    ) -> Option<T> {
        self.note(key, REQUIRED);
        match self.find(key, &kind.expected) {
            Found::Value(scalar) => self.parse(key, kind, &scalar),
            Found::Faulty => None,
            Found::Absent | Found::Blank => {
                if !matches!(self.entries, Entries::Faulty) {
                    let problem = format!("missing, expected {}", kind.expected);
                    self.reader.fault(&self.full(key), problem, remedy);
                }
                None
            }
        }
    }

    /// A key with a default.
    pub fn or<T>(&self, key: &'static str, default: &'static str, kind: &Kind<T>) -> Option<T> {
        self.note(key, default);
        match self.find(key, &kind.expected) {
            Found::Value(scalar) => self.parse(key, kind, &scalar),
            Found::Faulty => None,
            Found::Absent | Found::Blank => self.parse(key, kind, &Scalar::of(default)),
        }
    }

    /// A key with a default, for which blank means something else.
    pub fn or_blank<T>(
        &self,
        key: &'static str,
        default: &'static str,
        blank: T,
        kind: &Kind<T>,
    ) -> Option<T> {
        match self.find(key, &kind.expected) {
            Found::Blank => {
                self.note(key, default);
                Some(blank)
            }
            _ => self.or(key, default, kind),
        }
    }

    /// A key that need not be set; the inner `None` where it is not.
    pub fn optional<T>(&self, key: &'static str, kind: &Kind<T>) -> Option<Option<T>> {
        self.optional_with(key, NONE, kind)
    }

    /// The same, where being absent has a meaning: `default`, in words.
    pub fn optional_with<T>(
        &self,
        key: &'static str,
        default: &'static str,
        kind: &Kind<T>,
    ) -> Option<Option<T>> {
        self.note(key, default);
        match self.find(key, &kind.expected) {
            Found::Value(scalar) => self.parse(key, kind, &scalar).map(Some),
            Found::Faulty => None,
            Found::Absent | Found::Blank => Some(None),
        }
    }

    fn parse<T>(&self, key: &str, kind: &Kind<T>, scalar: &Scalar) -> Option<T> {
        let result = match scalar.literal && kind.verbatim {
            true => Err("write it in quotes".to_owned()),
            false => (kind.parse)(&scalar.value),
        };
        result
            .map_err(|remedy| {
                let found = match (kind.show, &scalar.written) {
                    (Some(show), Some(written)) => {
                        format!("{} from {}", show(&scalar.value), show(written))
                    }
                    (Some(show), None) => show(&scalar.value),
                    (None, _) => "a value (not shown)".to_owned(),
                };
                let problem = format!("found {found}, expected {}", kind.expected);
                self.reader.fault(&self.full(key), problem, remedy);
            })
            .ok()
    }

    fn find(&self, key: &'static str, expected: &str) -> Found {
        let scalar = match self.entry(key) {
            None => return Found::Absent,
            Some(Value::Null) => return Found::Blank,
            Some(Value::Bool(value)) => Scalar::literal(value.to_string()),
            Some(Value::Number(value)) => Scalar::literal(value.to_string()),
            Some(Value::String(text)) => match interpolate(text, self.reader.env) {
                Ok(value) if value.is_empty() => return Found::Blank,
                Ok(value) => Scalar {
                    written: (value != *text).then(|| text.clone()),
                    value,
                    literal: false,
                },
                Err(bad) => {
                    for bad in bad {
                        self.reader.fault(&self.full(key), bad.problem, bad.remedy);
                    }
                    return Found::Faulty;
                }
            },
            Some(other) => {
                let problem = format!("found {}, expected {expected}", kind_of(other));
                self.reader
                    .fault(&self.full(key), problem, "write a single value");
                return Found::Faulty;
            }
        };
        Found::Value(scalar)
    }

    fn entry(&self, key: &str) -> Option<&'a Value> {
        match self.entries {
            Entries::Given(entries) => entries.get(key),
            Entries::Absent | Entries::Faulty => None,
        }
    }

    fn note(&self, key: &str, default: &'static str) {
        self.reader.keys.borrow_mut().push(Key {
            path: self.full(key),
            default,
        });
    }

    fn full(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

impl Scalar {
    fn of(value: &str) -> Self {
        Self {
            value: value.to_owned(),
            written: None,
            literal: false,
        }
    }

    fn literal(value: String) -> Self {
        Self {
            value,
            written: None,
            literal: true,
        }
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// The last name of `full` where it lies directly in section `path`.
fn child_of<'f>(path: &str, full: &'f str) -> Option<&'f str> {
    let name = match path {
        "" => full,
        path => full.strip_prefix(path)?.strip_prefix('.')?,
    };
    (!name.contains('.')).then_some(name)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a section with keys",
        Value::Tagged(_) => "a tagged value",
    }
}

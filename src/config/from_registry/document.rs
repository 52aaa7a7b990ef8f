//! Commented YAML, as a person would write it.

use crate::config::display::Quoted;
use std::fmt::{Display, Write};

/// Comments are broken before this column.
const WIDTH: usize = 98;

#[derive(Default)]
pub struct Document(String);

impl Document {
    pub fn section(&mut self, name: &str, about: &str) {
        self.0.push('\n');
        self.0.push_str(&comment("", &[about.to_owned()]));
        self.line(0, name, "");
    }

    /// A section within one.
    pub fn subsection(&mut self, name: &str, about: &str) {
        self.0.push_str(&comment("  ", &[about.to_owned()]));
        self.line(1, name, "");
    }

    /// A text, which may hold anything.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// A key whose value is a text of the registry's.
    pub fn quoted(&mut self, depth: usize, key: &str, value: impl Display) {
        self.line(depth, key, &Quoted(value).to_string());
    }

    /// A key whose value is written as it is.
    pub fn plain(&mut self, depth: usize, key: &str, value: impl Display) {
        self.line(depth, key, &value.to_string());
    }

    /// A key that is commented out.
    pub fn example(&mut self, depth: usize, key: &str, value: &str) {
        self.line(depth, &format!("#{key}"), value);
    }

    pub fn remark(&mut self, depth: usize, remark: &str) {
        let indent = "  ".repeat(depth);
        self.0.push_str(&comment(&indent, &[remark.to_owned()]));
    }

    fn line(&mut self, depth: usize, key: &str, value: &str) {
        let indent = "  ".repeat(depth);
        let space = if value.is_empty() { "" } else { " " };
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{indent}{key}:{space}{value}");
    }
}

/// Lines as comments; a text of someone else's cannot end one.
pub fn comment(indent: &str, lines: &[String]) -> String {
    let mut out = String::new();
    for line in lines {
        let safe: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let hang = if safe.starts_with("- ") { "  " } else { "" };
        let mut current = String::new();
        for word in safe.split(' ') {
            if !current.is_empty() && indent.len() + current.len() + word.len() + 3 > WIDTH {
                let _ = writeln!(out, "{indent}# {current}");
                current = hang.to_owned();
            } else if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        }
        let _ = writeln!(out, "{}", format!("{indent}# {current}").trim_end());
    }
    out
}

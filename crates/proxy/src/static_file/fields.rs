//! Reading typed fields from a tree; what is wrong names its line and its field.

use std::fmt::Display;
use std::str::FromStr;

use super::yaml::{Node, Value};

/// What is wrong with a file, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The line, from 1.
    pub line: usize,
    /// The field, as in `destinations[0]/ports[1]/tls/mode`; empty for the file as a whole.
    pub field: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Wrong {
    /// Something that concerns no field.
    pub fn at(line: usize, message: impl Into<String>) -> Self {
        Self { line, field: String::new(), message: message.into() }
    }
}

/// A value with the way to it.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    node: &'a Node,
    line: usize,
    path: String,
}

impl<'a> Field<'a> {
    /// The whole document.
    pub fn root(node: &'a Node) -> Self {
        Self { node, line: node.line, path: String::new() }
    }

    /// An error about this field.
    pub fn wrong(&self, message: impl Into<String>) -> Wrong {
        Wrong { line: self.line, field: self.path.clone(), message: message.into() }
    }

    /// This field as a mapping that has no other keys than `allowed`.
    pub fn map(&self, allowed: &[&str]) -> Result<Map<'a>, Wrong> {
        let Value::Map(entries) = &self.node.value else {
            return Err(self.wrong(format!("must be a mapping with the fields {}", allowed.join(", "))));
        };
        for (key, line, _) in entries {
            if !allowed.contains(&key.as_str()) {
                let message = format!("no such field; allowed here: {}", allowed.join(", "));
                return Err(Wrong { line: *line, field: self.below(key), message });
            }
        }
        Ok(Map { entries, of: self.clone() })
    }

    /// The items of a list.
    pub fn list(&self) -> Result<Vec<Field<'a>>, Wrong> {
        let Value::List(items) = &self.node.value else { return Err(self.wrong("must be a list")) };
        let item = |(at, node): (usize, &'a Node)| Field { node, line: node.line, path: format!("{}[{at}]", self.path) };
        Ok(items.iter().enumerate().map(item).collect())
    }

    /// A text that is not empty.
    pub fn text(&self) -> Result<&'a str, Wrong> {
        match &self.node.value {
            Value::Scalar { text, plain } if !(text.is_empty() || *plain && matches!(text.as_str(), "~" | "null")) => Ok(text),
            Value::Scalar { .. } => Err(self.wrong("is empty; leave the field out instead")),
            Value::List(_) | Value::Map(_) => Err(self.wrong("must be a text")),
        }
    }

    /// A list of texts.
    pub fn texts(&self) -> Result<Vec<String>, Wrong> {
        self.list()?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// A text that `read` takes, with its own words when it does not.
    pub fn read<T, E: Display>(&self, read: impl FnOnce(&str) -> Result<T, E>) -> Result<T, Wrong> {
        read(self.text()?).map_err(|error| self.wrong(error.to_string()))
    }

    /// A port.
    pub fn port(&self) -> Result<u32, Wrong> {
        self.read(|text| match u16::from_str(text) {
            Ok(0) | Err(_) => Err(format!("{text:?} is no port; 1 to 65535 is allowed")),
            Ok(port) => Ok(u32::from(port)),
        })
    }

    /// A truth value.
    pub fn flag(&self) -> Result<bool, Wrong> {
        self.choice(&[("true", true), ("false", false)])
    }

    /// One of several words.
    pub fn choice<T: Copy>(&self, allowed: &[(&str, T)]) -> Result<T, Wrong> {
        let text = self.text()?;
        let found = allowed.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        let words: Vec<&str> = allowed.iter().map(|(word, _)| *word).collect();
        found.ok_or_else(|| self.wrong(format!("{text:?} is not allowed; one of {}", words.join(", "))))
    }

    fn below(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}/{key}", self.path) }
    }
}

/// The fields of a mapping.
pub(super) struct Map<'a> {
    entries: &'a [(String, usize, Node)],
    of: Field<'a>,
}

impl<'a> Map<'a> {
    /// A field that may be left out.
    pub fn get(&self, key: &str) -> Option<Field<'a>> {
        let found = self.entries.iter().find(|(name, ..)| name == key);
        found.map(|(_, line, node)| Field { node, line: *line, path: self.of.below(key) })
    }

    /// A field that must be there.
    pub fn required(&self, key: &str) -> Result<Field<'a>, Wrong> {
        let missing = || Wrong { line: self.of.line, field: self.of.below(key), message: "is missing".to_owned() };
        self.get(key).ok_or_else(missing)
    }

    /// The value of a field, or the default of its type.
    pub fn or_default<T: Default>(&self, key: &str, read: impl FnOnce(&Field<'a>) -> Result<T, Wrong>) -> Result<T, Wrong> {
        self.get(key).map_or_else(|| Ok(T::default()), |field| read(&field))
    }

    /// The text of a field, empty when it is left out.
    pub fn text(&self, key: &str) -> Result<String, Wrong> {
        self.or_default(key, |field| field.text().map(str::to_owned))
    }
}

//! A node together with its path, for rules that report what they find.

use crate::read::object::field_at;
use crate::read::report::Report;
use crate::read::tree::{At, Node};

/// A field, given or not.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    node: &'a Node,
    at: At,
    path: String,
}

impl<'a> Field<'a> {
    /// The whole object.
    pub fn root(node: &'a Node) -> Self {
        Self::at(node, "")
    }

    /// A structure that stands at a path.
    pub fn at(node: &'a Node, path: &str) -> Self {
        Self { node, at: node.at, path: path.to_owned() }
    }

    /// A field of this structure; when it is absent, its place is that of the structure.
    pub fn get(&self, name: &str) -> Self {
        let at = self.node.entry(name).map_or(self.at, |entry| field_at(entry.at, &entry.node));
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        Self { node: self.node.get(name), at, path }
    }

    /// The items of this list.
    pub fn items(&self) -> impl Iterator<Item = Self> + use<'a> {
        let path = self.path.clone();
        let items = self.node.items().iter().enumerate();
        items.map(move |(index, node)| Self { node, at: node.at, path: format!("{path}[{index}]") })
    }

    /// The keys and fields of this mapping.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, Self)> + use<'a> {
        let path = self.path.clone();
        self.node.entries().iter().map(move |entry| {
            let path = format!("{path}/{}", entry.key);
            (&*entry.key, Self { node: &entry.node, at: field_at(entry.at, &entry.node), path })
        })
    }

    /// Whether it has a value.
    pub fn is_given(&self) -> bool {
        self.node.is_given()
    }

    /// Whether it is a null: a list may hold one by mistake.
    pub fn is_null(&self) -> bool {
        self.node.is_null()
    }

    /// The text, empty when there is none.
    pub fn text(&self) -> &'a str {
        self.node.text().unwrap_or_default()
    }

    /// Whether there is a text that is not empty.
    pub fn has_text(&self) -> bool {
        !self.text().is_empty()
    }

    /// The boolean, false when there is none.
    pub fn is_true(&self) -> bool {
        self.node.boolean().unwrap_or(false)
    }

    /// The integer, when there is one.
    pub fn integer(&self) -> Option<i64> {
        self.node.integer()
    }

    /// The number, when there is one.
    pub fn number(&self) -> Option<f64> {
        self.node.number()
    }

    /// How many entries the list or mapping has.
    pub fn len(&self) -> usize {
        self.node.items().len() + self.node.entries().len()
    }

    /// Whether the list or mapping has no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it is, for messages.
    pub fn describe(&self) -> String {
        self.node.describe()
    }

    /// Reports an error here.
    pub fn error(&self, report: &mut Report, message: impl Into<String>) {
        report.error(&self.path, self.at, message);
    }

    /// Reports an error here unless the schema found one already.
    pub fn error_once(&self, report: &mut Report, message: impl Into<String>) {
        if !report.has_error_at(&self.path) {
            self.error(report, message);
        }
    }

    /// Reports a warning here.
    pub fn warning(&self, report: &mut Report, message: impl Into<String>) {
        report.warning(&self.path, self.at, message);
    }

    /// Reports what a check of the text says.
    pub fn expect(&self, report: &mut Report, check: impl FnOnce(&str) -> Result<(), String>) {
        if let Err(message) = check(self.text()) {
            self.error_once(report, message);
        }
    }
}

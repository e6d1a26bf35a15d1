//! Policy tests: a YAML file with what is expected of connections (`expectations: [{from, to, expect}]`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::tree::Node;
use super::{InputError, Inputs, documents};
use crate::{Place, TlsVersion};

/// A file of expectations.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    /// `files`: manifests the expectations are held against, relative to the file.
    pub files: Vec<PathBuf>,
    /// `expectations`.
    pub expectations: Vec<Expectation>,
}

/// What is expected of one connection.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Where it stands.
    pub place: Place,
    /// `name`, empty without one.
    pub name: String,
    /// `from`: the client.
    pub from: String,
    /// `to`: host and port.
    pub to: String,
    /// `subset`.
    pub subset: Option<String>,
    /// `expect`: the outcome, as `mutua explain` names it.
    pub outcome: String,
    /// `minimumVersion`: the least version that both ends may agree on.
    pub minimum_version: Option<TlsVersion>,
}

const OUTCOMES: [&str; 5] = ["mtls", "tls", "plaintext", "refused", "mixed"];
const FIELDS: [&str; 6] = ["name", "from", "to", "subset", "expect", "minimumVersion"];

impl PolicyTest {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is no YAML, or is no list of expectations; the message names line and field.
    pub fn read(path: &Path) -> Result<Self, InputError> {
        Self::of(path, &Inputs::from_paths(&[path])?)
    }

    /// Reads the texts of the file `path`.
    ///
    /// # Errors
    /// As [`PolicyTest::read`].
    pub fn of(path: &Path, inputs: &Inputs) -> Result<Self, InputError> {
        let mut test = Self { files: Vec::new(), expectations: Vec::new() };
        for text in &inputs.texts {
            for document in documents(&text.name, &text.bytes)? {
                test.add(path, &text.name, &document)?;
            }
        }
        Ok(test)
    }

    fn add(&mut self, path: &Path, file: &Arc<str>, node: &Node) -> Result<(), InputError> {
        known(file, node, &["files", "expectations"])?;
        let folder = path.parent().unwrap_or(Path::new("."));
        self.files.extend(node.get("files").strings().iter().map(|one| folder.join(one)));
        let list = node.get("expectations").items();
        if list.is_empty() {
            return Err(wrong(file, node, "a policy test holds a list `expectations` of from, to and expect"));
        }
        for one in list {
            self.expectations.push(expectation(file, one)?);
        }
        Ok(())
    }
}

/// Whether a document is a policy test, which may stand beside the manifests that it is about.
pub(super) fn is_policy_test(node: &Node) -> bool {
    !node.get("expectations").items().is_empty() && known_fields(node, &["files", "expectations"])
}

fn known_fields(node: &Node, fields: &[&str]) -> bool {
    node.entries().iter().all(|entry| fields.contains(&&*entry.key))
}

fn expectation(file: &Arc<str>, node: &Node) -> Result<Expectation, InputError> {
    known(file, node, &FIELDS)?;
    for field in ["from", "to", "expect"] {
        if node.get(field).text().is_none_or(str::is_empty) {
            return Err(wrong(file, node, &format!("`{field}` is missing: an expectation has from, to and expect")));
        }
    }
    let outcome = node.get("expect").string();
    if !OUTCOMES.contains(&outcome.as_str()) {
        return Err(wrong(file, node.get("expect"), &format!("expect: {outcome:?} is none of {}", OUTCOMES.join(", "))));
    }
    let minimum_version = match node.get("minimumVersion").text() {
        None => None,
        Some("TLSV1_2" | "1.2") => Some(TlsVersion::V1_2),
        Some("TLSV1_3" | "1.3") => Some(TlsVersion::V1_3),
        Some(other) => {
            return Err(wrong(
                file,
                node.get("minimumVersion"),
                &format!("minimumVersion: {other:?} is neither TLSV1_2 nor TLSV1_3"),
            ));
        }
    };
    Ok(Expectation {
        place: place(file, node),
        name: node.get("name").string(),
        from: node.get("from").string(),
        to: node.get("to").string(),
        subset: node.get("subset").text().map(str::to_owned),
        outcome,
        minimum_version,
    })
}

fn known(file: &Arc<str>, node: &Node, fields: &[&str]) -> Result<(), InputError> {
    let Some(entry) = node.entries().iter().find(|entry| !fields.contains(&&*entry.key)) else { return Ok(()) };
    let message = format!("unknown field {:?}; known are {}", entry.key, fields.join(", "));
    Err(InputError::Syntax { place: Place { file: Arc::clone(file), line: entry.at.0, column: entry.at.1 }, message })
}

fn wrong(file: &Arc<str>, node: &Node, message: &str) -> InputError {
    InputError::Syntax { place: place(file, node), message: message.to_owned() }
}

fn place(file: &Arc<str>, node: &Node) -> Place {
    Place { file: Arc::clone(file), line: node.at.0, column: node.at.1 }
}

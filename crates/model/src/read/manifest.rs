//! Manifests as they stand, for programs that change some documents of a file and leave the others alone.

use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Number, Value as Json};

use super::tree::{Node, Style, Value};
use super::{InputError, documents};
use crate::Place;

/// One document of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its bytes in the text, with the marker `---` that begins it; the ranges of all documents are the whole text.
    pub bytes: Range<usize>,
    /// The line of the text that it begins in, from 1.
    pub line: u32,
    /// What Kubernetes reads in it; `None` when there are only comments.
    pub value: Option<Json>,
}

/// The documents of a text, divided where Kubernetes' tools divide it: at lines that begin with `---`.
///
/// # Errors
/// A document that is no YAML or JSON.
pub fn manifests(name: &str, text: &str) -> Result<Vec<Document>, InputError> {
    let mut starts: Vec<(usize, u32)> = vec![(0, 1)];
    let (mut at, mut line) = (0, 1);
    for one in text.split_inclusive('\n') {
        if at > 0 && is_marker(one) {
            starts.push((at, line));
        }
        at += one.len();
        line += 1;
    }
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([text.len()]);
    starts.iter().zip(ends).map(|((start, line), end)| document(name, text, *start..end, *line)).collect()
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn document(name: &str, text: &str, bytes: Range<usize>, line: u32) -> Result<Document, InputError> {
    let nodes = documents(&name.into(), text[bytes.clone()].as_bytes()).map_err(|error| match error {
        InputError::Syntax { place, message } => {
            InputError::Syntax { place: Place { line: place.line.saturating_add(line - 1), ..place }, message }
        }
        other => other,
    })?;
    let Some(node) = nodes.first() else { return Ok(Document { bytes, line, value: None }) };
    if nodes.len() > 1 {
        let message = "a document ends here with `...` and another follows without `---`".to_owned();
        let (at, column) = nodes[1].at;
        return Err(InputError::Syntax {
            place: Place { file: name.into(), line: at.saturating_add(line - 1), column },
            message,
        });
    }
    Ok(Document { value: Some(json(node)), bytes, line })
}

/// Reads one document of a file.
///
/// # Errors
/// The file cannot be read, is no YAML, or holds none or several documents.
pub fn manifest_file(path: &Path) -> Result<Json, InputError> {
    let unreadable = |error| InputError::Unreadable { path: path.to_owned(), error };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let mut values = manifests(&path.display().to_string(), &text)?.into_iter().filter_map(|one| one.value);
    match (values.next(), values.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(unreadable(std::io::Error::other("exactly one document is expected"))),
    }
}

/// The value of a tree as the Kubernetes API reads it: plain scalars by the rules of YAML 1.1 (`sigs.k8s.io/yaml`).
fn json(node: &Node) -> Json {
    match &node.value {
        Value::List(items) => Json::Array(items.iter().map(json).collect()),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|entry| (entry.key.to_string(), json(&entry.node))).collect::<Map<_, _>>())
        }
        Value::Scalar { text, style: Style::Plain } if !node.is_null() => {
            node.boolean().map(Json::Bool).or_else(|| number(text)).unwrap_or_else(|| Json::String(text.to_string()))
        }
        Value::Scalar { .. } if node.is_null() => Json::Null,
        Value::Scalar { text, .. } => Json::String(text.to_string()),
    }
}

/// A number of YAML 1.1: decimal, `0x`, `0o`, `0b`, and octal with a leading 0 as in file modes.
fn number(text: &str) -> Option<Json> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let digits = digits.replace('_', "");
    let radix = |prefix: &str, radix| digits.strip_prefix(prefix).and_then(|rest| u64::from_str_radix(rest, radix).ok());
    let octal = || digits.strip_prefix('0').filter(|rest| !rest.is_empty()).and_then(|rest| u64::from_str_radix(rest, 8).ok());
    let prefixed = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)).or_else(octal);
    let whole = prefixed.or_else(|| digits.bytes().all(|one| one.is_ascii_digit()).then(|| digits.parse().ok())?);
    if let Some(whole) = whole {
        return match (negative, i64::try_from(whole)) {
            (true, Ok(whole)) => Some(Json::Number((-whole).into())),
            (true, Err(_)) => None,
            (false, _) => Some(Json::Number(whole.into())),
        };
    }
    let decimal = digits.bytes().all(|one| matches!(one, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
    let value: f64 = digits.parse().ok().filter(|_| decimal)?;
    Number::from_f64(if negative { -value } else { value }).map(Json::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(text: &str) -> Vec<Option<Json>> {
        manifests("t", text).expect("YAML").into_iter().map(|one| one.value).collect()
    }

    #[test]
    fn documents_are_the_whole_text() {
        for text in ["", "# only\n", "a: 1", "---\na: 1\n---\n# nothing\n---\nb: |\n  ---\n--- # c\n- 1\r\n", "---\n---\na: 1\n"]
        {
            let found = manifests("t", text).expect("YAML");
            let joined: String = found.iter().map(|one| &text[one.bytes.clone()]).collect();
            assert_eq!(joined, text);
        }
        let text = "# head\n---\na: 1\n---\n# nothing\n---\nb: |\n  ---\n--- # c\n- 1\n";
        let found = manifests("t", text).expect("YAML");
        assert_eq!(found.iter().map(|one| one.line).collect::<Vec<_>>(), [1, 2, 4, 6, 9]);
        assert_eq!(values(text), [None, Some(json!({"a": 1})), None, Some(json!({"b": "---\n"})), Some(json!([1]))]);
    }

    #[test]
    fn scalars_are_what_kubernetes_reads() {
        let text = "[yes, 'yes', off, 0644, 0o17, 0x1f, 1_000, -7, 1.5, 1e3, .5, 08, 1.2.3, 100m, 2026-01-01, ~, '~', .inf, '', 18446744073709551615]";
        let expected = json!([
            true,
            "yes",
            false,
            420,
            15,
            31,
            1000,
            -7,
            1.5,
            1000.0,
            0.5,
            8,
            "1.2.3",
            "100m",
            "2026-01-01",
            null,
            "~",
            ".inf",
            "",
            18_446_744_073_709_551_615_u64
        ]);
        assert_eq!(values(text), [Some(expected)]);
        assert_eq!(values("a: &x {b: 1}\nc: *x\n"), [Some(json!({"a": {"b": 1}, "c": {"b": 1}}))]);
    }

    #[test]
    fn a_mistake_is_told_by_its_line_in_the_file() {
        let error = manifests("f.yaml", "a: 1\n---\nb: 1\nb: 2\n").expect_err("a key twice").to_string();
        assert!(error.starts_with("f.yaml:4:1"), "{error}");
        let error = manifests("f.yaml", "a: 1\n...\nb: 1\n").expect_err("two").to_string();
        assert!(error.starts_with("f.yaml:3:1"), "{error}");
    }
}

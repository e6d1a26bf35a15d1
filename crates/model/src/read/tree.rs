//! A YAML document as a tree whose every node knows where it was written. Scalars keep their text: whether `on` is a
//! string or a boolean is decided by the field that holds it.

use std::hash::{DefaultHasher, Hash, Hasher};

/// A position: line and column in characters, both from 1.
pub type At = (u32, u32);

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it starts.
    pub at: At,
    /// What it is.
    pub value: Value,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A scalar.
    Scalar {
        /// Its text, after quotes and escapes.
        text: Box<str>,
        /// How it was written.
        style: Style,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order written; keys are unique.
    Map(Vec<Entry>),
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// Without quotes: only then it can be a number, a boolean or null.
    Plain,
    /// In quotes, folded, or tagged as a string.
    Quoted,
    /// As a block (`|`), whose lines and columns are those of the text, from where it starts.
    Block,
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub key: Box<str>,
    /// Where the key stands.
    pub at: At,
    /// Its value.
    pub node: Node,
}

/// What an absent field is.
static ABSENT: Node = Node { at: (0, 0), value: Value::List(Vec::new()) };

impl Node {
    /// A JSON value, which no text holds: every place is line 0.
    #[must_use]
    pub fn of_json(value: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let scalar = |text: String, style| Value::Scalar { text: text.into_boxed_str(), style };
        let value = match value {
            Json::Null => scalar("null".to_owned(), Style::Plain),
            Json::Bool(value) => scalar(value.to_string(), Style::Plain),
            Json::Number(value) => scalar(value.to_string(), Style::Plain),
            Json::String(text) => scalar(text.clone(), Style::Quoted),
            Json::Array(items) => Value::List(items.iter().map(Self::of_json).collect()),
            Json::Object(map) => {
                let entry =
                    |(key, value): (&String, &Json)| Entry { key: key.as_str().into(), at: (0, 0), node: Self::of_json(value) };
                Value::Map(map.iter().map(entry).collect())
            }
        };
        Self { at: (0, 0), value }
    }

    /// Whether this stands for a field that is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        std::ptr::eq(self, &raw const ABSENT)
    }

    /// Whether there is a value: neither absent nor null, which Kubernetes treats alike.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.is_absent() && !self.is_null()
    }

    /// Whether this is a null written plain.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, style: Style::Plain } if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of a key; an absent node when this is no mapping or has no such key.
    #[must_use]
    pub fn get(&self, key: &str) -> &Node {
        self.entry(key).map_or(&ABSENT, |entry| &entry.node)
    }

    /// The entry of a key.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| &*entry.key == key)
    }

    /// The value below several keys.
    #[must_use]
    pub fn at_path(&self, keys: &[&str]) -> &Node {
        keys.iter().fold(self, |node, key| node.get(key))
    }

    /// The entries of a mapping; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Scalar { .. } | Value::List(_) => &[],
        }
    }

    /// The entries of a list; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar { .. } | Value::Map(_) => &[],
        }
    }

    /// The text of a scalar that is not null.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// The text of a scalar, empty when there is none.
    #[must_use]
    pub fn string(&self) -> String {
        self.text().unwrap_or_default().to_owned()
    }

    /// The texts of a list of scalars.
    #[must_use]
    pub fn strings(&self) -> Vec<String> {
        self.items().iter().filter_map(|item| item.text().map(str::to_owned)).collect()
    }

    /// The boolean that Kubernetes reads here: a plain scalar, in YAML 1.1's spellings.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        let Value::Scalar { text, style: Style::Plain } = &self.value else { return None };
        match &**text {
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Some(false),
            _ => None,
        }
    }

    /// The integer written plain here: decimal, hexadecimal (`0x`) or octal (`0o`).
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        let Value::Scalar { text, style: Style::Plain } = &self.value else { return None };
        parse_integer(text)
    }

    /// The number written plain here.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        let Value::Scalar { text, style: Style::Plain } = &self.value else { return None };
        let decimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E'));
        if decimal { text.parse().ok() } else { parse_integer(text).and_then(|number| i32::try_from(number).ok()).map(f64::from) }
    }

    /// A port: a number from 1 to 65535, however it is written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.text().and_then(|text| text.parse().ok()).filter(|port| *port != 0)
    }

    /// Whether this scalar was written without quotes in a form that YAML 1.2 reads as a boolean or a number, so that
    /// Kubernetes does not take it for a string.
    #[must_use]
    pub fn is_bare_boolean_or_number(&self) -> bool {
        let Value::Scalar { text, style: Style::Plain } = &self.value else { return false };
        matches!(&**text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE") || self.number().is_some()
    }

    /// Moves the tree down and to the right: it was read from a text that stands inside another, at `origin`.
    pub fn shift(&mut self, origin: At) {
        self.at = shifted(self.at, origin);
        match &mut self.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| item.shift(origin)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.at = shifted(entry.at, origin);
                    entry.node.shift(origin);
                }
            }
        }
    }

    /// A hash of what the tree says, wherever it was written.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_into(&mut hasher);
        hasher.finish()
    }

    fn hash_into(&self, hasher: &mut DefaultHasher) {
        match &self.value {
            Value::Scalar { text, style } => (0_u8, text, *style == Style::Plain).hash(hasher),
            Value::List(items) => {
                (1_u8, items.len()).hash(hasher);
                items.iter().for_each(|item| item.hash_into(hasher));
            }
            Value::Map(entries) => {
                (2_u8, entries.len()).hash(hasher);
                for entry in entries {
                    entry.key.hash(hasher);
                    entry.node.hash_into(hasher);
                }
            }
        }
    }

    /// What this is, for messages: `string "x"`, `number 5`, `a list`.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
            Value::Scalar { .. } if self.is_null() => "null".to_owned(),
            Value::Scalar { text, .. } if self.is_bare_boolean_or_number() && self.number().is_none() => {
                format!("boolean {text}")
            }
            Value::Scalar { text, .. } if self.number().is_some() => format!("number {}", shortened(text)),
            Value::Scalar { text, .. } => format!("string {:?}", shortened(text)),
        }
    }
}

/// At most 80 characters of a text that a message quotes.
#[must_use]
pub fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// Where a place of a text within a text is in the outer one.
#[must_use]
pub fn shifted((line, column): At, origin: At) -> At {
    if origin.0 == 0 {
        // The outer text has no lines.
        return (0, 0);
    }
    (line.saturating_add(origin.0).saturating_sub(1), column.saturating_add(origin.1).saturating_sub(1))
}

fn parse_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = if let Some(hexadecimal) = digits.strip_prefix("0x") {
        i64::from_str_radix(hexadecimal, 16).ok()?
    } else if let Some(octal) = digits.strip_prefix("0o") {
        i64::from_str_radix(octal, 8).ok()?
    } else if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        digits.parse().ok()?
    } else {
        return None;
    };
    (magnitude >= 0).then_some(if negative { -magnitude } else { magnitude })
}

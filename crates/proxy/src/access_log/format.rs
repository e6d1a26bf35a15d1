//! What a line of the access log looks like: every field as JSON, or what the user chose.

use serde_json::{Map, Value};

/// The form of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A JSON object with every field.
    #[default]
    Whole,
    /// A JSON object of the user's.
    Json(Vec<(String, Template)>),
    /// A line of the user's.
    Text(Template),
}

/// Text with fields in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(&'static str),
}

impl Format {
    /// Reads a format: a JSON object with texts as its values, else a line. In both `%NAME%` is a field and `%%` a percent
    /// sign.
    ///
    /// # Errors
    /// A field that no line has, a `%` without its other one, or an object with something else than texts.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.trim_start().starts_with('{') {
            return Ok(Self::Text(Template::parse(text)?));
        }
        let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| format!("no JSON object: {error}"))?;
        let entry = |(name, value): (String, Value)| match value {
            Value::String(text) => Ok((name, Template::parse(&text)?)),
            other => Err(format!("{name}: {other} is no text")),
        };
        Ok(Self::Json(object.into_iter().map(entry).collect::<Result<_, String>>()?))
    }

    /// The line for what is known, with its end.
    ///
    /// # Errors
    /// The record cannot be written as JSON.
    pub fn line(&self, record: &impl serde::Serialize) -> serde_json::Result<Vec<u8>> {
        let mut line = match self {
            Self::Whole => serde_json::to_vec(record)?,
            Self::Json(entries) => {
                let fields = flat(record)?;
                let object: Map<String, Value> =
                    entries.iter().map(|(name, template)| (name.clone(), template.value(&fields))).collect();
                serde_json::to_vec(&object)?
            }
            Self::Text(template) => template.text(&flat(record)?).into_bytes(),
        };
        line.push(b'\n');
        Ok(line)
    }
}

impl Template {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for (at, piece) in text.split('%').enumerate() {
            match (at % 2, piece) {
                (0, "") => {}
                (0, piece) => parts.push(Part::Text(piece.to_owned())),
                (_, "") => parts.push(Part::Text("%".to_owned())),
                (_, name) => {
                    let known = FIELDS.iter().find(|field| **field == name.to_ascii_lowercase());
                    let unknown = || format!("%{name}% is no field; there are: {}", FIELDS.join(", "));
                    parts.push(Part::Field(known.ok_or_else(unknown)?));
                }
            }
        }
        if text.split('%').count().is_multiple_of(2) {
            return Err(format!("{text:?}: a % without its other one; write %% for a percent sign"));
        }
        Ok(Self(parts))
    }

    /// A field alone keeps its type.
    fn value(&self, fields: &Map<String, Value>) -> Value {
        match self.0.as_slice() {
            [Part::Field(name)] => fields.get(*name).cloned().unwrap_or_default(),
            _ => Value::String(self.text(fields)),
        }
    }

    fn text(&self, fields: &Map<String, Value>) -> String {
        let shown = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(name) => match fields.get(*name) {
                None | Some(Value::Null) => "-".to_owned(),
                // What peers and callers say must not begin a line of its own.
                Some(Value::String(text)) => text.chars().flat_map(escaped).collect(),
                Some(other) => other.to_string(),
            },
        };
        self.0.iter().map(shown).collect()
    }
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let (plain, escape) = if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
    plain.into_iter().chain(escape.into_iter().flatten())
}

/// The fields of a record, those of nested objects beside the others.
pub(super) fn flat(record: &impl serde::Serialize) -> serde_json::Result<Map<String, Value>> {
    let mut flat = Map::new();
    if let Value::Object(fields) = serde_json::to_value(record)? {
        for (name, value) in fields {
            match value {
                Value::Object(inner) => flat.extend(inner),
                other => drop(flat.insert(name, other)),
            }
        }
    }
    let time = |name: &str| flat.get(name).and_then(Value::as_u64);
    if let (Some(start), Some(end)) = (time("start"), time("end")) {
        flat.insert("duration_ms".to_owned(), end.saturating_sub(start).into());
    }
    Ok(flat)
}

/// Every field, of connections and of requests.
pub const FIELDS: &[&str] = &[
    "id",
    "direction",
    "state",
    "peer_address",
    "original_destination",
    "service",
    "endpoint",
    "outcome",
    "reason",
    "message",
    "tls_version",
    "cipher",
    "group",
    "alpn",
    "local_id",
    "peer_id",
    "peer_serial",
    "received_bytes",
    "sent_bytes",
    "start",
    "end",
    "duration_ms",
    "connection",
    "protocol",
    "method",
    "path",
    "authority",
    "response_code",
    "grpc_status",
    "response_flags",
    "request_bytes",
    "response_bytes",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(format: &str, record: &Value) -> String {
        String::from_utf8(Format::parse(format).unwrap().line(record).unwrap()).unwrap()
    }

    #[test]
    fn a_field_alone_keeps_its_type_and_nothing_begins_a_line() {
        let record = json!({
            "peer_address": "10.0.0.1:5", "peer_id": null, "sent_bytes": 7, "start": 1000, "end": 3500,
            "message": "a\nb\u{1b}[31m\"c", "request": {"method": "GET", "path": "/\r\n"}
        });
        let json = r#"{"to":"%sent_bytes%","who":"%PEER_ID%","text":"%method% %path% 100%%","took":"%duration_ms%"}"#;
        assert_eq!(line(json, &record), "{\"text\":\"GET /\\\\r\\\\n 100%\",\"to\":7,\"took\":2500,\"who\":null}\n");
        assert_eq!(line("%peer_address% %peer_id% %sent_bytes%B %message%", &record), "10.0.0.1:5 - 7B a\\nb\\u{1b}[31m\"c\n");
        assert_eq!(line("{}", &record), "{}\n");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (format, told) in [
            ("%nobody%", "%nobody% is no field; there are: id, direction,"),
            ("100% %id%", "% % is no field"),
            ("50%", "a % without its other one"),
            ("{\"a\":1}", "a: 1 is no text"),
            ("{\"a\":\"%x%\"}", "%x% is no field"),
            ("{", "no JSON object: "),
        ] {
            let error = Format::parse(format).unwrap_err();
            assert!(error.contains(told), "{format}: {error}");
        }
    }
}

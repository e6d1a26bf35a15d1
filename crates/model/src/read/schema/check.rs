//! Holds a tree against a schema: unknown fields, wrong types, wrong values, missing fields.

use super::duration::milliseconds;
use super::suggest::nearest;
use super::tables;
use super::types::{Object, Type};
use crate::read::object::field_at;
use crate::read::report::Report;
use crate::read::tree::{At, Node, Value, shortened};
use crate::{Kind, Severity};

/// Checks an object's `spec`; for kinds without a schema nothing is checked.
pub fn check_object(kind: Kind, node: &Node, report: &mut Report) {
    let Some(schema) = tables::spec(kind) else { return };
    for entry in node.entries() {
        if !TOP_LEVEL.contains(&&*entry.key) {
            report.warning(&entry.key, entry.at, unknown_field(&entry.key, TOP_LEVEL.iter().copied()));
        }
    }
    let Some(spec) = node.entry("spec").filter(|spec| spec.node.is_given()) else {
        if matches!(kind, Kind::ServiceEntry | Kind::WorkloadEntry | Kind::WorkloadGroup | Kind::DestinationRule) {
            report.error("spec", node.at, "Required value: `spec` must be given");
        }
        return;
    };
    let mut path = "spec".to_owned();
    Checker { report, path: &mut path, unknown: Severity::Error }.object(schema, &spec.node, spec.at);
}

/// Checks a `MeshConfig` that stands at `path` of a ConfigMap. Unknown fields are warnings there: istiod passes over
/// them, so that its configuration outlives a change of version.
pub fn check_mesh_config(node: &Node, path: &str, report: &mut Report) {
    let mut path = path.to_owned();
    Checker { report, path: &mut path, unknown: Severity::Warning }.object(&tables::MESH_CONFIG, node, node.at);
}

const TOP_LEVEL: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];

struct Checker<'a> {
    report: &'a mut Report,
    path: &'a mut String,
    /// How bad an unknown field is.
    unknown: Severity,
}

impl Checker<'_> {
    /// Runs a check one step further down the path.
    fn below(&mut self, step: &str, check: impl FnOnce(&mut Self)) {
        if self.report.is_full() {
            return;
        }
        let length = self.path.len();
        self.path.push_str(step);
        check(self);
        self.path.truncate(length);
    }

    fn error(&mut self, at: At, message: impl Into<String>) {
        self.report.error(self.path, at, message);
    }

    /// `key` is where the field's key stands, to which structures are pinned.
    fn value(&mut self, holds: &'static Type, node: &Node, key: At) {
        let at = field_at(key, node);
        match holds {
            Type::Object(schema) => self.object(schema, node, key),
            Type::List(of, most) => self.list(of, *most, node, at),
            Type::Map(of, most) => self.map((of, *most), node, at),
            scalar => {
                if let Some(message) = problem(scalar, node) {
                    self.error(at, message);
                }
            }
        }
    }

    fn object(&mut self, schema: &'static Object, node: &Node, key: At) {
        if !matches!(node.value, Value::Map(_)) {
            let names: Vec<_> = schema.fields.iter().map(|field| field.name).collect();
            let allowed = if schema.open { "a mapping".to_owned() } else { format!("a mapping with {}", names.join(", ")) };
            return self.error(field_at(key, node), format!("found {}; allowed: {allowed}", node.describe()));
        }
        for entry in node.entries() {
            self.below(&format!("/{}", entry.key), |checker| match schema.field(&entry.key) {
                Some(field) if entry.node.is_given() => checker.value(&field.holds, &entry.node, entry.at),
                Some(_) => {}
                None if schema.open => {}
                None => {
                    let message = unknown_field(&entry.key, schema.fields.iter().map(|field| field.name));
                    checker.report.add(checker.unknown, checker.path, entry.at, &message);
                }
            });
        }
        for field in schema.fields.iter().filter(|field| field.required && !node.get(field.name).is_given()) {
            self.below(&format!("/{}", field.name), |checker| {
                let says = if field.missing.is_empty() { String::new() } else { format!(" ({})", field.missing) };
                checker.error(key, format!("Required value: `{}` must be given{says}", field.name));
            });
        }
        for group in schema.one_of {
            let given: Vec<_> = group.iter().filter_map(|name| node.entry(name)).filter(|entry| entry.node.is_given()).collect();
            if let [_, second, ..] = given[..] {
                let names: Vec<_> = group.iter().map(|name| format!("`{name}`")).collect();
                self.error(second.at, format!("only one of {} can be set", names.join(", ")));
            }
        }
    }

    fn list(&mut self, of: &'static Type, most: usize, node: &Node, at: At) {
        let Value::List(items) = &node.value else {
            return self.error(at, format!("found {}; allowed: a list", node.describe()));
        };
        if items.len() > most {
            self.error(at, format!("Too many: {}: must have at most {most} items", items.len()));
        }
        for (index, item) in items.iter().enumerate() {
            self.below(&format!("[{index}]"), |checker| checker.value(of, item, item.at));
        }
    }

    fn map(&mut self, (of, most): (&'static Type, usize), node: &Node, at: At) {
        let Value::Map(entries) = &node.value else {
            return self.error(at, format!("found {}; allowed: a mapping", node.describe()));
        };
        if entries.len() > most {
            self.error(at, format!("Too many: {}: must have at most {most} items", entries.len()));
        }
        for entry in entries {
            // Kubernetes drops a null where a structure could stand.
            if entry.node.is_null() && matches!(of, Type::Object(_)) {
                continue;
            }
            self.below(&format!("/{}", entry.key), |checker| checker.value(of, &entry.node, entry.at));
        }
    }
}

fn unknown_field<'a>(written: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let hint = nearest(written, known.clone()).map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
    let known: Vec<_> = known.collect();
    let allowed = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!("unknown field `{}`; allowed: {allowed}{hint}", shortened(written))
}

/// What is wrong with a scalar.
fn problem(holds: &Type, node: &Node) -> Option<String> {
    let found = |allowed: &str| Some(format!("found {}; allowed: {allowed}", node.describe()));
    match holds {
        Type::Text(most) => text_problem(*most, node),
        Type::Filled(_) if node.text() == Some("") => Some("must not be empty (should be at least 1 chars long)".to_owned()),
        Type::Filled(most) => text_problem(*most, node),
        Type::Words(words) => words_problem(words, node),
        Type::Boolean if node.boolean().is_none() => found("true, false"),
        Type::Integer(least, most) if !node.integer().is_some_and(|number| (*least..=*most).contains(&number)) => {
            found(&range("an integer", *least as f64, *most as f64))
        }
        Type::Port => match node.integer() {
            Some(1..=65535) => None,
            Some(number) => Some(format!("port must be between 1-65535; found {number}")),
            None => found("a port, 1 to 65535"),
        },
        Type::NumberOrName if node.text().is_none() || node.is_bare_boolean_or_number() && node.integer().is_none() => {
            found("an integer or a string")
        }
        Type::Number(least, most) if !node.number().is_some_and(|number| (*least..=*most).contains(&number)) => {
            found(&range("a number", *least, *most))
        }
        Type::Duration(least) => {
            let length = node.text().filter(|_| !node.is_bare_boolean_or_number()).and_then(milliseconds);
            let fine = length.is_some_and(|length| length >= *least as f64);
            let allowed = if *least > 0 { "a duration greater than 1ms, like 10s" } else { "a duration, like 10s" };
            (!fine).then(|| format!("must be a valid duration; found {}; allowed: {allowed}", node.describe()))
        }
        _ => None,
    }
}

fn text_problem(most: usize, node: &Node) -> Option<String> {
    match node.text() {
        None => Some(format!("found {}; allowed: a string", node.describe())),
        Some(_) if node.is_bare_boolean_or_number() => {
            Some(format!("found {}; allowed: a string (put it in quotes)", node.describe()))
        }
        Some(text) if text.chars().count() > most => {
            Some(format!("Too long: may not be more than {most} characters; it has {}", text.chars().count()))
        }
        Some(_) => None,
    }
}

fn words_problem(words: &'static [&'static str], node: &Node) -> Option<String> {
    let allowed = words.join(", ");
    match node.text().filter(|_| !node.is_bare_boolean_or_number()) {
        None => Some(format!("found {}; allowed: {allowed}", node.describe())),
        Some(text) if words.contains(&text) => None,
        Some(text) => {
            let hint = nearest(text, words.iter().copied()).map(|word| format!("; did you mean `{word}`?")).unwrap_or_default();
            Some(format!("Unsupported value: {:?}; allowed: {allowed}{hint}", shortened(text)))
        }
    }
}

fn range(what: &str, least: f64, most: f64) -> String {
    match (least > i64::MIN as f64, most < i64::MAX as f64) {
        (true, true) => format!("{what} from {least} to {most}"),
        (true, false) => format!("{what} of at least {least}"),
        (false, true) => format!("{what} of at most {most}"),
        (false, false) => what.to_owned(),
    }
}

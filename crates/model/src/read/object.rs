//! What every object has: kind, API version and metadata.

use std::sync::Arc;

use super::report::Report;
use super::tree::{At, Node, Value};
use crate::meta::Owner;
use crate::{Kind, Labels, Meta, ObjectRef, Places};

/// Whether a document has neither `apiVersion` nor `kind`: most likely it is not meant for Kubernetes.
#[must_use]
pub fn is_foreign(node: &Node) -> bool {
    matches!(node.value, Value::Map(_)) && !node.get("kind").is_given() && !node.get("apiVersion").is_given()
}

/// The versions of a kind's API that exist; empty when any version is accepted.
fn versions(kind: Kind) -> &'static [&'static str] {
    match kind.group() {
        "security.istio.io" => &["v1", "v1beta1"],
        "networking.istio.io" => &["v1", "v1beta1", "v1alpha3"],
        "sailoperator.io" => &["v1", "v1alpha1"],
        _ => &[],
    }
}

/// Reads name and namespace.
#[must_use]
pub fn object_ref(kind: Kind, node: &Node) -> ObjectRef {
    let metadata = node.get("metadata");
    let name = metadata.get("name").text().or_else(|| metadata.get("generateName").text());
    let namespace = match metadata.get("namespace").text() {
        _ if !kind.namespaced() => "",
        Some(namespace) if !namespace.is_empty() => namespace,
        _ => "default",
    };
    ObjectRef { kind, namespace: namespace.to_owned(), name: name.unwrap_or_default().to_owned() }
}

/// Reads the metadata, with the places of the object's fields.
#[must_use]
pub fn meta(object: ObjectRef, node: &Node, file: &Arc<str>) -> Meta {
    let metadata = node.get("metadata");
    let owners = metadata.get("ownerReferences").items().iter();
    Meta {
        labels: labels(metadata.get("labels")),
        annotations: labels(metadata.get("annotations")),
        created: metadata.get("creationTimestamp").text().and_then(timestamp),
        owners: owners.map(|owner| Owner { kind: owner.get("kind").string(), name: owner.get("name").string() }).collect(),
        places: places(&object, node, file),
        object,
    }
}

/// A mapping of texts.
#[must_use]
pub fn labels(node: &Node) -> Labels {
    node.entries().iter().map(|entry| (entry.key.to_string(), entry.node.string())).collect()
}

/// Checks API version, name and namespace.
pub fn check(kind: Kind, node: &Node, report: &mut Report) {
    let metadata = node.get("metadata");
    let at = |key: &str| metadata.entry(key).map_or(node.at, |entry| entry.node.at);
    let version = node.get("apiVersion").text().unwrap_or_default();
    let version = version.rsplit('/').next().unwrap_or_default();
    let known = versions(kind);
    if !known.is_empty() && !known.contains(&version) {
        let message = format!("{} has no version `{version}`; allowed: {}", kind.group(), known.join(", "));
        report.error("apiVersion", node.get("apiVersion").at, message);
    }
    if metadata.is_given() && !matches!(metadata.value, Value::Map(_)) {
        let message = format!("found {}; allowed: a mapping with name, namespace, labels, annotations", metadata.describe());
        return report.error("metadata", metadata.at, message);
    }
    let name = metadata.get("name").text().unwrap_or_default();
    if !name.is_empty() {
        if let Some(message) = name_problem(name, MAX_NAME) {
            report.error("metadata/name", at("name"), message);
        }
    } else if metadata.get("generateName").text().is_none() {
        report.error("metadata/name", at("name"), "`metadata.name` is required");
    }
    if !kind.namespaced() {
        return;
    }
    let Some(namespace) = metadata.get("namespace").text().filter(|namespace| !namespace.is_empty()) else {
        let at = node.entry("metadata").map_or(node.at, |entry| entry.at);
        return report.info("metadata/namespace", at, "no namespace is given; it counts as `default`");
    };
    if let Some(message) = name_problem(namespace, MAX_LABEL).or_else(|| dotted_namespace(namespace)) {
        report.error("metadata/namespace", at("namespace"), message);
    }
}

const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

fn dotted_namespace(namespace: &str) -> Option<String> {
    namespace.contains('.').then(|| format!("`{namespace}`: a namespace's name has no dots"))
}

/// What is wrong with an object's name, by RFC 1123 as Kubernetes applies it.
fn name_problem(name: &str, longest: usize) -> Option<String> {
    let quoted = super::tree::shortened(name);
    if name.len() > longest {
        return Some(format!("`{quoted}`: must be no more than {longest} characters; it has {}", name.len()));
    }
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let outer = |byte: Option<&u8>| byte.is_some_and(|byte| inner(*byte) && *byte != b'-');
    let fine = name.split('.').all(|part| {
        let part = part.as_bytes();
        outer(part.first()) && outer(part.last()) && part.iter().all(|byte| inner(*byte))
    });
    let (what, others) = if longest == MAX_LABEL { ("label", " or '-'") } else { ("subdomain", ", '-' or '.'") };
    let rule = "and must start and end with an alphanumeric character";
    (!fine).then(|| {
        format!("`{quoted}`: a lowercase RFC 1123 {what} must consist of lower case alphanumeric characters{others}, {rule}")
    })
}

/// The places of fields: all of those of Istio's kinds and of Services, whose fields findings point at; the first
/// two levels of the others, of which there can be very many.
fn places(object: &ObjectRef, node: &Node, file: &Arc<str>) -> Places {
    let whole = object.kind.group().contains("istio") || matches!(object.kind, Kind::Istio | Kind::Service);
    let mut places = Places::new(Arc::clone(file), node.at);
    let mut path = String::new();
    record(node, &mut path, if whole { usize::MAX } else { 2 }, &mut places);
    places
}

/// Of larger lists and mappings only the places of so many entries are kept; the others are found at their parent.
const MOST_PLACES: usize = 5000;

fn record(node: &Node, path: &mut String, levels: usize, places: &mut Places) {
    if levels == 0 {
        return;
    }
    let length = path.len();
    for entry in node.entries().iter().take(MOST_PLACES) {
        if length > 0 {
            path.push('/');
        }
        path.push_str(&entry.key);
        places.insert(path.as_str(), field_at(entry.at, &entry.node));
        record(&entry.node, path, levels - 1, places);
        path.truncate(length);
    }
    for (index, item) in node.items().iter().take(MOST_PLACES).enumerate() {
        path.push_str(&format!("[{index}]"));
        places.insert(path.as_str(), item.at);
        record(item, path, levels - 1, places);
        path.truncate(length);
    }
}

/// Where a field stands for the reader: a single value at itself, when it is on its key's line; all else at its key.
#[must_use]
pub fn field_at(key: At, node: &Node) -> At {
    let same_line = node.at.0 == key.0 && matches!(node.value, Value::Scalar { .. });
    if same_line && node.at.1 > key.1 { node.at } else { key }
}

/// Seconds since 1970 of an RFC 3339 time.
fn timestamp(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = text.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let zone = text.get(19..)?.trim_start_matches(|character: char| character == '.' || character.is_ascii_digit());
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - zone_offset(zone)?)
}

/// Seconds east of Greenwich of `Z` or `+01:30`.
fn zone_offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    Some(sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60))
}

/// Days of the proleptic Gregorian calendar, counting years from March so that the leap day comes last.
#[must_use]
pub fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

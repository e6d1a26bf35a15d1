//! What a document is, by its `kind` and `apiVersion`, and what was probably meant by one that is nothing known.

use super::schema::nearest;
use super::tree::{At, Node, Value};
use crate::{Kind, Severity};

/// What a document is.
pub enum Recognised {
    /// An object of a kind that Mutua reads.
    Known(Kind),
    /// A list of objects.
    List,
    /// An object of another kind: `group/Kind`.
    Unknown(String),
    /// No object; it says why.
    No(String),
}

/// Tells what a document is by its `kind` and `apiVersion`.
#[must_use]
pub fn recognise(node: &Node) -> Recognised {
    if !matches!(node.value, Value::Map(_)) {
        return Recognised::No(format!(
            "a Kubernetes object is a mapping with `apiVersion` and `kind`; found {}",
            node.describe()
        ));
    }
    let (Some(kind), Some(version)) = (node.get("kind").text(), node.get("apiVersion").text()) else {
        let missing = if node.get("kind").text().is_none() { "kind" } else { "apiVersion" };
        if let Some(comment) = node.entries().iter().find(|entry| entry.key.starts_with("//") || entry.key.starts_with("/*")) {
            let sign = &comment.key[..2];
            return Recognised::No(format!("`{sign}` begins no comment in JSON or YAML: it was read as part of a key"));
        }
        if node.get(missing).is_given() {
            return Recognised::No(format!("`{missing}` must be a text; found {}", node.get(missing).describe()));
        }
        return Recognised::No(format!("`{missing}` is missing: every Kubernetes object has `apiVersion` and `kind`"));
    };
    let group = group(version);
    if group.is_empty() && kind == "List" {
        return Recognised::List;
    }
    match Kind::parse(kind).filter(|known| known.group() == group) {
        Some(known) => Recognised::Known(known),
        None if group.is_empty() => Recognised::Unknown(kind.to_owned()),
        None => Recognised::Unknown(format!("{group}/{kind}")),
    }
}

/// What is wrong with a kind or version that is nothing known.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// An error when one of Istio's kinds that Mutua reads was meant: its author believes that it is in force.
    pub severity: Severity,
    /// `kind` or `apiVersion`.
    pub path: &'static str,
    /// Where it stands.
    pub at: At,
    /// What was found, and what was probably meant.
    pub message: String,
}

/// What was probably meant by an unknown kind or version, when it belongs to Istio or nearly does, or is nearly one of
/// Kubernetes: passing over a misspelt policy without a word would leave its author believing that it is in force.
#[must_use]
pub fn mistake(node: &Node) -> Option<Mistake> {
    let (kind, version) = (node.get("kind").text()?, node.get("apiVersion").text()?);
    let group = group(version);
    let written = |path, severity, message| Some(Mistake { severity, path, at: node.get(path).at, message });
    if NOT_READ.contains(&(kind, group)) {
        return None;
    }
    let (quoted, quoted_version) = (super::tree::shortened(kind), super::tree::shortened(version));
    if !is_nearly_istio(kind, version) {
        return kubernetes_mistake(kind, group).and_then(|(path, message)| written(path, Severity::Warning, message));
    }
    let Some((meant, right_group)) = meant_of_istio(kind) else {
        let message = format!("`{quoted}` of {quoted_version} is no kind of Istio that Mutua knows; passed over");
        return written("kind", Severity::Warning, message);
    };
    let read = Kind::parse(meant).is_some();
    let severity = if read { Severity::Error } else { Severity::Warning };
    let example = Kind::parse(meant).map_or_else(String::new, |kind| format!(": `apiVersion: {}/v1`", kind.group()));
    if meant != kind {
        let of = if group == right_group { right_group.to_owned() } else { format!("`{quoted_version}`") };
        return written("kind", severity, format!("{of} has no kind `{quoted}`; did you mean `{meant}`?"));
    }
    let no_group = if is_istio_group(group) { "not of" } else { "there is no" };
    written("apiVersion", severity, format!("{meant} is a kind of {right_group}, {no_group} `{quoted_version}`{example}"))
}

/// The kind of Istio that was written or misspelt, and its group.
fn meant_of_istio(kind: &str) -> Option<(&'static str, &'static str)> {
    let all = || istio_kinds().chain(NOT_READ.iter().copied());
    let meant = nearest(kind, all().map(|(name, _)| name))?;
    all().find(|(name, _)| *name == meant)
}

fn istio_kinds() -> impl Iterator<Item = (&'static str, &'static str)> {
    Kind::all().filter(|kind| is_istio_group(kind.group())).map(|kind| (kind.as_str(), kind.group()))
}

/// Whether a version is of Istio or was meant to be, or a kind that is nearly one of Istio's stands in a group of
/// Kubernetes, or in none.
fn is_nearly_istio(kind: &str, version: &str) -> bool {
    let group = group(version);
    let lower = version.to_lowercase();
    is_istio_group(group)
        || GROUPS.iter().any(|known| lower.contains(known))
        || group == "istio.io"
        || nearest(group, GROUPS.into_iter()).is_some()
        || OF_KUBERNETES.contains(&group)
            && meant_of_istio(kind).is_some_and(|(meant, _)| meant == kind || Kind::parse(kind).is_none())
}

fn is_istio_group(group: &str) -> bool {
    group.ends_with(".istio.io") || group == Kind::Istio.group()
}

/// A kind of Kubernetes below another of its groups, or misspelt: what is wrong, and in which field.
fn kubernetes_mistake(kind: &str, group: &str) -> Option<(&'static str, String)> {
    let quoted = super::tree::shortened(kind);
    if !OF_KUBERNETES.contains(&group) {
        return None;
    }
    if let Some(known) = Kind::parse(kind) {
        let right = if known.group().is_empty() { "the core group, `v1`" } else { known.group() };
        return Some(("apiVersion", format!("{quoted} is a kind of {right}; this one is passed over")));
    }
    let meant = nearest(kind, Kind::all().filter(|known| known.group() == group).map(Kind::as_str))?;
    Some(("kind", format!("Kubernetes has no kind `{quoted}`; did you mean `{meant}`? passed over")))
}

fn group(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
}

/// The groups of what Mutua reads of Kubernetes.
const OF_KUBERNETES: [&str; 4] = ["", "apps", "batch", "discovery.k8s.io"];

/// The groups of what Mutua reads of Istio.
const GROUPS: [&str; 3] = ["security.istio.io", "networking.istio.io", "sailoperator.io"];

/// Kinds of Istio and Sail that exist and are not read; they are passed over as design has it.
const NOT_READ: &[(&str, &str)] = &[
    ("ProxyConfig", "networking.istio.io"),
    ("Telemetry", "telemetry.istio.io"),
    ("WasmPlugin", "extensions.istio.io"),
    ("TrafficExtension", "extensions.istio.io"),
    ("IstioOperator", "install.istio.io"),
    ("IstioCNI", "sailoperator.io"),
    ("IstioRevision", "sailoperator.io"),
    ("IstioRevisionTag", "sailoperator.io"),
    ("ZTunnel", "sailoperator.io"),
];

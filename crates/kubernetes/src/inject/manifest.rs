//! Injection into files: pods and whatever makes pods. Documents that do not change stay as they are, byte by byte.

use std::collections::BTreeMap;

use mutua_model::read::{Document, InputError, manifests};
use serde_json::Value;

use super::{InjectError, Injector, Namespace, Outcome, Owner, texts};

/// What became of one object of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// `Deployment shop/web`.
    pub object: String,
    /// The line that its document begins in.
    pub line: u32,
    /// What became of it.
    pub outcome: Result<Injected, InjectError>,
}

/// As [`Outcome`], without the pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Injected {
    /// It has a sidecar now. With warnings for people.
    Now(Vec<String>),
    /// It had one.
    Already,
    /// It gets none.
    Not(mutua_policy::injection::NotInjected),
}

/// The namespaces that are known, and the one of objects that name none.
#[derive(Clone, Debug)]
pub struct Namespaces {
    /// Labels and annotations by name.
    pub known: BTreeMap<String, Namespace>,
    /// For objects without `metadata.namespace`.
    pub default: String,
}

impl Namespaces {
    /// Adds the Namespaces among the documents of a text.
    ///
    /// # Errors
    /// A document that is no YAML or JSON.
    pub fn learn(&mut self, name: &str, text: &str) -> Result<(), InputError> {
        for document in manifests(name, text)? {
            objects(&document.value.unwrap_or_default(), &mut |object| {
                if object["kind"] == "Namespace" && object["apiVersion"] == "v1" {
                    let (metadata, name) = (&object["metadata"], object["metadata"]["name"].as_str().unwrap_or_default());
                    let known = Namespace {
                        name: name.to_owned(),
                        labels: Some(texts(&metadata["labels"])),
                        annotations: texts(&metadata["annotations"]),
                    };
                    self.known.insert(name.to_owned(), known);
                }
            });
        }
        Ok(())
    }

    fn of(&self, object: &Value) -> Namespace {
        let name = object["metadata"]["namespace"].as_str().unwrap_or(&self.default);
        let unknown = || Namespace { name: name.to_owned(), ..Namespace::default() };
        self.known.get(name).cloned().unwrap_or_else(unknown)
    }
}

/// The text with sidecars in its pods, and what became of each. `yaml` writes a value.
///
/// # Errors
/// A document that is no YAML or JSON.
pub fn inject_text(
    injector: &Injector,
    namespaces: &Namespaces,
    (name, text): (&str, &str),
    yaml: &dyn Fn(&Value) -> String,
) -> Result<(String, Vec<Report>), InputError> {
    let (mut out, mut reports) = (String::with_capacity(text.len()), Vec::new());
    for Document { bytes, line, value } in manifests(name, text)? {
        let written = &text[bytes];
        let mut value = value.unwrap_or_default();
        let before = reports.len();
        inject_value(injector, namespaces, &mut value, line, &mut reports);
        if !reports[before..].iter().any(|report| matches!(report.outcome, Ok(Injected::Now(_)))) {
            out.push_str(written);
        } else if written.trim_start().starts_with('{') {
            out.push_str(&format!("{value:#}\n"));
        } else {
            // The marker stays, with whatever stands beside it.
            let marker = written.split_inclusive('\n').next().filter(|line| line.starts_with("---"));
            out.push_str(&marker.map(bare).unwrap_or_default());
            out.push_str(&yaml(&value));
        }
    }
    Ok((out, reports))
}

/// The marker line of a document without a value that stands in it.
fn bare(marker: &str) -> String {
    let comment = marker.find('#').map(|at| marker[at..].trim_end());
    comment.map_or_else(|| "---\n".to_owned(), |comment| format!("--- {comment}\n"))
}

fn inject_value(injector: &Injector, namespaces: &Namespaces, value: &mut Value, line: u32, reports: &mut Vec<Report>) {
    if is_list(value) {
        for item in value["items"].as_array_mut().into_iter().flatten() {
            inject_value(injector, namespaces, item, line, reports);
        }
        return;
    }
    let Some(path) = template_path(value) else { return };
    let namespace = namespaces.of(value);
    let (kind, name) = (value["kind"].as_str().unwrap_or_default(), value["metadata"]["name"].as_str().unwrap_or_default());
    let object = format!("{kind} {}/{name}", namespace.name);
    let owner =
        if path.is_empty() { Owner::of_pod(&value["metadata"]) } else { Owner { kind: kind.to_owned(), name: name.to_owned() } };
    let outcome = match value.pointer_mut(path).filter(|pod| pod.is_object()) {
        None => Err(InjectError::Form("spec.template")),
        Some(pod) => injector.inject(pod, &owner, &namespace).map(|outcome| match outcome {
            Outcome::Injected(injected, warnings) => {
                *pod = *injected;
                Injected::Now(warnings)
            }
            Outcome::Already => Injected::Already,
            Outcome::Not(why) => Injected::Not(why),
        }),
    };
    reports.push(Report { object, line, outcome });
}

/// Where the pod stands in an object of this kind.
fn template_path(object: &Value) -> Option<&'static str> {
    let group = object["apiVersion"].as_str().unwrap_or_default().rsplit_once('/').map_or("", |(group, _)| group);
    match (group, object["kind"].as_str().unwrap_or_default()) {
        ("", "Pod") => Some(""),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job")
        | ("", "ReplicationController")
        | ("apps.openshift.io" | "", "DeploymentConfig") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

fn is_list(value: &Value) -> bool {
    value["apiVersion"] == "v1" && value["kind"] == "List"
}

/// Calls `each` for an object, or for every item of a list.
fn objects(value: &Value, each: &mut impl FnMut(&Value)) {
    if is_list(value) {
        value["items"].as_array().into_iter().flatten().for_each(|item| objects(item, each));
    } else {
        each(value);
    }
}

//! Injection: a pod in, the same pod with its sidecar out (semantics: Istio's injector, `pkg/kube/inject`).
//!
//! Whether a pod gets a sidecar is decided by [`mutua_policy::injection`]. [`wishes`] reads what the pod's annotations ask
//! for, [`sidecar`] makes what is added, [`merge`] lays template and pod over it, [`probes`] leads the application's
//! probes by way of the sidecar. [`manifest`] finds the pods in files. Everything works on the values of manifests and
//! keeps fields that it does not know.

mod ids;
mod manifest;
mod merge;
mod owner;
mod probes;
mod settings;
mod sidecar;
mod wishes;

use mutua_model::read::{InputError, manifest_file};
use mutua_model::{Labels, MeshConfig};
use mutua_policy::injection::{self, NotInjected, Template};
use serde_json::{Value, json};

use sidecar::Parts;

pub use ids::{Ids, PROXY_ID};
pub use manifest::{Injected, Namespaces, Report, inject_text};
pub use merge::merge;
pub use owner::Owner;
pub use settings::{MeshFacts, STATUS_PORT, Settings, TOKEN_AUDIENCE};
pub use wishes::{Interception, Wishes};

/// The sidecar's container.
pub const PROXY: &str = "istio-proxy";
/// The init container with the capture rules.
pub const INIT: &str = "istio-init";
/// The annotation by which an injected pod is known.
pub const STATUS: &str = "sidecar.istio.io/status";
/// The annotation that chooses templates of Istio's injector.
const TEMPLATES: &str = "inject.istio.io/templates";
/// The image that stands for the injector's own, in a container `istio-proxy` that the pod brings.
const AUTO: &str = "auto";

/// A pod that cannot be injected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// An annotation with a value that it cannot have.
    #[error("annotation {name}: {value:?} is not possible; allowed: {allowed}")]
    Annotation {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A template that is not there.
    #[error("annotation {TEMPLATES} asks for {0:?}; there is only the template `sidecar`")]
    Template(String),
    /// A value that is no pod.
    #[error("{0} is missing or has another form than a pod's")]
    Form(&'static str),
}

/// What became of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has a sidecar now. With warnings for people.
    Injected(Box<Value>, Vec<String>),
    /// It had one already and is left alone.
    Already,
    /// It gets none.
    Not(NotInjected),
}

/// What the namespace says.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels; `None` when nobody knows them: then whoever asks has decided.
    pub labels: Option<Labels>,
    /// Its annotations.
    pub annotations: Labels,
}

/// Puts sidecars into pods.
#[derive(Clone, Debug)]
pub struct Injector {
    /// The mesh's decisions.
    pub settings: Settings,
    /// The namespace of the control plane.
    pub istio_namespace: String,
    /// The mesh configuration.
    pub mesh: MeshFacts,
    /// A part of a pod (`metadata` and `spec`) that is laid over what the injector makes, by Kubernetes' strategic merge.
    pub template: Option<Value>,
}

impl Injector {
    /// That of a control plane in `namespace`.
    ///
    /// # Errors
    /// The template cannot be read.
    pub fn new(settings: &Settings, namespace: &str, config: &MeshConfig) -> Result<Self, InputError> {
        Ok(Self {
            settings: settings.clone(),
            istio_namespace: namespace.to_owned(),
            mesh: MeshFacts::new(config, namespace),
            template: settings.template.as_deref().map(manifest_file).transpose()?,
        })
    }

    /// A pod, or the template of one: `metadata` and `spec`.
    ///
    /// # Errors
    /// It cannot be injected.
    pub fn inject(&self, pod: &Value, owner: &Owner, namespace: &Namespace) -> Result<Outcome, InjectError> {
        let spec = pod.get("spec").filter(|spec| spec.is_object()).ok_or(InjectError::Form("spec"))?;
        let (labels, annotations) = (texts(&pod["metadata"]["labels"]), texts(&pod["metadata"]["annotations"]));
        let template = Template {
            namespace: &namespace.name,
            labels: &labels,
            annotations: &annotations,
            host_network: spec["hostNetwork"] == true,
        };
        let decided = match &namespace.labels {
            Some(asked) => injection::decide(&template, asked, Some(&self.settings.revision)),
            None => injection::required(&template),
        };
        if let Err(why) = decided {
            return Ok(Outcome::Not(why));
        }
        if annotations.contains_key(STATUS) {
            return Ok(Outcome::Already);
        }
        let unknown = |name: &str| !name.is_empty() && name != "sidecar";
        let templates = annotations.get(TEMPLATES).map(String::as_str).unwrap_or_default().split(',').map(str::trim);
        if let Some(unknown) = templates.into_iter().find(|name| unknown(name)) {
            return Err(InjectError::Template(unknown.to_owned()));
        }
        let wishes = Wishes::read(&annotations, &self.settings)?;
        let ids = Ids::of_namespace(&namespace.annotations);
        Ok(Outcome::Injected(Box::new(self.with_sidecar(pod, owner, &wishes, ids)), wishes.warnings))
    }

    fn with_sidecar(&self, pod: &Value, owner: &Owner, wishes: &Wishes, ids: Ids) -> Value {
        let mut pod = pod.clone();
        let (own_proxy, own_init) = take_own(&mut pod["spec"]);
        let application = names(&pod["spec"], "containers");
        let rewritten = wishes.status_port.filter(|_| wishes.rewrite_probes);
        let probers = rewritten.and_then(|port| probes::rewrite(&mut pod["spec"], port));
        let parts = Parts { of: self, wishes, ids, probers: probers.as_deref() };
        let mut added = json!({ "metadata": self.metadata(&pod, owner, &application), "spec": parts.spec() });
        if let Some(template) = &self.template {
            merge(&mut added, template);
        }
        let status = self.status(&added["spec"]);
        for (own, name) in [(own_proxy, PROXY), (own_init, INIT)] {
            if let Some(own) = own {
                lay_over(&mut added["spec"], name, own);
            }
        }
        // The pod's own metadata stands above what is added, except where others go by it.
        let mut metadata = std::mem::take(&mut added["metadata"]);
        merge(&mut metadata, &pod["metadata"]);
        metadata["annotations"][STATUS] = Value::from(status);
        if let Some(port) = wishes.status_port {
            scraped(&mut metadata["annotations"], port);
        }
        pod["metadata"] = metadata;
        merge(&mut pod["spec"], &added["spec"]);
        order(&mut pod["spec"], wishes);
        pod
    }

    fn metadata(&self, pod: &Value, owner: &Owner, application: &[String]) -> Value {
        let labels = texts(&pod["metadata"]["labels"]);
        let first = |names: &[&str]| names.iter().find_map(|name| labels.get(*name)).filter(|value| !value.is_empty()).cloned();
        let name = first(&[CANONICAL_NAME, "app.kubernetes.io/name", "app"]).unwrap_or_else(|| owner.name.clone());
        let name: String = name.chars().take(63).collect();
        let revision = first(&[CANONICAL_REVISION, "app.kubernetes.io/version", "version"]);
        let mut metadata = json!({
            "labels": {
                "security.istio.io/tlsMode": "istio",
                CANONICAL_NAME: name.trim_matches(['-', '_', '.']),
                CANONICAL_REVISION: revision.as_deref().unwrap_or("latest"),
            },
            "annotations": { "istio.io/rev": self.settings.revision },
        });
        if let Some(first) = application.first() {
            for annotation in ["kubectl.kubernetes.io/default-container", "kubectl.kubernetes.io/default-logs-container"] {
                metadata["annotations"][annotation] = Value::from(first.as_str());
            }
        }
        metadata
    }

    /// What was added, as Kiali and a second injection look for it.
    fn status(&self, added: &Value) -> String {
        let list = |list: &str| {
            let names = names(added, list);
            if names.is_empty() { Value::Null } else { Value::from(names) }
        };
        let status = json!({
            "initContainers": list("initContainers"),
            "containers": list("containers"),
            "volumes": list("volumes"),
            "imagePullSecrets": list("imagePullSecrets"),
            "revision": self.settings.revision,
        });
        status.to_string()
    }
}

/// Takes the containers out that the pod brings under our names: what they say is laid over ours.
fn take_own(spec: &mut Value) -> (Option<Value>, Option<Value>) {
    let mut take = |name: &str| {
        let mut found = None;
        for list in ["initContainers", "containers"] {
            let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { continue };
            let at = containers.iter().position(|container| container["name"] == name);
            found = found.or(at.map(|at| containers.remove(at)));
        }
        found
    };
    (take(PROXY), take(INIT))
}

/// Lays a container of the pod over ours. The init container exempts whom ours runs as then.
fn lay_over(added: &mut Value, name: &str, mut own: Value) {
    if let Some(own) = own.as_object_mut().filter(|own| own.get("image").is_some_and(|image| image == AUTO)) {
        own.remove("image");
    }
    let user = own["securityContext"]["runAsUser"].as_u64().filter(|uid| *uid != 0 && name == PROXY);
    for list in ["initContainers", "containers"] {
        for container in containers(added, list) {
            if container["name"] == name {
                merge(container, &own);
            } else if let (Some(uid), true) = (user, container["name"] == INIT)
                && let Some(argument) = container["args"].as_array_mut().into_iter().flatten().find(|one| is_uid(one))
            {
                *argument = Value::from(format!("{UID}{uid}"));
            }
        }
    }
}

fn is_uid(argument: &Value) -> bool {
    argument.as_str().is_some_and(|argument| argument.starts_with(UID))
}

/// Where Prometheus finds the sidecar's metrics, unless the pod says itself whether and where it is scraped.
fn scraped(annotations: &mut Value, port: u16) {
    let Some(annotations) = annotations.as_object_mut() else { return };
    // As Prometheus' usual configuration reads their names: whatever is neither letter nor digit is alike.
    let plain = |key: &String| key.replace(|one: char| !one.is_ascii_alphanumeric(), "_");
    if annotations.keys().any(|key| ["prometheus_io_", "prometheus_istio_io_"].iter().any(|ours| plain(key).starts_with(ours))) {
        return;
    }
    let ours = [("scrape", "true".to_owned()), ("port", port.to_string()), ("path", "/stats/prometheus".to_owned())];
    annotations.extend(ours.map(|(key, value)| (format!("prometheus.io/{key}"), Value::from(value))));
}

/// A native sidecar starts first, after the capture rules, so that init containers are in the mesh. A classic one is last of
/// the containers, or first when the others are to wait for it, and the capture rules come last, so that init containers are
/// not captured before anybody serves them.
fn order(spec: &mut Value, wishes: &Wishes) {
    if wishes.native {
        place(spec, "initContainers", PROXY, true);
        place(spec, "initContainers", INIT, true);
    } else {
        place(spec, "containers", PROXY, wishes.hold);
        place(spec, "initContainers", INIT, false);
    }
    for list in ["initContainers", "containers"] {
        if spec[list].as_array().is_some_and(Vec::is_empty)
            && let Some(spec) = spec.as_object_mut()
        {
            spec.remove(list);
        }
    }
}

fn place(spec: &mut Value, list: &str, name: &str, first: bool) {
    let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else { return };
    let Some(at) = containers.iter().position(|container| container["name"] == name) else { return };
    let container = containers.remove(at);
    containers.insert(if first { 0 } else { containers.len() }, container);
}

/// The elements of a list of containers.
fn containers<'a>(spec: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn names(spec: &Value, list: &str) -> Vec<String> {
    let elements = spec[list].as_array().into_iter().flatten();
    elements.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
}

/// Labels or annotations.
fn texts(value: &Value) -> Labels {
    let entries = value.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
const UID: &str = "--uid=";

#[cfg(test)]
mod tests;

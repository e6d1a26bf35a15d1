//! Answers to AdmissionReviews (`admission.k8s.io/v1`): pure, from bytes to bytes.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::ByteString;
use mutua_control::world::Snapshot;
use mutua_model::Severity;
use mutua_model::read::Inputs;
use mutua_policy::Engine;
use mutua_policy::findings::{Asked, Finding, analyze};
use serde_json::{Value, json};

use super::patch::difference;
use crate::inject::{Injector, MeshFacts, Namespace, Outcome, Owner};

/// How many warnings an answer holds, and how long each may be: API servers cut longer ones.
const MAX_WARNINGS: usize = 8;
const MAX_WARNING: usize = 250;
/// The name by which diagnostics would call the object's text; nobody sees it.
const TEXT: &str = "admission";

/// A body that is no AdmissionReview.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// No JSON.
    #[error("the body is no JSON: {0}")]
    Json(String),
    /// Another kind or version.
    #[error("the body is no AdmissionReview of admission.k8s.io/v1 with a request")]
    Kind,
}

/// What is asked.
struct Asking {
    uid: String,
    namespace: String,
    object: Value,
}

/// What is said.
#[derive(Default)]
struct Said {
    refused: Option<String>,
    patch: Vec<Value>,
    warnings: Vec<String>,
}

impl Asking {
    fn read(body: &[u8]) -> Result<Self, ReviewError> {
        let mut review: Value = serde_json::from_slice(body).map_err(|error| ReviewError::Json(error.to_string()))?;
        let kind = (review["apiVersion"].as_str(), review["kind"].as_str());
        let uid = review["request"]["uid"].as_str().filter(|uid| !uid.is_empty()).map(str::to_owned);
        match (kind, uid) {
            ((Some("admission.k8s.io/v1"), Some("AdmissionReview")), Some(uid)) => Ok(Self {
                uid,
                namespace: review["request"]["namespace"].as_str().unwrap_or_default().to_owned(),
                object: review["request"]["object"].take(),
            }),
            _ => Err(ReviewError::Kind),
        }
    }

    fn answer(self, said: Said) -> Vec<u8> {
        let mut response = json!({ "uid": self.uid, "allowed": said.refused.is_none() });
        if let Some(message) = said.refused {
            response["status"] = json!({ "code": 400, "reason": "Invalid", "message": message });
        }
        if !said.patch.is_empty() {
            response["patchType"] = Value::from("JSONPatch");
            // A list of values is always JSON, and bytes are always base64.
            let patch = serde_json::to_vec(&said.patch).unwrap_or_default();
            response["patch"] = serde_json::to_value(ByteString(patch)).unwrap_or_default();
        }
        let warnings: Vec<String> = said.warnings.iter().take(MAX_WARNINGS).map(|warning| shortened(warning)).collect();
        if !warnings.is_empty() {
            response["warnings"] = Value::from(warnings);
        }
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response }).to_string().into_bytes()
    }
}

/// Injects into the pod of a review. The API server's selectors have decided that the pod is asked for.
///
/// # Errors
/// The body is no review.
pub fn inject(injector: &Injector, snapshot: &Snapshot, body: &[u8]) -> Result<Vec<u8>, ReviewError> {
    let asking = Asking::read(body)?;
    if asking.object["kind"] != "Pod" {
        return Ok(asking.answer(Said::default()));
    }
    let mesh = snapshot.mesh();
    let known = mesh.namespaces.iter().find(|one| one.meta.name() == asking.namespace);
    let annotations = known.map(|one| one.meta.annotations.clone()).unwrap_or_default();
    let namespace = Namespace { name: asking.namespace.clone(), labels: None, annotations };
    let injector = Injector { mesh: MeshFacts::new(&mesh.config, &injector.istio_namespace), ..injector.clone() };
    let said = match injector.inject(&asking.object, &Owner::of_pod(&asking.object["metadata"]), &namespace) {
        Ok(Outcome::Injected(pod, warnings)) => Said { patch: difference(&asking.object, &pod), warnings, ..Said::default() },
        Ok(Outcome::Already | Outcome::Not(_)) => Said::default(),
        Err(error) => Said { refused: Some(format!("no sidecar can be injected: {error}")), ..Said::default() },
    };
    Ok(asking.answer(said))
}

/// Checks the object of a review as `mutua validate` does; what `mutua analyze` finds about it in this mesh is a warning.
///
/// # Errors
/// The body is no review.
pub fn validate(snapshot: &Snapshot, body: &[u8]) -> Result<Vec<u8>, ReviewError> {
    let asking = Asking::read(body)?;
    // What is taken away has no object.
    let said = if asking.object.is_object() { check(snapshot, &asking.object) } else { Said::default() };
    Ok(asking.answer(said))
}

fn check(snapshot: &Snapshot, object: &Value) -> Said {
    let loaded = match Inputs::from_texts([(TEXT, object.to_string())]).load() {
        Ok(loaded) => loaded,
        Err(error) => return Said { refused: Some(error.to_string()), ..Said::default() },
    };
    let told = |path: &str, message: &str| if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") };
    let errors: Vec<String> = loaded.errors().map(|error| told(&error.path, &error.message)).collect();
    let mut warnings: Vec<String> = loaded.warnings().map(|warning| told(&warning.path, &warning.message)).collect();
    if !errors.is_empty() {
        return Said { refused: Some(errors.join("; ")), warnings, ..Said::default() };
    }
    let kind = object["kind"].as_str().unwrap_or_default();
    let (namespace, name) = (object["metadata"]["namespace"].as_str(), object["metadata"]["name"].as_str());
    let named = format!("{kind} {}/{}", namespace.unwrap_or("default"), name.unwrap_or_default());
    let mut mesh = snapshot.mesh().clone();
    mesh.apply(loaded.mesh);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok());
    let findings = analyze(&Engine::new(Arc::new(mesh)), &Asked { now, include: Vec::new() });
    let mut about: Vec<&Finding> = findings.iter().filter(|finding| finding.object == named).collect();
    about.sort_by_key(|finding| match finding.severity {
        Severity::Error => 0,
        Severity::Warning => 1,
        Severity::Info => 2,
    });
    warnings.extend(about.iter().map(|finding| format!("{}: {}", finding.code, told(&finding.path, &finding.message))));
    Said { warnings, ..Said::default() }
}

/// At most so many bytes, in one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= MAX_WARNING {
        return line;
    }
    let mut end = MAX_WARNING;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    format!("{} …", &line[..end])
}

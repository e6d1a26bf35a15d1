//! What is not a watch: list, get, create, replace, patch, delete.

use std::collections::BTreeMap;

use axum::response::Response;
use http::Method;
use serde_json::{Map, Value, json};

use super::store::{Failure, Key, KindInfo, Store};
use super::{Target, body_of};

type Query = BTreeMap<String, String>;

/// `GROUP/VERSION` of the stored version.
pub fn api_version(info: &KindInfo) -> String {
    if info.group.is_empty() { info.versions[0].to_owned() } else { format!("{}/{}", info.group, info.versions[0]) }
}

/// Which objects a list or watch is about.
pub struct Filter {
    info: &'static KindInfo,
    namespace: Option<String>,
    labels: Vec<String>,
    fields: Vec<(String, String)>,
}

impl Filter {
    pub fn new(target: &Target, query: &Query) -> Self {
        let parts = |key: &str| query.get(key).map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default();
        let fields: Vec<String> = parts("fieldSelector");
        let pair = |field: String| field.split_once('=').map(|(key, value)| (key.to_owned(), value.trim_matches('=').to_owned()));
        Self {
            info: target.info,
            namespace: target.namespace.clone(),
            labels: parts("labelSelector"),
            fields: fields.into_iter().filter_map(pair).collect(),
        }
    }

    pub fn holds(&self, key: &Key, object: &Value) -> bool {
        let label = |one: &String| match one.split_once('=') {
            Some((name, value)) => object["metadata"]["labels"][name].as_str() == Some(value.trim_matches('=')),
            None => !object["metadata"]["labels"][one.as_str()].is_null(),
        };
        let field = |(name, value): &(String, String)| {
            let pointer = format!("/{}", name.replace('.', "/"));
            object.pointer(&pointer).and_then(Value::as_str) == Some(value)
        };
        key.plural == self.info.plural
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
            && self.labels.iter().all(label)
            && self.fields.iter().all(field)
    }

    /// As this version of the API shows it.
    pub fn shown(&self, object: &Value) -> Value {
        let mut object = object.clone();
        object["apiVersion"] = json!(api_version(self.info));
        object["kind"] = json!(self.info.kind);
        object
    }
}

/// Answers a request.
///
/// # Errors
/// A refusal with the code and reason of a real server.
pub fn of(
    store: &mut Store,
    method: &Method,
    target: &Target,
    query: &Query,
    (content, body): (&str, Value),
) -> Result<(u16, Value), Failure> {
    let namespace = target.namespace.clone().unwrap_or_default();
    let Some(name) = &target.name else {
        return match *method {
            Method::GET => list(store, target, query).map(|list| (200, list)),
            Method::POST => create(store, target, body).map(|object| (201, object)),
            _ => Err(Failure::new(405, "MethodNotAllowed", "the server does not allow this method")),
        };
    };
    let key = Key::new(target.info.plural, &namespace, name);
    let known = store.get(&key).cloned();
    let missing = || Failure::new(404, "NotFound", &format!("{} \"{name}\" not found", target.info.plural));
    let status_only = target.subresource.as_deref() == Some("status");
    match *method {
        Method::GET => known.map(|object| (200, object)).ok_or_else(missing),
        Method::DELETE => store.delete(&key).map(|object| (200, object)),
        Method::PUT => {
            let known = known.ok_or_else(missing)?;
            replace(store, key, &known, &body, status_only).map(|object| (200, object))
        }
        Method::PATCH => {
            let apply = content.starts_with("application/apply-patch");
            let manager = query.get("fieldManager").cloned().unwrap_or_default();
            match known {
                Some(known) => {
                    let manager = apply.then_some(manager.as_str());
                    Ok((200, patch(store, key, &known, body, (manager, status_only))))
                }
                None if apply && !status_only => create(store, target, managed(body, &manager)).map(|object| (201, object)),
                None => Err(missing()),
            }
        }
        _ => Err(Failure::new(405, "MethodNotAllowed", "the server does not allow this method")),
    }
}

fn list(store: &Store, target: &Target, query: &Query) -> Result<Value, Failure> {
    let filter = Filter::new(target, query);
    let limit = query.get("limit").and_then(|text| text.parse().ok()).filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let (revision, after) = match query.get("continue") {
        None => (store.revision, None),
        Some(token) => {
            let gone = || Failure::new(410, "Expired", "The provided continue parameter is too old");
            let (revision, rest) = token.split_once('|').ok_or_else(gone)?;
            let revision: u64 = revision.parse().map_err(|_| gone())?;
            if revision < store.compacted {
                return Err(gone());
            }
            let (namespace, name) = rest.split_once('|').ok_or_else(gone)?;
            (revision, Some(Key::new(target.info.plural, namespace, name)))
        }
    };
    let all = store.objects.iter().filter(|(key, object)| filter.holds(key, object));
    let mut rest = all.filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
    let page: Vec<(&Key, &Value)> = rest.by_ref().take(limit).collect();
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if rest.next().is_some()
        && let Some((last, _)) = page.last()
    {
        metadata["continue"] = json!(format!("{revision}|{}|{}", last.namespace, last.name));
    }
    // Items of built-in kinds say neither kind nor version, as with a real server.
    let builtin = !target.info.group.contains("istio") && !target.info.group.contains("sail");
    let shown = |object: &Value| {
        let mut object = filter.shown(object);
        if builtin && let Some(map) = object.as_object_mut() {
            map.remove("kind");
            map.remove("apiVersion");
        }
        object
    };
    let items: Vec<Value> = page.iter().map(|(_, object)| shown(object)).collect();
    Ok(json!({"kind": format!("{}List", target.info.kind), "apiVersion": api_version(target.info), "metadata": metadata,
        "items": items}))
}

fn create(store: &mut Store, target: &Target, mut object: Value) -> Result<Value, Failure> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(Failure::new(422, "Invalid", "name or generateName is required"));
    }
    let namespace = target.namespace.clone().unwrap_or_default();
    let key = Key::new(target.info.plural, &namespace, &name);
    if store.get(&key).is_some() {
        let message = format!("{} \"{name}\" already exists", target.info.plural);
        return Err(Failure::new(409, "AlreadyExists", &message));
    }
    if target.info.namespaced {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object["kind"] = json!(target.info.kind);
    object["apiVersion"] = json!(api_version(target.info));
    Ok(store.write(key, object))
}

fn replace(store: &mut Store, key: Key, known: &Value, body: &Value, status_only: bool) -> Result<Value, Failure> {
    let given = &body["metadata"]["resourceVersion"];
    if !given.is_null() && *given != known["metadata"]["resourceVersion"] {
        let message = format!("Operation cannot be fulfilled on {} \"{}\": the object has been modified", key.plural, key.name);
        return Err(Failure::new(409, "Conflict", &message));
    }
    let mut next = if status_only { known.clone() } else { body.clone() };
    let status = if status_only { &body["status"] } else { &known["status"] };
    if !status.is_null() {
        next["status"] = status.clone();
    }
    next["kind"] = known["kind"].clone();
    next["apiVersion"] = known["apiVersion"].clone();
    Ok(if next == *known { next } else { store.write(key, next) })
}

/// A merge patch (RFC 7396), or what comes close to server-side apply: lists of conditions are merged by their type.
fn patch(store: &mut Store, key: Key, known: &Value, body: Value, (manager, status_only): (Option<&str>, bool)) -> Value {
    let mut next = known.clone();
    let mut body = match manager {
        Some(manager) => managed(body, manager),
        None => body,
    };
    if let (true, Some(map)) = (status_only, body.as_object_mut()) {
        map.retain(|key, _| key == "status" || key == "metadata");
    }
    if let Some(map) = body.as_object_mut() {
        map.remove("kind");
        map.remove("apiVersion");
    }
    merge(&mut next, body);
    if next == *known { next } else { store.write(key, next) }
}

fn managed(mut object: Value, manager: &str) -> Value {
    object["metadata"]["managedFields"] = json!([{"manager": manager, "operation": "Apply"}]);
    object
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(known), Value::Object(patch)) => {
            for (key, value) in patch {
                match value {
                    Value::Null => {
                        known.remove(&key);
                    }
                    value if key == "conditions" => merge_conditions(known.entry(key).or_insert(json!([])), value),
                    value => merge(known.entry(key).or_insert(Value::Object(Map::new())), value),
                }
            }
        }
        (into, patch) => *into = patch,
    }
}

fn merge_conditions(into: &mut Value, patch: Value) {
    let (Some(known), Value::Array(patch)) = (into.as_array_mut(), patch) else { return };
    for condition in patch {
        match known.iter_mut().find(|known| known["type"] == condition["type"]) {
            Some(known) => *known = condition,
            None => known.push(condition),
        }
    }
}

pub fn json(status: u16, value: &Value) -> Response {
    Response::builder().status(status).header("content-type", "application/json").body(body_of(value)).unwrap()
}

pub fn failure(failure: &Failure) -> Response {
    json(failure.code, &failure.status())
}

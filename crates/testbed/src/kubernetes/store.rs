//! The objects, their resource versions, and what changed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// A kind that the server knows.
#[derive(Debug)]
pub struct KindInfo {
    /// The API group, empty for the core group.
    pub group: &'static str,
    /// The versions, the stored one first.
    pub versions: &'static [&'static str],
    /// `kind`.
    pub kind: &'static str,
    /// The name in paths.
    pub plural: &'static str,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
}

const fn core(kind: &'static str, plural: &'static str, namespaced: bool) -> KindInfo {
    KindInfo { group: "", versions: &["v1"], kind, plural, namespaced }
}

const fn in_group(group: &'static str, versions: &'static [&'static str], kind: &'static str, plural: &'static str) -> KindInfo {
    KindInfo { group, versions, kind, plural, namespaced: true }
}

const fn of_cluster(group: &'static str, kind: &'static str, plural: &'static str) -> KindInfo {
    KindInfo { group, versions: &["v1"], kind, plural, namespaced: false }
}

const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// All of them.
pub const KINDS: &[KindInfo] = &[
    core("Namespace", "namespaces", false),
    core("Service", "services", true),
    core("Pod", "pods", true),
    core("ServiceAccount", "serviceaccounts", true),
    core("ConfigMap", "configmaps", true),
    core("Secret", "secrets", true),
    in_group("discovery.k8s.io", &["v1"], "EndpointSlice", "endpointslices"),
    in_group("coordination.k8s.io", &["v1"], "Lease", "leases"),
    KindInfo {
        group: "authentication.k8s.io",
        versions: &["v1"],
        kind: "TokenReview",
        plural: "tokenreviews",
        namespaced: false,
    },
    of_cluster("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
    of_cluster("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
    in_group("security.istio.io", &["v1", "v1beta1"], "PeerAuthentication", "peerauthentications"),
    in_group("security.istio.io", &["v1", "v1beta1"], "AuthorizationPolicy", "authorizationpolicies"),
    in_group("security.istio.io", &["v1", "v1beta1"], "RequestAuthentication", "requestauthentications"),
    in_group("networking.istio.io", NETWORKING, "DestinationRule", "destinationrules"),
    in_group("networking.istio.io", NETWORKING, "ServiceEntry", "serviceentries"),
    in_group("networking.istio.io", NETWORKING, "WorkloadEntry", "workloadentries"),
    in_group("networking.istio.io", NETWORKING, "WorkloadGroup", "workloadgroups"),
    in_group("networking.istio.io", NETWORKING, "Sidecar", "sidecars"),
    in_group("networking.istio.io", NETWORKING, "VirtualService", "virtualservices"),
    in_group("networking.istio.io", NETWORKING, "Gateway", "gateways"),
    in_group("networking.istio.io", &["v1alpha3"], "EnvoyFilter", "envoyfilters"),
    KindInfo { group: "sailoperator.io", versions: &["v1"], kind: "Istio", plural: "istios", namespaced: false },
];

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub plural: String,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(plural: &str, namespace: &str, name: &str) -> Self {
        Self { plural: plural.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// A refusal, as a `Status` object says it.
#[derive(Debug)]
pub struct Failure {
    pub code: u16,
    pub reason: String,
    pub message: String,
}

impl Failure {
    pub fn new(code: u16, reason: &str, message: &str) -> Self {
        Self { code, reason: reason.to_owned(), message: message.to_owned() }
    }

    pub fn status(&self) -> Value {
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code})
    }
}

/// Something that changed.
#[derive(Clone, Debug)]
pub struct Event {
    pub revision: u64,
    pub kind: &'static str,
    pub key: Key,
    pub object: Value,
}

/// All of it.
#[derive(Debug)]
pub struct Store {
    pub revision: u64,
    /// Changes up to this one are forgotten.
    pub compacted: u64,
    pub objects: BTreeMap<Key, Value>,
    pub log: Vec<Event>,
    pub uninstalled: BTreeSet<String>,
}

impl Default for Store {
    fn default() -> Self {
        Self { revision: 1, compacted: 0, objects: BTreeMap::new(), log: Vec::new(), uninstalled: BTreeSet::new() }
    }
}

impl Store {
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    /// Creates or replaces.
    pub fn put(&mut self, mut object: Value) -> Result<Value, Failure> {
        let unknown = || Failure::new(404, "NotFound", "no such kind");
        let version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let kind = object["kind"].as_str().unwrap_or_default();
        let info = KINDS.iter().find(|info| info.group == group && info.kind == kind).ok_or_else(unknown)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        let key = Key::new(info.plural, if info.namespaced { &namespace } else { "" }, &name);
        if info.namespaced {
            object["metadata"]["namespace"] = json!(namespace);
        }
        Ok(self.write(key, object))
    }

    /// Writes an object under its key, with the next resource version.
    pub fn write(&mut self, key: Key, mut object: Value) -> Value {
        self.revision += 1;
        let before = self.objects.get(&key);
        let metadata = &mut object["metadata"];
        for (field, value) in [
            ("uid", json!(format!("uid-{}", self.revision))),
            ("creationTimestamp", json!("2026-01-02T03:04:05Z")),
            ("generation", json!(1)),
        ] {
            match before.map(|before| &before["metadata"][field]) {
                Some(known) if !known.is_null() => metadata[field] = known.clone(),
                _ if metadata[field].is_null() => metadata[field] = value,
                _ => {}
            }
        }
        if let Some(before) = before
            && before["spec"] != object["spec"]
        {
            object["metadata"]["generation"] = json!(before["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
        }
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.log.push(Event { revision: self.revision, kind, key: key.clone(), object: object.clone() });
        self.objects.insert(key, object.clone());
        object
    }

    pub fn delete(&mut self, key: &Key) -> Result<Value, Failure> {
        let gone = || Failure::new(404, "NotFound", &format!("{} \"{}\" not found", key.plural, key.name));
        let mut object = self.objects.remove(key).ok_or_else(gone)?;
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.log.push(Event { revision: self.revision, kind: "DELETED", key: key.clone(), object: object.clone() });
        Ok(object)
    }

    pub fn compact(&mut self) {
        self.compacted = self.revision;
        self.log.clear();
    }
}

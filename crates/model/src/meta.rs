//! What every object has: kind, name, namespace, labels, age, and where it was written.

use std::collections::BTreeMap;
use std::fmt;

use crate::Places;
use crate::diagnostic::printable;

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;

/// The kinds that Mutua reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Namespace,
    ServiceAccount,
    Service,
    EndpointSlice,
    Pod,
    Deployment,
    StatefulSet,
    DaemonSet,
    ReplicaSet,
    Job,
    CronJob,
    PeerAuthentication,
    DestinationRule,
    ServiceEntry,
    WorkloadEntry,
    WorkloadGroup,
    Sidecar,
    AuthorizationPolicy,
    RequestAuthentication,
    EnvoyFilter,
    VirtualService,
    Gateway,
    Secret,
    ConfigMap,
    Istio,
}

impl Kind {
    /// The name as in a manifest's `kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, name, _)| name)
    }

    /// The kind of that name, if Mutua reads it.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        KINDS.iter().find(|(_, known, _)| *known == name).map(|(kind, ..)| *kind)
    }

    /// All kinds that Mutua reads.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, ..)| *kind)
    }

    /// Whether objects of this kind live in a namespace.
    #[must_use]
    pub fn namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Istio)
    }

    /// The API group, `""` for the core group.
    #[must_use]
    pub fn group(self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self).map_or("", |(.., group)| group)
    }
}

const KINDS: &[(Kind, &str, &str)] = &[
    (Kind::Namespace, "Namespace", ""),
    (Kind::ServiceAccount, "ServiceAccount", ""),
    (Kind::Service, "Service", ""),
    (Kind::EndpointSlice, "EndpointSlice", "discovery.k8s.io"),
    (Kind::Pod, "Pod", ""),
    (Kind::Deployment, "Deployment", "apps"),
    (Kind::StatefulSet, "StatefulSet", "apps"),
    (Kind::DaemonSet, "DaemonSet", "apps"),
    (Kind::ReplicaSet, "ReplicaSet", "apps"),
    (Kind::Job, "Job", "batch"),
    (Kind::CronJob, "CronJob", "batch"),
    (Kind::PeerAuthentication, "PeerAuthentication", "security.istio.io"),
    (Kind::DestinationRule, "DestinationRule", "networking.istio.io"),
    (Kind::ServiceEntry, "ServiceEntry", "networking.istio.io"),
    (Kind::WorkloadEntry, "WorkloadEntry", "networking.istio.io"),
    (Kind::WorkloadGroup, "WorkloadGroup", "networking.istio.io"),
    (Kind::Sidecar, "Sidecar", "networking.istio.io"),
    (Kind::AuthorizationPolicy, "AuthorizationPolicy", "security.istio.io"),
    (Kind::RequestAuthentication, "RequestAuthentication", "security.istio.io"),
    (Kind::EnvoyFilter, "EnvoyFilter", "networking.istio.io"),
    (Kind::VirtualService, "VirtualService", "networking.istio.io"),
    (Kind::Gateway, "Gateway", "networking.istio.io"),
    (Kind::Secret, "Secret", ""),
    (Kind::ConfigMap, "ConfigMap", ""),
    (Kind::Istio, "Istio", "sailoperator.io"),
];

/// Names one object: `PeerAuthentication bar/default`, for cluster-scoped kinds `Istio default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty for cluster-scoped kinds.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = printable(&self.name);
        if self.kind.namespaced() {
            write!(f, "{} {}/{name}", self.kind.as_str(), printable(&self.namespace))
        } else {
            write!(f, "{} {name}", self.kind.as_str())
        }
    }
}

/// An object's owner (`metadata.ownerReferences`), of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its kind, as written.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// The metadata of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Kind, namespace and name.
    pub object: ObjectRef,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// `metadata.creationTimestamp` in seconds since 1970; `None` counts as older than any timestamp.
    pub created: Option<i64>,
    /// `metadata.ownerReferences`.
    pub owners: Vec<Owner>,
    /// Where it was written.
    pub places: Places,
}

impl Meta {
    /// Metadata with nothing but a name, for objects made by programs and tests.
    #[must_use]
    pub fn named(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            object: ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() },
            labels: Labels::new(),
            annotations: Labels::new(),
            created: None,
            owners: Vec::new(),
            places: Places::default(),
        }
    }

    /// The namespace; empty for cluster-scoped kinds.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.object.namespace
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.object.name
    }

    /// Istio's order of precedence: oldest first, then name, then namespace (`sortConfigByCreationTime`).
    #[must_use]
    pub fn age_order(&self) -> (Option<i64>, &str, &str) {
        (self.created, self.name(), self.namespace())
    }
}

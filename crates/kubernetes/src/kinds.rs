//! What is watched, and what is kept of it.

use kube::core::ApiResource;
use mutua_model::Kind;

/// A kind that is watched.
#[derive(Debug)]
pub struct Watched {
    /// The kind.
    pub kind: Kind,
    /// Its name in paths.
    pub plural: &'static str,
    /// The versions of its API, the one that is asked for first in front.
    versions: &'static [&'static str],
    /// What is kept of an object.
    pub shape: Shape,
    /// Only the object of this name, in the control plane's namespace.
    pub only: Option<&'static str>,
    /// Whether users configure the mesh by it; of other kinds objects come and go by themselves.
    pub configures: bool,
}

impl Watched {
    /// How the API calls it, in each version that may be served.
    pub fn resources(&self) -> Vec<ApiResource> {
        let group = self.kind.group();
        let resource = |version: &&str| ApiResource {
            group: group.to_owned(),
            version: (*version).to_owned(),
            api_version: if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") },
            kind: self.kind.as_str().to_owned(),
            plural: self.plural.to_owned(),
        };
        self.versions.iter().map(resource).collect()
    }
}

const fn exists(kind: Kind, plural: &'static str, shape: Shape) -> Watched {
    Watched { kind, plural, versions: &["v1"], shape, only: None, configures: false }
}

const fn configures(kind: Kind, plural: &'static str, versions: &'static [&'static str]) -> Watched {
    Watched { kind, plural, versions, shape: Shape::Configuration, only: None, configures: true }
}

/// Of a kind that is not enforced it only matters that there is one.
const fn mentioned(kind: Kind, plural: &'static str, versions: &'static [&'static str]) -> Watched {
    Watched { kind, plural, versions, shape: Shape::MetadataOnly, only: None, configures: true }
}

const SECURITY: &[&str] = &["v1", "v1beta1"];
const NETWORKING: &[&str] = &["v1", "v1beta1", "v1alpha3"];

/// What is kept of the objects of a kind.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// That they exist.
    MetadataOnly,
    /// All but the status.
    Configuration,
    /// What makes a Service.
    Service,
    /// Addresses and ports.
    EndpointSlice,
    /// Who it runs as, its addresses and ports.
    Pod,
}

/// Everything that is watched.
pub static WATCHED: &[Watched] = &[
    exists(Kind::Namespace, "namespaces", Shape::MetadataOnly),
    exists(Kind::ServiceAccount, "serviceaccounts", Shape::MetadataOnly),
    exists(Kind::Service, "services", Shape::Service),
    exists(Kind::EndpointSlice, "endpointslices", Shape::EndpointSlice),
    exists(Kind::Pod, "pods", Shape::Pod),
    configures(Kind::PeerAuthentication, "peerauthentications", SECURITY),
    configures(Kind::AuthorizationPolicy, "authorizationpolicies", SECURITY),
    mentioned(Kind::RequestAuthentication, "requestauthentications", SECURITY),
    configures(Kind::DestinationRule, "destinationrules", NETWORKING),
    configures(Kind::ServiceEntry, "serviceentries", NETWORKING),
    configures(Kind::WorkloadEntry, "workloadentries", NETWORKING),
    configures(Kind::Sidecar, "sidecars", NETWORKING),
    mentioned(Kind::WorkloadGroup, "workloadgroups", NETWORKING),
    mentioned(Kind::VirtualService, "virtualservices", NETWORKING),
    mentioned(Kind::Gateway, "gateways", NETWORKING),
    mentioned(Kind::EnvoyFilter, "envoyfilters", &["v1alpha3"]),
    configures(Kind::Istio, "istios", &["v1", "v1alpha1"]),
    Watched {
        kind: Kind::ConfigMap,
        plural: "configmaps",
        versions: &["v1"],
        shape: Shape::Configuration,
        only: Some("istio"),
        configures: true,
    },
];

//! One object by itself: what it adds to a mesh, and what is wrong with it.
//!
//! A source that is told of single objects reads each of them once, as a [`Piece`], and puts all pieces together whenever
//! one has changed ([`super::Loaded::of`]): what did not change is shared.

use std::sync::Arc;

use super::kinds::{self, Recognised};
use super::object;
use super::report::Report;
use super::tree::Node;
use super::{certificates, convert, mesh_config, rules, schema};
use crate::{
    Authorities, AuthorizationPolicy, Controller, DestinationRule, Diagnostic, EndpointSlice, Istio, Kind, Mesh, MeshConfig,
    Meta, Namespace, ObjectRef, PeerAuthentication, Pod, Secret, Service, ServiceEntry, Severity, Sidecar, Unenforced,
    WorkloadEntry,
};

/// One object, read and checked.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Its name.
    pub object: ObjectRef,
    /// What is wrong with it or worth knowing.
    pub diagnostics: Vec<Diagnostic>,
    pub(super) parts: Vec<Part>,
}

impl Piece {
    /// Reads an object as an API server gives it. Its places have no lines, and its own name (`Service shop/front`) in
    /// place of a file. `None` for a kind that Mutua does not read.
    #[must_use]
    pub fn read(value: &serde_json::Value) -> Option<Self> {
        let node = Node::of_json(value);
        let Recognised::Known(kind) = kinds::recognise(&node) else { return None };
        let object = object::object_ref(kind, &node);
        let origin = Arc::from(object.to_string());
        let mut report = Report::new(&origin, Some(object.clone()));
        check(kind, &node, &mut report);
        let meta = object::meta(object.clone(), &node, &origin);
        let parts = Part::of(meta, &node, &mut report);
        Some(Self { object, diagnostics: report.into_diagnostics(), parts })
    }

    /// Whether nothing is wrong with it.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.diagnostics.iter().all(|diagnostic| diagnostic.severity != Severity::Error)
    }
}

/// Checks an object against its schema and Istio's rules.
pub(super) fn check(kind: Kind, node: &Node, report: &mut Report) {
    object::check(kind, node, report);
    schema::check_object(kind, node, report);
    rules::check_object(kind, node, report);
}

/// Something that an object adds to a mesh.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Authorities(Arc<Authorities>),
    AuthorizationPolicy(Arc<AuthorizationPolicy>),
    Controller(Arc<Controller>),
    DestinationRule(Arc<DestinationRule>),
    EndpointSlice(Arc<EndpointSlice>),
    Istio(Arc<Istio>),
    MeshConfig(Arc<MeshConfig>),
    Namespace(Arc<Namespace>),
    PeerAuthentication(Arc<PeerAuthentication>),
    Pod(Arc<Pod>),
    Secret(Arc<Secret>),
    Service(Arc<Service>),
    ServiceAccount(Arc<Meta>),
    ServiceEntry(Arc<ServiceEntry>),
    Sidecar(Arc<Sidecar>),
    Unenforced(Arc<Unenforced>),
    WorkloadEntry(Arc<WorkloadEntry>),
}

impl Part {
    /// What this object adds.
    pub(super) fn of(meta: Meta, node: &Node, report: &mut Report) -> Vec<Self> {
        let mut parts = Vec::with_capacity(1);
        if let Some(certificates) = certificates::of_object(&meta, node) {
            parts.push(Self::Authorities(Arc::new(Authorities { meta: meta.clone(), certificates })));
        }
        let own = match meta.object.kind {
            Kind::Namespace => Some(Self::Namespace(Arc::new(Namespace { meta }))),
            Kind::ServiceAccount => Some(Self::ServiceAccount(Arc::new(meta))),
            Kind::Service => Some(Self::Service(Arc::new(convert::service(meta, node)))),
            Kind::EndpointSlice => Some(Self::EndpointSlice(Arc::new(convert::endpoint_slice(meta, node)))),
            Kind::Pod => Some(Self::Pod(Arc::new(convert::pod(meta, node)))),
            Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet | Kind::ReplicaSet | Kind::Job | Kind::CronJob => {
                Some(Self::Controller(Arc::new(convert::controller(meta, node))))
            }
            Kind::PeerAuthentication => Some(Self::PeerAuthentication(Arc::new(convert::peer_authentication(meta, node)))),
            Kind::DestinationRule => Some(Self::DestinationRule(Arc::new(convert::destination_rule(meta, node)))),
            Kind::ServiceEntry => Some(Self::ServiceEntry(Arc::new(convert::service_entry(meta, node)))),
            Kind::WorkloadEntry => Some(Self::WorkloadEntry(Arc::new(convert::workload_entry(meta, node)))),
            Kind::Sidecar => Some(Self::Sidecar(Arc::new(convert::sidecar(meta, node)))),
            Kind::Secret => Some(Self::Secret(Arc::new(convert::secret(meta, node)))),
            Kind::ConfigMap => {
                let config = mesh_config::of_config_map(&meta, node, report);
                parts.extend(config.map(|config| Self::MeshConfig(Arc::new(config))));
                Some(Self::Secret(Arc::new(convert::secret(meta, node))))
            }
            Kind::Istio => Some(Self::Istio(Arc::new(convert::istio(meta, node)))),
            Kind::AuthorizationPolicy => {
                parts.push(Self::Unenforced(Arc::new(Unenforced { meta: meta.clone() })));
                Some(Self::AuthorizationPolicy(Arc::new(convert::authorization_policy(meta, node))))
            }
            Kind::WorkloadGroup | Kind::RequestAuthentication | Kind::EnvoyFilter | Kind::VirtualService | Kind::Gateway => {
                Some(Self::Unenforced(Arc::new(Unenforced { meta })))
            }
        };
        parts.extend(own);
        parts
    }

    /// Adds it.
    pub(super) fn add_to(self, mesh: &mut Mesh, candidates: &mut mesh_config::Candidates) {
        match self {
            Self::Authorities(part) => mesh.authorities.push(part),
            Self::AuthorizationPolicy(part) => mesh.authorization_policies.push(part),
            Self::Controller(part) => mesh.controllers.push(part),
            Self::DestinationRule(part) => mesh.destination_rules.push(part),
            Self::EndpointSlice(part) => mesh.endpoint_slices.push(part),
            Self::Istio(part) => candidates.add_istio(Arc::unwrap_or_clone(part)),
            Self::MeshConfig(part) => candidates.add_mesh_config(Arc::unwrap_or_clone(part)),
            Self::Namespace(part) => mesh.namespaces.push(part),
            Self::PeerAuthentication(part) => mesh.peer_authentications.push(part),
            Self::Pod(part) => mesh.pods.push(part),
            Self::Secret(part) => mesh.secrets.push(part),
            Self::Service(part) => mesh.services.push(part),
            Self::ServiceAccount(part) => mesh.service_accounts.push(part),
            Self::ServiceEntry(part) => mesh.service_entries.push(part),
            Self::Sidecar(part) => mesh.sidecars.push(part),
            Self::Unenforced(part) => mesh.unenforced.push(part),
            Self::WorkloadEntry(part) => mesh.workload_entries.push(part),
        }
    }
}

#[cfg(test)]
#[path = "piece_tests.rs"]
mod tests;

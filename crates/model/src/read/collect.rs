//! Gathers objects into a mesh.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::kinds::{self, Mistake, Recognised};
use super::object;
use super::report::Report;
use super::tree::Node;
use super::{Loaded, certificates, convert, mesh_config, rules, schema};
use crate::diagnostic::printable;
use crate::{Authorities, Diagnostic, Kind, Mesh, Meta, Namespace, ObjectRef, Place, Severity, Unenforced};

/// Lists inside lists are unpacked this deep.
const MAX_LISTS: usize = 8;

/// What was read so far.
#[derive(Default)]
pub struct Collection {
    mesh: Mesh,
    diagnostics: Vec<Diagnostic>,
    passed_over: BTreeMap<String, usize>,
    seen: BTreeMap<ObjectRef, Seen>,
    candidates: mesh_config::Candidates,
    objects: usize,
}

/// An object that was read, to recognise a second one of its name.
struct Seen {
    place: Place,
    fingerprint: u64,
}

impl Collection {
    /// Adds a document.
    pub fn add(&mut self, file: &Arc<str>, node: &Node) {
        self.add_within(file, node, 0);
    }

    fn add_within(&mut self, file: &Arc<str>, node: &Node, lists: usize) {
        match kinds::recognise(node) {
            Recognised::Known(kind) => self.add_object(kind, file, node),
            Recognised::List if lists < MAX_LISTS => {
                node.get("items").items().iter().for_each(|item| self.add_within(file, item, lists + 1));
            }
            Recognised::List => self.report_text(Severity::Error, file, node, "lists are nested too deep".to_owned()),
            Recognised::Unknown(kind) => {
                if let Some(mistake) = kinds::mistake(node) {
                    self.report_mistake(file, mistake);
                }
                *self.passed_over.entry(kind).or_default() += 1;
            }
            Recognised::No(_) if super::expectations::is_policy_test(node) => {}
            Recognised::No(_) if object::is_foreign(node) => {
                let message = "no Kubernetes object (neither `apiVersion` nor `kind`); passed over".to_owned();
                self.report_text(Severity::Warning, file, node, message);
            }
            Recognised::No(why) => self.report_text(Severity::Error, file, node, why),
        }
    }

    fn report_text(&mut self, severity: Severity, file: &Arc<str>, node: &Node, message: String) {
        let place = Place { file: Arc::clone(file), line: node.at.0, column: node.at.1 };
        self.diagnostics.push(Diagnostic { severity, object: None, path: String::new(), place, message });
    }

    fn report_mistake(&mut self, file: &Arc<str>, mistake: Mistake) {
        let Mistake { severity, path, at: (line, column), message } = mistake;
        let place = Place { file: Arc::clone(file), line, column };
        let message = printable(&message).into_owned();
        self.diagnostics.push(Diagnostic { severity, object: None, path: path.to_owned(), place, message });
    }

    fn add_object(&mut self, kind: Kind, file: &Arc<str>, node: &Node) {
        self.objects += 1;
        let name = object::object_ref(kind, node);
        let mut report = Report::new(file, Some(name.clone()));
        object::check(kind, node, &mut report);
        schema::check_object(kind, node, &mut report);
        rules::check_object(kind, node, &mut report);
        if !self.is_second(&name, file, node, &mut report) {
            let meta = object::meta(name, node, file);
            self.insert(meta, node, &mut report);
        }
        self.diagnostics.extend(report.into_diagnostics());
    }

    /// Whether an object of this name was read before. The same object twice is no mistake; a different one is,
    /// because which of them counts would depend on the order of reading.
    fn is_second(&mut self, name: &ObjectRef, file: &Arc<str>, node: &Node, report: &mut Report) -> bool {
        if node.at_path(&["metadata", "name"]).text().is_none() {
            return false;
        }
        let place = Place { file: Arc::clone(file), line: node.at.0, column: node.at.1 };
        let fingerprint = node.fingerprint();
        let Some(first) = self.seen.get(name) else {
            self.seen.insert(name.clone(), Seen { place, fingerprint });
            return false;
        };
        if first.fingerprint != fingerprint {
            let severity = if decides(name.kind) { Severity::Error } else { Severity::Warning };
            let message = format!("{name} is defined twice; it stands at {} too", first.place);
            report.add(severity, "metadata/name", node.at, &message);
        }
        true
    }

    fn insert(&mut self, meta: Meta, node: &Node, report: &mut Report) {
        let mesh = &mut self.mesh;
        if let Some(certificates) = certificates::of_object(&meta, node) {
            mesh.authorities.push(Arc::new(Authorities { meta: meta.clone(), certificates }));
        }
        match meta.object.kind {
            Kind::Namespace => mesh.namespaces.push(Arc::new(Namespace { meta })),
            Kind::ServiceAccount => mesh.service_accounts.push(Arc::new(meta)),
            Kind::Service => mesh.services.push(Arc::new(convert::service(meta, node))),
            Kind::EndpointSlice => mesh.endpoint_slices.push(Arc::new(convert::endpoint_slice(meta, node))),
            Kind::Pod => mesh.pods.push(Arc::new(convert::pod(meta, node))),
            Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet | Kind::ReplicaSet | Kind::Job | Kind::CronJob => {
                mesh.controllers.push(Arc::new(convert::controller(meta, node)));
            }
            Kind::PeerAuthentication => mesh.peer_authentications.push(Arc::new(convert::peer_authentication(meta, node))),
            Kind::DestinationRule => mesh.destination_rules.push(Arc::new(convert::destination_rule(meta, node))),
            Kind::ServiceEntry => mesh.service_entries.push(Arc::new(convert::service_entry(meta, node))),
            Kind::WorkloadEntry => mesh.workload_entries.push(Arc::new(convert::workload_entry(meta, node))),
            Kind::Sidecar => mesh.sidecars.push(Arc::new(convert::sidecar(meta, node))),
            Kind::Secret => mesh.secrets.push(Arc::new(meta)),
            Kind::ConfigMap => self.candidates.add_config_map(&meta, node, report),
            Kind::Istio => self.candidates.add_istio(convert::istio(meta, node)),
            Kind::AuthorizationPolicy => {
                mesh.unenforced.push(Arc::new(Unenforced { meta: meta.clone() }));
                mesh.authorization_policies.push(Arc::new(convert::authorization_policy(meta, node)));
            }
            Kind::WorkloadGroup | Kind::RequestAuthentication | Kind::EnvoyFilter | Kind::VirtualService | Kind::Gateway => {
                mesh.unenforced.push(Arc::new(Unenforced { meta }));
            }
        }
    }

    /// The whole, with the mesh configuration in force and the diagnostics in order.
    #[must_use]
    pub fn finish(mut self, texts: usize) -> Loaded {
        let config = self.candidates.choose(&mut self.diagnostics);
        self.mesh.config = config;
        self.mesh.passed_over = self.passed_over.values().sum();
        self.diagnostics.sort_by(|a, b| (&a.place, &a.path, b.severity).cmp(&(&b.place, &b.path, a.severity)));
        Loaded { mesh: self.mesh, diagnostics: self.diagnostics, objects: self.objects, texts, passed_over: self.passed_over }
    }
}

/// Whether objects of this kind decide on how connections are protected.
fn decides(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::ServiceAccount
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::WorkloadGroup
            | Kind::RequestAuthentication
            | Kind::EnvoyFilter
            | Kind::VirtualService
            | Kind::Gateway
    )
}

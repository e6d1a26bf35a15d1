//! Gathers objects into a mesh.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::kinds::{self, Mistake, Recognised};
use super::object;
use super::piece::{Part, Piece, check};
use super::report::Report;
use super::tree::Node;
use super::{Loaded, mesh_config};
use crate::diagnostic::printable;
use crate::{Diagnostic, Kind, Mesh, MeshConfig, ObjectRef, Place, Severity};

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
        check(kind, node, &mut report);
        if !self.is_second(&name, file, node, &mut report) {
            let meta = object::meta(name, node, file);
            self.take(Part::of(meta, node, &mut report));
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

    /// Adds an object that was read by itself.
    pub fn add_piece(&mut self, piece: &Piece) {
        self.objects += 1;
        self.take(piece.parts.iter().cloned());
        self.diagnostics.extend(piece.diagnostics.iter().cloned());
    }

    fn take(&mut self, parts: impl IntoIterator<Item = Part>) {
        for part in parts {
            part.add_to(&mut self.mesh, &mut self.candidates);
        }
    }

    /// The whole, with the mesh configuration in force and the diagnostics in order.
    #[must_use]
    pub fn finish(mut self, texts: usize) -> Loaded {
        let config = self.candidates.choose(&mut self.diagnostics);
        self.mesh.config = config;
        if !self.mesh.discover() {
            self.diagnostics.extend(unseen_root(&self.mesh.config));
        }
        self.mesh.passed_over = self.passed_over.values().sum();
        self.diagnostics.sort_by(|a, b| (&a.place, &a.path, b.severity).cmp(&(&b.place, &b.path, a.severity)));
        Loaded { mesh: self.mesh, diagnostics: self.diagnostics, objects: self.objects, texts, passed_over: self.passed_over }
    }
}

/// The root namespace is not selected: nothing that stands there for the whole mesh counts.
fn unseen_root(config: &MeshConfig) -> Option<Diagnostic> {
    let meta = config.from.as_ref()?;
    let path = format!("{}/discoverySelectors", config.path);
    let message = format!(
        "no selector selects the root namespace {}: policies for the whole mesh that stand there do not count; label it, or add \
         a selector",
        config.root_namespace
    );
    let place = meta.places.of(&path);
    Some(Diagnostic { severity: Severity::Warning, object: Some(meta.object.clone()), path, place, message })
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

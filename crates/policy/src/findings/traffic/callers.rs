//! Who is refused once servers are STRICT: workloads without a sidecar, which have nothing but plaintext.

use std::collections::BTreeMap;
use std::sync::Arc;

use mutua_model::{Kind, MtlsMode, PeerAuthentication};

use super::faces::{Cache, Face};
use crate::engine::Engine;
use crate::findings::Findings;
use crate::injection;
use crate::service::Service;
use crate::workload::Workload;

/// How many workloads a message names.
const NAMED: usize = 3;

/// Workloads that can send plaintext only, and the ports that were found to refuse it.
pub(super) struct Callers<'e> {
    engine: &'e Engine,
    callers: Vec<&'e Workload>,
    /// The first port, by the policy and field that make it STRICT.
    refusing: BTreeMap<(*const PeerAuthentication, String), (Arc<PeerAuthentication>, String)>,
}

impl<'e> Callers<'e> {
    pub(super) fn new(engine: &'e Engine) -> Self {
        let root = &engine.mesh().config.root_namespace;
        // What belongs to the cluster or the control plane does not call services of the mesh; a WorkloadEntry is called.
        let calls = |one: &&Workload| {
            let outside = injection::is_system(&one.namespace) || one.namespace == *root || one.kind == Kind::WorkloadEntry;
            one.counts && !one.sidecar && !outside
        };
        Self { engine, callers: engine.workloads().iter().filter(calls).collect(), refusing: BTreeMap::new() }
    }

    /// Looks at a port of a service, by position.
    pub(super) fn meet(&mut self, service: &Service, (at, position): (usize, usize), cache: &mut Cache<'e>) {
        if self.callers.is_empty() || service.external {
            return;
        }
        for face in cache.of(self.engine, at, position).iter().filter(|face| face.mode == Some(MtlsMode::Strict)) {
            self.refuses(service, service.ports[position].number, face);
        }
    }

    fn refuses(&mut self, service: &Service, port: u16, face: &Face<'_>) {
        let effective = self.engine.endpoint_accepts(face.endpoint);
        let Some((policy, path)) = effective.decided(face.port) else { return };
        let key = (Arc::as_ptr(policy), path.clone());
        let first = || (Arc::clone(policy), format!("{}:{port} ({})", service.host, face.name(self.engine)));
        self.refusing.entry(key).or_insert_with(first);
    }

    /// MUT0026, by policy and field.
    pub(super) fn tell(self, out: &mut Findings) {
        let names: Vec<String> = self.callers.iter().map(|one| one.full_name()).collect();
        for ((_, path), (policy, target)) in &self.refusing {
            let message = format!("{} no sidecar: what they send to {target} is plaintext, which STRICT refuses", have(&names));
            out.add("MUT0026", &policy.meta, path, message, sidecars_to_paste(self.engine, &self.callers));
        }
    }
}

/// `a, b and 3 more have`.
pub(in crate::findings) fn have(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let verb = if names.len() == 1 { "has" } else { "have" };
    format!("{}{more} {verb}", names[..names.len().min(NAMED)].join(", "))
}

/// What gives these workloads sidecars: their namespaces with the label that asks for them.
pub(in crate::findings) fn sidecars_to_paste(engine: &Engine, workloads: &[&Workload]) -> String {
    let labelled = |namespace: &str| {
        let known = engine.mesh().namespaces.iter().find(|one| one.meta.name() == namespace);
        known.is_some_and(|one| injection::is_asked_for(&one.meta.labels))
    };
    let mut namespaces: Vec<&str> = workloads.iter().map(|one| one.namespace.as_str()).collect();
    namespaces.dedup();
    namespaces.retain(|namespace| !labelled(namespace));
    if namespaces.is_empty() {
        return "remove `sidecar.istio.io/inject: \"false\"` from their pod templates, and restart them".to_owned();
    }
    let one = |namespace: &&str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n  labels:\n    istio-injection: enabled # then restart its pods\n"
        )
    };
    namespaces.iter().take(NAMED).map(one).collect::<Vec<_>>().join("---\n")
}

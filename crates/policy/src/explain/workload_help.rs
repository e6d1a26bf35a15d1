//! What can be done about what a workload accepts, by what decided it.

use std::collections::BTreeSet;

use mutua_model::{Kind, MtlsMode};

use crate::engine::Engine;
use crate::injection;
use crate::peer_authentication::Effective;
use crate::trace::Step;
use crate::workload::Workload;

impl Engine {
    /// One sentence for each thing; the gravest first.
    pub(super) fn workload_help(&self, at: usize, trace: &[Step]) -> Vec<String> {
        let (workload, effective) = (&self.workloads()[at], self.accepts(at));
        let mut help = Vec::new();
        if !workload.sidecar {
            help.extend(self.without_sidecar(workload));
        }
        help.extend(trace.iter().filter_map(|step| ignored(step, workload)));
        help.extend(self.service_ports(at, effective));
        if workload.sidecar {
            help.extend(self.senders(workload, effective));
            help.extend(in_clear(workload, effective));
        }
        help
    }

    fn without_sidecar(&self, workload: &Workload) -> Option<String> {
        let Workload { namespace, kind, .. } = workload;
        let name = workload.full_name();
        if injection::is_system(namespace) {
            return Some(format!("nothing is ever injected in {namespace}: run {name} in another namespace"));
        }
        if *kind == Kind::WorkloadEntry {
            return Some(format!("run a sidecar beside {name}, and name its serviceAccount in the WorkloadEntry"));
        }
        let known = self.mesh().namespaces.iter().find(|one| one.meta.name() == namespace);
        Some(match known.is_some_and(|one| injection::is_asked_for(&one.meta.labels)) {
            true => format!(
                "namespace {namespace} asks for sidecars: restart {name}, and look for sidecar.istio.io/inject on its pods"
            ),
            false => format!("label namespace {namespace} istio-injection: enabled, and restart {name}"),
        })
    }

    /// `portLevelMtls` with the number of a Service's port that the workload does not listen on.
    fn service_ports(&self, at: usize, effective: &Effective) -> Vec<String> {
        let mut wrong = BTreeSet::new();
        for (service, endpoint) in self.services_of(at) {
            for (declared, target) in service.ports.iter().zip(&endpoint.ports) {
                let Some(target) = target.filter(|target| *target != declared.number) else { continue };
                let own = self.services_of(at).any(|(_, other)| other.ports.contains(&Some(declared.number)));
                if let (Some((_, Some((policy, _)))), false) = (effective.ports.get(&declared.number), own) {
                    wrong.insert(format!(
                        "write {target} instead of {} in portLevelMtls of {}: that is the port of {}, the workload's is {target}",
                        declared.number, policy.meta.object, service.meta.object
                    ));
                }
            }
        }
        wrong.into_iter().collect()
    }

    /// Who sends plaintext to a STRICT workload because of its namespace.
    fn senders(&self, workload: &Workload, effective: &Effective) -> Option<String> {
        let namespace = &workload.namespace;
        let judged = self.policies.namespace_mode(namespace) == MtlsMode::Disable && self.mesh().config.enable_auto_mtls;
        (judged && effective.mode == MtlsMode::Strict).then(|| {
            let deciding = self.policies.namespace_mode_steps(namespace).pop().map(|step| step.object).unwrap_or_default();
            format!("clients judge by {deciding}, send plaintext and are refused: set it to PERMISSIVE, or add a DestinationRule with mode: ISTIO_MUTUAL")
        })
    }
}

/// A policy that was meant and does not count.
fn ignored(step: &Step, workload: &Workload) -> Option<String> {
    let object = &step.object;
    match &*step.rule {
        "peer-authentication.root-selector" => {
            Some(format!("move {object} to namespace {}, where its selector counts", workload.namespace))
        }
        rule if rule.ends_with("-ignored") => {
            Some(format!("merge {object} into the older policy, or delete it: nothing of it counts"))
        }
        _ => None,
    }
}

/// What makes it refuse plaintext, or take mutual TLS at all.
fn in_clear(workload: &Workload, effective: &Effective) -> Option<String> {
    let (name, namespace) = (workload.full_name(), &workload.namespace);
    let deciding = effective.by.as_ref().map(|(policy, _)| policy);
    match (effective.mode, deciding) {
        (MtlsMode::Strict, _) => None,
        (MtlsMode::Permissive, Some(policy)) => {
            Some(format!("set {} to STRICT, and {name} refuses plaintext", policy.meta.object))
        }
        (MtlsMode::Permissive, None) => {
            Some(format!("add a PeerAuthentication with mode: STRICT to namespace {namespace}, and {name} refuses plaintext"))
        }
        (MtlsMode::Disable, Some(policy)) => {
            Some(format!("set {} to PERMISSIVE, and {name} is called with mutual TLS", policy.meta.object))
        }
        (MtlsMode::Disable, None) => None,
    }
}

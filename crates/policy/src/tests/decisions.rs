//! Kept decisions: they are the engine's own, and a change computes no more than what it touches.

use std::sync::Arc;

use mutua_model::{Labels, Mesh, MtlsMode};

use super::generated;
use crate::{Decisions, Engine};

fn changed(mesh: &Mesh, namespace: &str, mode: MtlsMode) -> Mesh {
    let mut next = mesh.clone();
    let policy = generated::policy(namespace, "default", Labels::new(), Some(mode));
    next.peer_authentications.retain(|one| one.meta.object != policy.meta.object);
    next.peer_authentications.push(policy);
    next
}

/// Every answer, as text.
fn answers(decisions: &Decisions) -> Vec<String> {
    let engine = decisions.engine();
    let mut all: Vec<String> = engine.workloads().iter().map(|one| format!("{:?}", decisions.inbound(one))).collect();
    for client in engine.workloads().iter().step_by(generated::PER_NAMESPACE / 2) {
        for service in engine.services.iter() {
            for port in &service.ports {
                let kept = decisions.client(&client.namespace, &service.host, port.number).expect("kept");
                let asked = engine.client_decision(client, &service.host, port.number).expect("decided");
                assert_eq!((kept.mode, kept.auto, &kept.sni), (asked.mode, asked.auto, &asked.sni), "{}", service.host);
                all.push(format!("{kept:?}"));
            }
        }
    }
    all
}

#[test]
fn kept_decisions_are_those_of_the_engine() {
    let decisions = Decisions::new(Engine::new(Arc::new(generated::mesh(4))));
    let engine = decisions.engine();
    for workload in engine.workloads() {
        assert_eq!(decisions.inbound(workload), Some(&engine.inbound(workload)));
    }
    assert!(!answers(&decisions).is_empty());
}

#[test]
fn after_any_change_of_policies_kept_decisions_are_those_of_a_new_computation() {
    let mesh = generated::mesh(4);
    let before = Decisions::new(Engine::new(Arc::new(mesh.clone())));
    let mut removed = mesh.clone();
    removed.peer_authentications.retain(|policy| policy.meta.namespace() != "team-0000");
    let in_root = changed(&mesh, "istio-system", MtlsMode::Strict);
    for next in [changed(&mesh, "team-0001", MtlsMode::Disable), changed(&mesh, "nobody", MtlsMode::Strict), removed, in_root] {
        let kept = before.next(Arc::new(next.clone()));
        assert_eq!(answers(&kept), answers(&Decisions::new(Engine::new(Arc::new(next)))));
    }
}

/// The work of a full computation grows with the mesh, that of a change with what it touches.
#[test]
fn a_change_of_a_namespace_computes_that_namespace_whatever_the_size_of_the_mesh() {
    let mut of_changes = Vec::new();
    for namespaces in [4, 40] {
        let mesh = generated::mesh(namespaces);
        let all = Decisions::new(Engine::new(Arc::new(mesh.clone())));
        assert_eq!(all.work().workloads, namespaces * generated::PER_NAMESPACE);
        // Two ports of each service, and more for namespaces with rules of their own for it.
        let ports = namespaces * generated::SERVICES * 2;
        assert!((ports..3 * ports).contains(&all.work().decisions), "{:?} for {ports} ports", all.work());
        let one = all.next(Arc::new(changed(&mesh, "team-0003", MtlsMode::Disable)));
        assert_eq!(one.work().workloads, generated::PER_NAMESPACE);
        of_changes.push(one.work().decisions);
        let none = one.next(Arc::clone(one.engine().mesh()));
        assert_eq!((none.work().workloads, none.work().decisions), (0, 0), "nothing changed");
    }
    assert_eq!(of_changes[0], of_changes[1]);
}

//! What single objects do that one does not expect of them.

use mutua_model::{ClientTlsMode, DestinationRule, Kind, Mesh, MtlsMode, PeerAuthentication, TrafficPolicy};

use super::Findings;
use super::index::TLS_MODE;
use super::paste;
use super::traffic::callers::{have, sidecars_to_paste};
use crate::engine::Engine;
use crate::workload::Workload;

pub(super) fn check(engine: &Engine, out: &mut Findings) {
    let mesh = engine.mesh();
    for rule in &mesh.destination_rules {
        levels(mesh, rule, out);
    }
    for policy in &mesh.peer_authentications {
        says_nothing(policy, out);
    }
    labels(mesh, out);
    unenforced(mesh, out);
    without_sidecar(engine, out);
}

/// MUT0020 and MUT0021, at the level of the rule and of its subsets.
fn levels(mesh: &Mesh, rule: &DestinationRule, out: &mut Findings) {
    for (path, policy) in rule.policies() {
        let outer = rule.policy.as_ref().filter(|outer| !std::ptr::eq(*outer, policy));
        level((mesh, rule), &path, policy, outer, out);
    }
}

fn level(
    (mesh, rule): (&Mesh, &DestinationRule),
    path: &str,
    policy: &TrafficPolicy,
    outer: Option<&TrafficPolicy>,
    out: &mut Findings,
) {
    for (path, tls) in policy.tls_at(path) {
        if tls.mode == ClientTlsMode::Disable && !rule.meta.places.holds(&format!("{path}/mode")) && rule.meta.places.holds(&path)
        {
            let message = "tls without mode is DISABLE: clients send plaintext, and automatic mTLS does not decide".to_owned();
            out.add("MUT0020", &rule.meta, &path, message, paste::mesh_tls(mesh, rule, &path));
        }
    }
    let Some(inherited) = policy.tls.as_ref().or_else(|| outer?.tls.as_ref()) else { return };
    for (at, (number, _)) in policy.ports.iter().enumerate().filter(|(_, (_, port))| port.tls.is_none()) {
        let then = match inherited.mode {
            ClientTlsMode::Disable => "automatic mTLS builds the connection, and the endpoints are plaintext all the same",
            _ => "automatic mTLS decides for it, or nothing does",
        };
        let message =
            format!("port {number} does not inherit tls mode {}: an entry for a port counts whole; {then}", inherited.mode);
        out.add("MUT0021", &rule.meta, &format!("{path}/portLevelSettings[{at}]"), message, paste::tls(inherited));
    }
}

/// MUT0022.
fn says_nothing(policy: &PeerAuthentication, out: &mut Findings) {
    if policy.mode.is_none() && policy.ports.values().all(Option::is_none) {
        let message = "no mode is set, so everything is inherited and this policy changes nothing".to_owned();
        out.add("MUT0022", &policy.meta, "spec/mtls/mode", message, paste::delete(std::iter::once(&policy.meta.object)));
    }
}

/// MUT0023.
fn labels(mesh: &Mesh, out: &mut Findings) {
    let pods = mesh.pods.iter().filter(|pod| !pod.ended).map(|pod| (&pod.meta, &pod.meta.labels, "metadata/labels"));
    let controllers = mesh.controllers.iter().map(|one| (&one.meta, &one.labels, "spec/template/metadata/labels"));
    for (meta, labels, path) in pods.chain(controllers) {
        let Some(value) = labels.get(TLS_MODE).filter(|value| !matches!(value.as_str(), "istio" | "disabled")) else { continue };
        let message = format!("{TLS_MODE}: {value} means nothing; only istio marks a workload that speaks the mesh's TLS");
        out.add("MUT0023", meta, path, message, format!("{TLS_MODE}: istio"));
    }
}

/// MUT0024.
fn unenforced(mesh: &Mesh, out: &mut Findings) {
    for object in mesh.unenforced.iter().filter(|object| object.meta.object.kind != Kind::WorkloadGroup) {
        let kind = object.meta.object.kind.as_str();
        let message = format!("{kind} is read, and nothing enforces it");
        let fix = format!("do not count on this {kind}");
        out.add("MUT0024", &object.meta, "", message, fix);
    }
}

/// MUT0025: STRICT where nothing enforces it, by policy.
fn without_sidecar(engine: &Engine, out: &mut Findings) {
    let mut by_policy: std::collections::BTreeMap<*const PeerAuthentication, (_, Vec<&Workload>)> =
        std::collections::BTreeMap::new();
    for (at, workload) in engine.workloads().iter().enumerate().filter(|(_, one)| one.counts && !one.sidecar) {
        let effective = engine.accepts(at);
        if effective.mode != MtlsMode::Strict {
            continue;
        }
        let Some((policy, _)) = &effective.by else { continue };
        let (_, bare) = by_policy.entry(std::sync::Arc::as_ptr(policy)).or_insert_with(|| (policy.clone(), Vec::new()));
        bare.push(workload);
    }
    for (policy, bare) in by_policy.into_values() {
        let names: Vec<String> = bare.iter().map(|one| one.full_name()).collect();
        let message = format!("{} no sidecar: STRICT is not enforced there, plaintext reaches them", have(&names));
        out.add("MUT0025", &policy.meta, "spec/mtls/mode", message, sidecars_to_paste(engine, &bare));
    }
}

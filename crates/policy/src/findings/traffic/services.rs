//! Services for which automatic mTLS does less than one thinks.

use mutua_model::{AppProtocol, ClientTlsMode, MtlsMode};

use super::STRANGER;
use super::callers::sidecars_to_paste;
use super::faces::{Cache, Face};
use crate::client::ClientDecision;
use crate::engine::Engine;
use crate::findings::{Findings, paste};
use crate::service::{self, CANONICAL_ACCOUNTS, Service};
use crate::workload;

pub(super) fn check<'e>(engine: &'e Engine, at: usize, cache: &mut Cache<'e>, out: &mut Findings) {
    let service = &engine.services[at];
    without_address(service, out);
    for (position, port) in service.ports.iter().enumerate().filter(|(_, port)| port.protocol != AppProtocol::Udp) {
        let rule = engine.candidates(STRANGER, service).into_iter().find(|rule| !rule.selects());
        let faces = cache.of(engine, at, position);
        if faces.is_empty() {
            continue;
        }
        let ruled = rule.is_some_and(|rule| crate::destination_rule::tls::of_cluster(rule, port.number, None).is_some());
        if !ruled {
            let decision = engine.decide(service, rule, (position, port.number), None);
            by_auto(engine, (service, port.number), &decision, faces, out);
        }
        if faces.iter().any(|face| face.istio) && !service.external && service.identities.is_empty() {
            anyone(engine, service, out);
        }
    }
}

/// What automatic mTLS (or its absence) makes of a port.
fn by_auto(engine: &Engine, (service, port): (&Service, u16), decision: &ClientDecision, faces: &[Face<'_>], out: &mut Findings) {
    let with_sidecar = faces.iter().find(|face| face.mode.is_some());
    let host = &service.host;
    if service.external {
        if let Some(face) = with_sidecar.filter(|face| face.endpoint.workload.is_some() || face.istio) {
            let message = format!(
                "{host} counts as outside the mesh, so clients send plaintext to {}, which has a sidecar",
                face.name(engine)
            );
            out.add("MUT0015", &service.meta, "spec/location", message, "location: MESH_INTERNAL".to_owned());
        }
        return;
    }
    if decision.uniform {
        original_destination(engine, (service, port), decision, faces, out);
    }
    if !engine.mesh().config.enable_auto_mtls {
        auto_is_off(engine, service, faces, out);
    }
}

/// MUT0016 and MUT0017: where the original address is dialled, all endpoints get the same.
fn original_destination(
    engine: &Engine,
    (service, port): (&Service, u16),
    decision: &ClientDecision,
    faces: &[Face<'_>],
    out: &mut Findings,
) {
    let path = if service.entry { "spec/resolution" } else { "spec/clusterIP" };
    let bare = faces.iter().find(|face| workload::is_disabled(&face.endpoint.tls_mode));
    let with_sidecar = faces.iter().find(|face| face.istio && face.mode != Some(MtlsMode::Disable));
    if let (ClientTlsMode::Disable, Some(bare), Some(other)) = (decision.mode, bare, with_sidecar)
        && engine.mesh().config.enable_auto_mtls
    {
        let message = format!(
            "{} port {port} dials endpoints by their own address; because {} has no sidecar, clients send plaintext to all, {} too",
            service.host,
            bare.name(engine),
            other.name(engine)
        );
        let fix = match bare.endpoint.workload {
            Some(at) => sidecars_to_paste(engine, &[&engine.workloads()[at]]),
            None => "give every endpoint a sidecar".to_owned(),
        };
        out.add("MUT0016", &service.meta, path, message, fix);
    }
    let disabled = faces.iter().find(|face| face.mode == Some(MtlsMode::Disable));
    if let (ClientTlsMode::IstioMutual, true, Some(face)) = (decision.mode, decision.auto, disabled) {
        let effective = engine.endpoint_accepts(face.endpoint);
        let Some((policy, path)) = effective.decided(face.port) else { return };
        let message = format!(
            "{} is in DISABLE mode, but clients of {} dial it by its own address and send mutual TLS all the same: it fails",
            face.name(engine),
            service.host
        );
        out.add("MUT0017", &policy.meta, path, message, "mode: PERMISSIVE".to_owned());
    }
}

/// MUT0012: nothing makes clients send TLS, and a server insists.
fn auto_is_off(engine: &Engine, service: &Service, faces: &[Face<'_>], out: &mut Findings) {
    let Some(face) = faces.iter().find(|face| face.mode == Some(MtlsMode::Strict)) else { return };
    let effective = engine.endpoint_accepts(face.endpoint);
    let Some((policy, path)) = effective.decided(face.port) else { return };
    let message = format!(
        "automatic mTLS is off and no DestinationRule sends mutual TLS to {}: {} refuses its clients",
        service.host,
        face.name(engine)
    );
    let fix = paste::rule(engine.mesh(), &service.namespace, &service.host, "ISTIO_MUTUAL");
    out.add("MUT0012", &policy.meta, path, message, fix);
}

/// MUT0018.
fn anyone(engine: &Engine, service: &Service, out: &mut Findings) {
    let message = format!("no account of {} is known, so clients accept any identity of the mesh for it", service.host);
    let identity = service::identity(&engine.mesh().config.trust_domain, &service.namespace, "ACCOUNT");
    let fix = if service.entry {
        format!("subjectAltNames: [{identity:?}]")
    } else {
        format!("metadata:\n  annotations:\n    {CANONICAL_ACCOUNTS}: {identity:?}\n")
    };
    out.add("MUT0018", &service.meta, "spec", message, fix);
}

/// MUT0019: a host is found by its address only.
fn without_address(service: &Service, out: &mut Findings) {
    if !service.entry || !service.addresses.is_empty() || service.allocated.is_some() {
        return;
    }
    let message = format!(
        "{} has no addresses and can be given none, so sidecars pass its connections on as to a stranger: without TLS",
        service.host
    );
    let fix = "write under spec/addresses what the host's name resolves to".to_owned();
    out.add("MUT0019", &service.meta, "spec/addresses", message, fix);
}

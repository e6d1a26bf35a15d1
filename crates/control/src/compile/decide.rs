//! The policy engine's decisions in the words of the wire. Nothing is decided here.

use std::collections::HashSet;

use mutua_model::{AppProtocol, Kind, OutboundPolicy, SecretText};
use mutua_policy::{
    ClientClass, Credential, DestinationEndpoint, DestinationPort, Engine, InboundPort, NoCredential, TlsSettings, Workload,
};
use mutua_wire::mesh;

use super::{convert, labels};
use crate::names::WorkloadName;
use crate::world::{Member, Snapshot};

/// The workloads that a proxy can stand for. A controller gives way to a pod or WorkloadEntry of its name.
pub fn members(engine: &Engine) -> Vec<Member> {
    let mut taken = HashSet::new();
    let (mut own, controllers): (Vec<_>, Vec<_>) =
        engine.workloads().iter().enumerate().partition(|(_, one)| matches!(one.kind, Kind::Pod | Kind::WorkloadEntry));
    own.extend(controllers);
    let first = own.into_iter().filter(|(_, one)| taken.insert((&one.namespace, &one.name)));
    first.map(|(position, one)| member(position, one)).collect()
}

fn member(position: usize, workload: &Workload) -> Member {
    Member {
        name: WorkloadName::new(&workload.namespace, &workload.name),
        position,
        account: account(workload).to_owned(),
        addresses: workload.addresses.clone(),
        sidecar: workload.sidecar,
        labels: labels_of(workload),
    }
}

/// A workload that names no account runs as `default`.
fn account(workload: &Workload) -> &str {
    if workload.service_account.is_empty() { "default" } else { &workload.service_account }
}

fn labels_of(workload: &Workload) -> mesh::WorkloadLabels {
    labels::workload_labels(&workload.name, &workload.namespace, account(workload), &workload.labels)
}

fn workload<'s>(snapshot: &'s Snapshot, member: &Member) -> &'s Workload {
    &snapshot.engine.workloads()[member.position]
}

/// What its receiver accepts. `member` is of `snapshot`.
pub fn inbound(snapshot: &Snapshot, member: &Member) -> mesh::InboundPolicy {
    let inbound = snapshot.engine.inbound(workload(snapshot, member));
    mesh::InboundPolicy {
        workload: member.name.to_string(),
        mode: convert::mode(inbound.mode).into(),
        decided_by: inbound.decided_by,
        ports: inbound.ports.into_iter().map(inbound_port).collect(),
        trust_domains: inbound.trust_domains,
        min_tls: convert::tls_version(inbound.min_tls).into(),
        cipher_suites: inbound.cipher_suites,
        labels: Some(member.labels.clone()),
    }
}

fn inbound_port(port: InboundPort) -> mesh::InboundPort {
    let service = port.service.unwrap_or_default();
    mesh::InboundPort {
        port: port.port.into(),
        mode: convert::mode(port.mode).into(),
        protocol: convert::protocol(port.protocol).into(),
        decided_by: port.decided_by,
        service_host: service.host,
        service_name: service.name,
        service_namespace: service.namespace,
    }
}

/// Which other clients get the same destinations. `member` is of `snapshot`.
pub fn client_class(snapshot: &Snapshot, member: &Member) -> ClientClass {
    snapshot.engine.client_class(workload(snapshot, member))
}

/// Everything its sender can reach. `member` is of `snapshot`.
pub fn destinations(snapshot: &Snapshot, member: &Member) -> Vec<mesh::Destination> {
    let all = snapshot.engine.destinations(workload(snapshot, member));
    let destination = |one: mutua_policy::Destination| mesh::Destination {
        host: one.host,
        name: one.name,
        namespace: one.namespace,
        addresses: one.addresses,
        allocated: one.allocated,
        one_address: one.one_address,
        ports: one
            .ports
            .into_iter()
            .filter(|port| port.protocol != AppProtocol::Udp)
            .map(|port| self::port(snapshot, port))
            .collect(),
        by_endpoint: one.by_endpoint,
        passthrough: one.passthrough,
    };
    all.into_iter().map(destination).collect()
}

fn port(snapshot: &Snapshot, port: DestinationPort) -> mesh::DestinationPort {
    mesh::DestinationPort {
        port: port.port.into(),
        protocol: convert::protocol(port.protocol).into(),
        tls: Some(tls(port.tls)),
        endpoints: port.endpoints.into_iter().map(|one| endpoint(snapshot, one)).collect(),
        decided_by: port.decided_by,
    }
}

fn tls(tls: TlsSettings) -> mesh::ClientTls {
    let files = tls.files.unwrap_or_default();
    mesh::ClientTls {
        mode: convert::client_tls_mode(tls.mode).into(),
        sni: tls.sni.unwrap_or_default(),
        subject_alt_names: tls.subject_alt_names,
        from_host_header: tls.from_host_header,
        client_certificate: files.client_certificate,
        private_key: files.private_key,
        ca_certificates: files.ca_certificates,
        ca_crl: files.ca_crl,
        insecure_skip_verify: files.insecure_skip_verify,
        auto: tls.auto,
        trust_domains: tls.trust_domains,
        credential_name: files.credential_name,
        credential: tls.credential.map(credential),
    }
}

fn credential(found: Result<Credential, NoCredential>) -> mesh::Credential {
    let text = |value: Option<SecretText>| value.map(|text| text.get().to_owned()).unwrap_or_default();
    match found {
        Ok(found) => mesh::Credential {
            certificate: text(found.certificate),
            private_key: text(found.private_key),
            roots: text(found.roots),
            revocation_list: text(found.revocation_list),
            problem: String::new(),
        },
        Err(why) => mesh::Credential { problem: why.to_string(), ..mesh::Credential::default() },
    }
}

fn endpoint(snapshot: &Snapshot, endpoint: DestinationEndpoint) -> mesh::Endpoint {
    let workload = endpoint.workload.map(|position| &snapshot.engine.workloads()[position]);
    mesh::Endpoint {
        address: endpoint.address,
        port: endpoint.port.into(),
        workload: workload.map(Workload::full_name).unwrap_or_default(),
        tls: endpoint.tls,
        labels: workload.map(labels_of),
    }
}

/// What happens to destinations its sender does not know. `member` is of `snapshot`.
pub fn outbound_policy(snapshot: &Snapshot, member: &Member) -> OutboundPolicy {
    snapshot.engine.outbound_policy(workload(snapshot, member))
}

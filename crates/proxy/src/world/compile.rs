//! From the wire's messages to the types that connections use. Every check is here: what gets through can be used.

use std::sync::Arc;

use ipnet::IpNet;
use mutua_identity::{Algorithms, Compliance, IdentityError, MinVersion, PeerExpectation, TrustBundle, TrustDomain};
use mutua_wire::mesh;

use super::types::{
    Address, ClientMode, ClientTls, Credential, Destination, DestinationPort, Endpoint, Expected, Inbound, InboundPort, Labels,
    Mode, Protocol, ServerTls,
};

/// Why a resource cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// An enum value of a newer control plane, or none.
    #[error("{field}: value {value} is not known to this proxy")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Its number.
        value: i32,
    },
    /// A port that is none.
    #[error("{0} is no port")]
    Port(u32),
    /// An address that is none.
    #[error("{0:?} is no address or prefix")]
    Address(String),
    /// A trust domain that is none.
    #[error("trust domain: {0}")]
    TrustDomain(#[from] mutua_identity::SpiffeIdError),
}

/// The algorithms that every connection of the proxy is held to.
pub(super) fn algorithms(settings: &mesh::ProxySettings) -> Result<Algorithms, CompileError> {
    let compliance = match mesh::Compliance::try_from(settings.compliance) {
        Ok(mesh::Compliance::None) => Compliance::None,
        Ok(mesh::Compliance::Fips1402) => Compliance::Fips140_2,
        Ok(mesh::Compliance::Fips1403) => Compliance::Fips140_3,
        Ok(mesh::Compliance::Pqc) => Compliance::Pqc,
        Err(_) => return Err(CompileError::Unknown { field: "compliance", value: settings.compliance }),
    };
    Ok(Algorithms { cipher_suites: settings.default_cipher_suites.clone(), groups: settings.default_groups.clone(), compliance })
}

/// Roots, those of single trust domains, and revocation lists.
pub(super) fn bundle(bundle: &mesh::TrustBundle) -> Result<TrustBundle, IdentityError> {
    let lists = (!bundle.revocation_lists.is_empty()).then(|| bundle.revocation_lists.join("\n"));
    let mut roots = TrustBundle::from_pem(&bundle.roots.join("\n"))?.with_revocations(lists.as_deref())?;
    for domain in &bundle.domains {
        let name = TrustDomain::new(&domain.trust_domain)?;
        roots = roots.with_domain(name, &TrustBundle::from_pem(&domain.roots.join("\n"))?);
    }
    Ok(roots)
}

pub(super) fn inbound(policy: mesh::InboundPolicy) -> Result<Inbound, CompileError> {
    let mut ports = policy.ports.into_iter().map(inbound_port).collect::<Result<Vec<_>, _>>()?;
    ports.sort_by_key(|port| port.port);
    ports.dedup_by_key(|port| port.port);
    let min_version = match mesh::TlsVersion::try_from(policy.min_tls) {
        Ok(mesh::TlsVersion::TlsV12) => MinVersion::Tls12,
        Ok(mesh::TlsVersion::TlsV13) => MinVersion::Tls13,
        Err(_) => return Err(CompileError::Unknown { field: "min_tls", value: policy.min_tls }),
    };
    Ok(Inbound {
        mode: mode(policy.mode)?,
        decided_by: policy.decided_by,
        ports,
        server: ServerTls { trust_domains: domains(&policy.trust_domains)?, min_version, cipher_suites: policy.cipher_suites },
        labels: labels(policy.labels.as_ref()),
    })
}

fn inbound_port(port: mesh::InboundPort) -> Result<InboundPort, CompileError> {
    Ok(InboundPort {
        port: number(port.port)?,
        mode: mode(port.mode)?,
        protocol: protocol(port.protocol)?,
        decided_by: port.decided_by,
        service_host: port.service_host.into(),
        service_name: port.service_name.into(),
        service_namespace: port.service_namespace.into(),
    })
}

pub(super) fn destination(message: mesh::Destination) -> Result<Destination, CompileError> {
    let addresses = message.addresses.iter().map(|text| prefix(text)).collect::<Result<_, _>>()?;
    let ip = |text: &String| text.parse().map_err(|_| CompileError::Address(text.clone()));
    let allocated = message.allocated.iter().map(ip).collect::<Result<_, _>>()?;
    let ports = message.ports.into_iter().map(|port| destination_port(port).map(Arc::new)).collect::<Result<_, _>>()?;
    Ok(Destination {
        host: message.host.into(),
        name: message.name.into(),
        namespace: message.namespace.into(),
        addresses,
        allocated,
        by_endpoint: message.by_endpoint,
        passthrough: message.passthrough,
        one_address: message.one_address,
        ports,
    })
}

fn destination_port(port: mesh::DestinationPort) -> Result<DestinationPort, CompileError> {
    let endpoints = port.endpoints.into_iter().map(endpoint).collect::<Result<Vec<_>, _>>()?;
    Ok(DestinationPort {
        port: number(port.port)?,
        protocol: protocol(port.protocol)?,
        tls: client_tls(port.tls.unwrap_or_default())?,
        names: endpoints.iter().any(|endpoint| endpoint.socket().is_none()),
        endpoints,
        decided_by: port.decided_by,
    })
}

fn client_tls(tls: mesh::ClientTls) -> Result<ClientTls, CompileError> {
    let mode = match mesh::ClientTlsMode::try_from(tls.mode) {
        Ok(mesh::ClientTlsMode::TlsDisable) => ClientMode::Disable,
        Ok(mesh::ClientTlsMode::TlsSimple) => ClientMode::Simple,
        Ok(mesh::ClientTlsMode::TlsMutual) => ClientMode::Mutual,
        Ok(mesh::ClientTlsMode::TlsIstioMutual) => ClientMode::IstioMutual,
        Err(_) => return Err(CompileError::Unknown { field: "tls.mode", value: tls.mode }),
    };
    let mesh = mode == ClientMode::IstioMutual;
    let ids = if mesh { tls.subject_alt_names.clone() } else { Vec::new() };
    let peer = Expected(PeerExpectation { ids, trust_domains: domains(&tls.trust_domains)? });
    Ok(ClientTls {
        mode,
        sni: tls.sni,
        subject_alt_names: tls.subject_alt_names,
        peer,
        from_host_header: tls.from_host_header,
        client_certificate: tls.client_certificate,
        private_key: tls.private_key,
        ca_certificates: tls.ca_certificates,
        ca_crl: tls.ca_crl,
        insecure_skip_verify: tls.insecure_skip_verify,
        credential_name: tls.credential_name,
        credential: tls.credential.map(|given| Arc::new(credential(given))),
    })
}

fn credential(given: mesh::Credential) -> Credential {
    Credential {
        certificate: given.certificate,
        private_key: given.private_key,
        roots: given.roots,
        revocation_list: given.revocation_list,
        problem: given.problem,
    }
}

fn endpoint(endpoint: mesh::Endpoint) -> Result<Endpoint, CompileError> {
    let address = match endpoint.address.parse() {
        Ok(ip) => Address::Ip(ip),
        Err(_) if is_host(&endpoint.address) => Address::Name(endpoint.address.as_str().into()),
        Err(_) => return Err(CompileError::Address(endpoint.address)),
    };
    Ok(Endpoint {
        address,
        port: number(endpoint.port)?,
        workload: endpoint.workload.into(),
        tls: endpoint.tls,
        labels: labels(endpoint.labels.as_ref()),
    })
}

/// The labels of a workload; those of nobody when there are none.
pub fn labels(labels: Option<&mesh::WorkloadLabels>) -> Labels {
    let Some(labels) = labels else { return Labels::default() };
    Labels {
        name: labels.name.as_str().into(),
        namespace: labels.namespace.as_str().into(),
        service_account: labels.service_account.as_str().into(),
        app: labels.app.as_str().into(),
        version: labels.version.as_str().into(),
        canonical_name: labels.canonical_name.as_str().into(),
        canonical_revision: labels.canonical_revision.as_str().into(),
        cluster: labels.cluster.as_str().into(),
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn prefix(text: &str) -> Result<IpNet, CompileError> {
    let host = text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    host.or_else(|| text.parse::<IpNet>().ok().map(|net| net.trunc())).ok_or_else(|| CompileError::Address(text.to_owned()))
}

fn domains(names: &[String]) -> Result<Vec<TrustDomain>, CompileError> {
    Ok(names.iter().map(|name| TrustDomain::new(name)).collect::<Result<_, _>>()?)
}

fn number(port: u32) -> Result<u16, CompileError> {
    u16::try_from(port).ok().filter(|port| *port != 0).ok_or(CompileError::Port(port))
}

fn mode(value: i32) -> Result<Mode, CompileError> {
    match mesh::Mode::try_from(value) {
        Ok(mesh::Mode::Disable) => Ok(Mode::Disable),
        Ok(mesh::Mode::Permissive) => Ok(Mode::Permissive),
        Ok(mesh::Mode::Strict) => Ok(Mode::Strict),
        _ => Err(CompileError::Unknown { field: "mode", value }),
    }
}

fn protocol(value: i32) -> Result<Protocol, CompileError> {
    match mesh::Protocol::try_from(value) {
        Ok(mesh::Protocol::Auto) => Ok(Protocol::Auto),
        Ok(mesh::Protocol::Tcp) => Ok(Protocol::Tcp),
        Ok(mesh::Protocol::Http) => Ok(Protocol::Http),
        Ok(mesh::Protocol::Http2) => Ok(Protocol::Http2),
        Err(_) => Err(CompileError::Unknown { field: "protocol", value }),
    }
}

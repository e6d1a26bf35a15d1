//! The fields of the file (docs/static.md), as the messages that a control plane would send.

use std::net::IpAddr;
use std::path::PathBuf;

use mutua_identity::{SpiffeId, TrustDomain};
use mutua_wire::mesh::{self, ClientTlsMode, Mode, OutboundPolicy, Protocol, TlsVersion};

use super::fields::{Field, Map, Wrong};
use crate::settings::{Workload, duration, workload};
use crate::world::DEFAULT_DRAIN;

/// What a file says; certificate files are not read yet.
pub(super) struct Contents {
    pub workload: Workload,
    pub chain: Named,
    pub key: Named,
    pub roots: Vec<Named>,
    /// Trust domains that are not given are the own certificate's.
    pub inbound: mesh::InboundPolicy,
    pub destinations: Vec<mesh::Destination>,
    pub settings: mesh::ProxySettings,
}

/// A file that a field names.
pub(super) struct Named {
    pub path: PathBuf,
    /// To say where it was named: an error without its message.
    pub at: Wrong,
}

const PROTOCOLS: [(&str, Protocol); 4] =
    [("AUTO", Protocol::Auto), ("TCP", Protocol::Tcp), ("HTTP", Protocol::Http), ("HTTP2", Protocol::Http2)];
const MODES: [(&str, Mode); 3] = [("DISABLE", Mode::Disable), ("PERMISSIVE", Mode::Permissive), ("STRICT", Mode::Strict)];

pub(super) fn contents(root: &Field<'_>) -> Result<Contents, Wrong> {
    let map = root.map(&["workload", "certificate", "trustBundle", "inbound", "destinations", "settings"])?;
    let certificate = map.required("certificate")?.map(&["chain", "key"])?;
    let bundle = map.required("trustBundle")?;
    let roots = bundle.list()?.iter().map(named).collect::<Result<Vec<_>, _>>()?;
    if roots.is_empty() {
        return Err(bundle.wrong("names no file; without roots no peer can be trusted"));
    }
    let workload = map.required("workload")?.read(workload)?;
    let mut inbound = match map.get("inbound") {
        Some(field) => inbound(&field)?,
        None => mesh::InboundPolicy { mode: Mode::Strict.into(), ..Default::default() },
    };
    inbound.workload = workload.to_string();
    let destinations = map.or_default("destinations", |field| field.list()?.iter().map(destination).collect())?;
    Ok(Contents {
        workload,
        chain: named(&certificate.required("chain")?)?,
        key: named(&certificate.required("key")?)?,
        roots,
        inbound,
        destinations,
        settings: settings(map.get("settings").as_ref())?,
    })
}

fn named(field: &Field<'_>) -> Result<Named, Wrong> {
    Ok(Named { path: field.text()?.into(), at: field.wrong("") })
}

fn settings(field: Option<&Field<'_>>) -> Result<mesh::ProxySettings, Wrong> {
    let mut policy = OutboundPolicy::RegistryOnly;
    let mut drain = DEFAULT_DRAIN;
    if let Some(field) = field {
        let map = field.map(&["outboundTrafficPolicy", "drainDuration"])?;
        if let Some(field) = map.get("outboundTrafficPolicy") {
            policy = field.choice(&[("ALLOW_ANY", OutboundPolicy::AllowAny), ("REGISTRY_ONLY", OutboundPolicy::RegistryOnly)])?;
        }
        if let Some(field) = map.get("drainDuration") {
            drain = field.read(duration)?;
        }
    }
    let drain_duration_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
    Ok(mesh::ProxySettings { outbound_policy: policy.into(), drain_duration_ms, ..Default::default() })
}

fn inbound(field: &Field<'_>) -> Result<mesh::InboundPolicy, Wrong> {
    let map = field.map(&["mode", "ports", "trustDomains", "minTlsVersion", "cipherSuites", "labels"])?;
    let min_tls = map
        .or_default("minTlsVersion", |field| field.choice(&[("TLSV1_2", TlsVersion::TlsV12), ("TLSV1_3", TlsVersion::TlsV13)]))?;
    Ok(mesh::InboundPolicy {
        mode: map.get("mode").map_or(Ok(Mode::Strict), |field| field.choice(&MODES))?.into(),
        decided_by: decided_by(field),
        ports: map.or_default("ports", |field| field.list()?.iter().map(inbound_port).collect())?,
        trust_domains: domains(&map)?,
        min_tls: min_tls.into(),
        cipher_suites: map.or_default("cipherSuites", Field::texts)?,
        labels: labels(&map)?,
        ..Default::default()
    })
}

fn inbound_port(field: &Field<'_>) -> Result<mesh::InboundPort, Wrong> {
    let map = field.map(&["port", "mode", "protocol", "service"])?;
    let mut port = mesh::InboundPort {
        port: map.required("port")?.port()?,
        mode: map.required("mode")?.choice(&MODES)?.into(),
        protocol: map.or_default("protocol", |field| field.choice(&PROTOCOLS))?.into(),
        decided_by: decided_by(field),
        ..Default::default()
    };
    if let Some(service) = map.get("service") {
        let service = service.map(&["host", "name", "namespace"])?;
        port.service_host = service.required("host")?.text()?.to_owned();
        port.service_name = service.text("name")?;
        port.service_namespace = service.text("namespace")?;
    }
    Ok(port)
}

fn destination(field: &Field<'_>) -> Result<mesh::Destination, Wrong> {
    let map = field.map(&[
        "host",
        "name",
        "namespace",
        "addresses",
        "allocated",
        "ports",
        "byEndpoint",
        "passthrough",
        "oneAddress",
    ])?;
    let address = |field: &Field<'_>| {
        let text = field.text()?;
        let known = text.parse::<IpAddr>().is_ok() || text.parse::<ipnet::IpNet>().is_ok();
        if known { Ok(text.to_owned()) } else { Err(field.wrong(format!("{text:?} is no IP address or prefix"))) }
    };
    let host_address = |field: &Field<'_>| field.read(str::parse::<IpAddr>).map(|address| address.to_string());
    Ok(mesh::Destination {
        host: map.required("host")?.text()?.to_owned(),
        name: map.text("name")?,
        namespace: map.text("namespace")?,
        addresses: map.or_default("addresses", |field| field.list()?.iter().map(address).collect())?,
        ports: map.required("ports")?.list()?.iter().map(destination_port).collect::<Result<_, _>>()?,
        by_endpoint: map.or_default("byEndpoint", Field::flag)?,
        passthrough: map.or_default("passthrough", Field::flag)?,
        allocated: map.or_default("allocated", |field| field.list()?.iter().map(host_address).collect())?,
        one_address: map.or_default("oneAddress", Field::flag)?,
    })
}

fn destination_port(field: &Field<'_>) -> Result<mesh::DestinationPort, Wrong> {
    let map = field.map(&["port", "protocol", "tls", "endpoints"])?;
    let tls = client_tls(&map.required("tls")?)?;
    let uses_tls = tls.mode != i32::from(ClientTlsMode::TlsDisable);
    let endpoints = map.or_default("endpoints", |field| field.list()?.iter().map(|one| endpoint(one, uses_tls)).collect())?;
    Ok(mesh::DestinationPort {
        port: map.required("port")?.port()?,
        protocol: map.or_default("protocol", |field| field.choice(&PROTOCOLS))?.into(),
        tls: Some(tls),
        endpoints,
        decided_by: decided_by(field),
    })
}

fn client_tls(field: &Field<'_>) -> Result<mesh::ClientTls, Wrong> {
    let map = field.map(&[
        "mode",
        "sni",
        "subjectAltNames",
        "trustDomains",
        "fromHostHeader",
        "clientCertificate",
        "privateKey",
        "caCertificates",
        "caCrl",
        "insecureSkipVerify",
    ])?;
    let mode = map.required("mode")?.choice(&[
        ("DISABLE", ClientTlsMode::TlsDisable),
        ("SIMPLE", ClientTlsMode::TlsSimple),
        ("MUTUAL", ClientTlsMode::TlsMutual),
        ("ISTIO_MUTUAL", ClientTlsMode::TlsIstioMutual),
    ])?;
    let name = |field: &Field<'_>| {
        if mode == ClientTlsMode::TlsIstioMutual {
            field.read(str::parse::<SpiffeId>)?;
        }
        field.text().map(str::to_owned)
    };
    Ok(mesh::ClientTls {
        mode: mode.into(),
        sni: map.text("sni")?,
        subject_alt_names: map.or_default("subjectAltNames", |field| field.list()?.iter().map(name).collect())?,
        trust_domains: domains(&map)?,
        from_host_header: map.or_default("fromHostHeader", Field::flag)?,
        client_certificate: map.text("clientCertificate")?,
        private_key: map.text("privateKey")?,
        ca_certificates: map.text("caCertificates")?,
        ca_crl: map.text("caCrl")?,
        insecure_skip_verify: map.or_default("insecureSkipVerify", Field::flag)?,
        auto: false,
        credential_name: String::new(),
        credential: None,
    })
}

fn endpoint(field: &Field<'_>, uses_tls: bool) -> Result<mesh::Endpoint, Wrong> {
    let map = field.map(&["address", "port", "workload", "tls", "labels"])?;
    Ok(mesh::Endpoint {
        address: map.required("address")?.text()?.to_owned(),
        port: map.required("port")?.port()?,
        workload: map.text("workload")?,
        tls: map.get("tls").map_or(Ok(uses_tls), |field| field.flag())?,
        labels: labels(&map)?,
    })
}

fn domains(map: &Map<'_>) -> Result<Vec<String>, Wrong> {
    let domain = |field: &Field<'_>| field.read(TrustDomain::new).map(|domain| domain.as_str().to_owned());
    map.or_default("trustDomains", |field| field.list()?.iter().map(domain).collect())
}

fn labels(map: &Map<'_>) -> Result<Option<mesh::WorkloadLabels>, Wrong> {
    let Some(field) = map.get("labels") else { return Ok(None) };
    let map =
        field.map(&["name", "namespace", "serviceAccount", "app", "version", "canonicalName", "canonicalRevision", "cluster"])?;
    Ok(Some(mesh::WorkloadLabels {
        name: map.text("name")?,
        namespace: map.text("namespace")?,
        service_account: map.text("serviceAccount")?,
        app: map.text("app")?,
        version: map.text("version")?,
        canonical_name: map.text("canonicalName")?,
        canonical_revision: map.text("canonicalRevision")?,
        cluster: map.text("cluster")?,
    }))
}

/// Static policy has no object: its place in the file decided.
fn decided_by(field: &Field<'_>) -> String {
    format!("line {}", field.wrong("").line)
}

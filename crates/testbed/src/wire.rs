//! Resources as the control plane would send them.

use std::net::SocketAddr;

use mutua_wire::mesh;
use mutua_wire::mesh::{ClientTlsMode, Mode, OutboundPolicy, Protocol};

/// Settings with a drain of 300 ms, complete as they are.
pub fn settings(policy: OutboundPolicy) -> mesh::ProxySettings {
    mesh::ProxySettings {
        outbound_policy: policy as i32,
        trust_domain: "cluster.local".to_owned(),
        root_namespace: "istio-system".to_owned(),
        drain_duration_ms: 300,
        ..Default::default()
    }
}

/// A policy of `mode` for everything, with these ports declared.
pub fn inbound(mode: Mode, ports: &[(SocketAddr, Protocol)]) -> mesh::InboundPolicy {
    let port = |(address, protocol): &(SocketAddr, Protocol)| mesh::InboundPort {
        port: u32::from(address.port()),
        mode: mode as i32,
        protocol: *protocol as i32,
        decided_by: "PeerAuthentication shop/default".to_owned(),
        service_host: "server.shop.svc.cluster.local".to_owned(),
        service_name: "server".to_owned(),
        service_namespace: "shop".to_owned(),
    };
    mesh::InboundPolicy {
        workload: "shop/it".to_owned(),
        mode: mode as i32,
        decided_by: "PeerAuthentication shop/default".to_owned(),
        ports: ports.iter().map(port).collect(),
        trust_domains: vec!["cluster.local".to_owned()],
        min_tls: mesh::TlsVersion::TlsV12 as i32,
        cipher_suites: Vec::new(),
        labels: Some(mesh::WorkloadLabels { name: "it".to_owned(), namespace: "shop".to_owned(), ..Default::default() }),
    }
}

/// TLS of a client, whose server must show one of `sans`.
pub fn tls(mode: ClientTlsMode, sans: &[&str]) -> mesh::ClientTls {
    mesh::ClientTls {
        mode: mode as i32,
        sni: if mode == ClientTlsMode::TlsIstioMutual {
            "outbound_.80_._.server.shop.svc.cluster.local".to_owned()
        } else {
            String::new()
        },
        subject_alt_names: sans.iter().map(|san| (*san).to_owned()).collect(),
        trust_domains: vec!["cluster.local".to_owned()],
        ..Default::default()
    }
}

/// A service at 192.0.2.1:80.
pub fn destination(protocol: Protocol, tls: mesh::ClientTls, endpoints: &[SocketAddr]) -> mesh::Destination {
    let uses_tls = tls.mode != ClientTlsMode::TlsDisable as i32;
    let endpoint = |address: &SocketAddr| mesh::Endpoint {
        address: address.ip().to_string(),
        port: u32::from(address.port()),
        workload: "shop/server".to_owned(),
        tls: uses_tls,
        labels: Some(mesh::WorkloadLabels { name: "server".to_owned(), namespace: "shop".to_owned(), ..Default::default() }),
    };
    mesh::Destination {
        host: "server.shop.svc.cluster.local".to_owned(),
        name: "server".to_owned(),
        namespace: "shop".to_owned(),
        addresses: vec!["192.0.2.1".to_owned()],
        ports: vec![mesh::DestinationPort {
            port: 80,
            protocol: protocol as i32,
            tls: Some(tls),
            endpoints: endpoints.iter().map(endpoint).collect(),
            decided_by: "auto-mtls".to_owned(),
        }],
        by_endpoint: false,
        passthrough: false,
        allocated: Vec::new(),
        one_address: false,
    }
}

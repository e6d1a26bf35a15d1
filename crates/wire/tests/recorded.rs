//! Messages as earlier versions of the protocol wrote them are kept in `tests/recorded/` and must be understood for
//! ever: a control plane and its proxies are never updated at the same moment.
//!
//! `RECORD=v2 cargo test -p mutua-wire --test recorded` adds what this version writes; a record is never changed.

// A newer version of the protocol adds fields.
#![allow(clippy::needless_update)]

use std::path::PathBuf;

use mutua_wire::MeshResource;
use mutua_wire::mesh::{
    ClientTls, ClientTlsMode, Destination, DestinationPort, Endpoint, InboundPolicy, InboundPort, Mode, OutboundPolicy,
    PeerWorkload, Protocol, ProxyReport, ProxySettings, Refusal, TlsVersion, TrustBundle, WorkloadLabels,
};
use prost::Message;

fn labels() -> WorkloadLabels {
    WorkloadLabels {
        name: "front".to_owned(),
        namespace: "shop".to_owned(),
        service_account: "front".to_owned(),
        app: "front".to_owned(),
        version: "v1".to_owned(),
        canonical_name: "front".to_owned(),
        canonical_revision: "v1".to_owned(),
        cluster: "Kubernetes".to_owned(),
        ..WorkloadLabels::default()
    }
}

fn inbound() -> InboundPolicy {
    let port = InboundPort {
        port: 8080,
        mode: Mode::Strict.into(),
        protocol: Protocol::Http.into(),
        decided_by: "PeerAuthentication shop/front".to_owned(),
        service_host: "front.shop.svc.cluster.local".to_owned(),
        service_name: "front".to_owned(),
        service_namespace: "shop".to_owned(),
        ..InboundPort::default()
    };
    InboundPolicy {
        workload: "shop/front".to_owned(),
        mode: Mode::Permissive.into(),
        decided_by: "default".to_owned(),
        ports: vec![port],
        trust_domains: vec!["cluster.local".to_owned()],
        min_tls: TlsVersion::TlsV13.into(),
        cipher_suites: vec!["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256".to_owned()],
        labels: Some(labels()),
        ..InboundPolicy::default()
    }
}

fn destination() -> Destination {
    let tls = ClientTls {
        mode: ClientTlsMode::TlsIstioMutual.into(),
        sni: "outbound_.80_._.front.shop.svc.cluster.local".to_owned(),
        subject_alt_names: vec!["spiffe://cluster.local/ns/shop/sa/front".to_owned()],
        auto: true,
        trust_domains: vec!["cluster.local".to_owned()],
        ..ClientTls::default()
    };
    let workload = "shop/front".to_owned();
    let endpoint = Endpoint {
        address: "10.1.0.1".to_owned(),
        port: 8080,
        workload,
        tls: true,
        labels: Some(labels()),
        ..Endpoint::default()
    };
    let port = DestinationPort {
        port: 80,
        protocol: Protocol::Http.into(),
        tls: Some(tls),
        endpoints: vec![endpoint],
        decided_by: "auto-mtls".to_owned(),
        ..DestinationPort::default()
    };
    Destination {
        host: "front.shop.svc.cluster.local".to_owned(),
        name: "front".to_owned(),
        namespace: "shop".to_owned(),
        addresses: vec!["10.2.0.1".to_owned()],
        ports: vec![port],
        by_endpoint: false,
        passthrough: false,
        ..Destination::default()
    }
}

fn settings() -> ProxySettings {
    ProxySettings {
        outbound_policy: OutboundPolicy::RegistryOnly.into(),
        trust_domain: "cluster.local".to_owned(),
        root_namespace: "istio-system".to_owned(),
        drain_duration_ms: 45_000,
        complete_set: [(Destination::TYPE_URL.to_owned(), 1)].into(),
        ..ProxySettings::default()
    }
}

fn report() -> ProxyReport {
    let refusal = Refusal {
        code: "plaintext_on_strict".to_owned(),
        direction: "inbound".to_owned(),
        peer_address: "10.1.0.9:4711".to_owned(),
        peer_identity: String::new(),
        port: 8080,
        count: 3,
        message: "plaintext on a STRICT port".to_owned(),
        ..Refusal::default()
    };
    ProxyReport {
        workload: "shop/front".to_owned(),
        proxy_version: "0.1.0".to_owned(),
        certificate_serial: "0a".to_owned(),
        certificate_not_after: 1_800_000_000,
        renewals: 2,
        failed_renewals: 1,
        last_renewal_error: "unavailable".to_owned(),
        clock_skew_ms: -5,
        refusals: vec![refusal],
        open_connections: 4,
        ..ProxyReport::default()
    }
}

/// Decodes every record of `name`, and compares it with `expected`: every field that a record has keeps its meaning.
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(name: &str, expected: &M) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    if let Some(version) = std::env::var_os("RECORD") {
        let folder = folder.join(version);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("{name}.hex")), hex(&expected.encode_to_vec())).expect("written");
    }
    let mut seen = 0;
    for version in std::fs::read_dir(&folder).expect("there are records") {
        let path = version.expect("an entry").path().join(format!("{name}.hex"));
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let decoded = M::decode(unhex(text.trim()).as_slice()).expect("still decodes");
        assert_eq!(&decoded, expected, "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0, "no record of {name}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal")).collect()
}

#[test]
fn recorded_messages_are_understood() {
    check("inbound_policy", &inbound());
    check("destination", &destination());
    check("proxy_settings", &settings());
    check("trust_bundle", &TrustBundle { roots: vec!["root".to_owned()], ..TrustBundle::default() });
    check("peer_workload", &PeerWorkload { address: "10.1.0.1".to_owned(), labels: Some(labels()) });
    check("proxy_report", &report());
}

#[test]
fn fields_of_a_newer_version_are_passed_over() {
    // Field 100, a string: no version of ours has it.
    let newer = [0xa2, 0x06, 0x03, b'n', b'e', b'w'];
    let mut bytes = inbound().encode_to_vec();
    bytes.extend_from_slice(&newer);
    assert_eq!(InboundPolicy::decode(bytes.as_slice()).expect("decodes"), inbound());
}

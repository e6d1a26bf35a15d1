//! `DestinationRule` and `Sidecar` (networking.istio.io).

use super::super::types::{BOOLEAN, LABELS, Object, TEXT, TEXTS, Type, UINT32, field, list, object, required};
use super::security::SELECTOR;
use super::traffic::{CONNECTION_POOL, PORT_SELECTOR, TRAFFIC_POLICY};

const SUBSETS: Object = Object::of(&[
    field("labels", LABELS),
    required("name", TEXT).or("subset name cannot be empty"),
    field("trafficPolicy", object(&TRAFFIC_POLICY)),
]);

/// `DestinationRule.spec`.
pub const DESTINATION_RULE: Object = Object::of(&[
    field("exportTo", TEXTS),
    required("host", TEXT).or("empty domain name not allowed"),
    field("subsets", list(&object(&SUBSETS))),
    field("trafficPolicy", object(&TRAFFIC_POLICY)),
    field("workloadSelector", object(&SELECTOR)),
]);

const SIDECAR_PORT: Object =
    Object::of(&[field("name", TEXT), field("number", UINT32), field("protocol", TEXT), field("targetPort", UINT32)]);

const EGRESS_LISTENER: Object = Object::of(&[
    field("bind", TEXT),
    field("captureMode", Type::Words(&["DEFAULT", "IPTABLES", "NONE"])),
    required("hosts", TEXTS).or("sidecar: egress listener must contain at least one host"),
    field("port", object(&SIDECAR_PORT)),
]);

const TLS_CERTIFICATES: Object =
    Object::of(&[field("caCertificates", TEXT), field("privateKey", TEXT), field("serverCertificate", TEXT)]);

const SERVER_TLS: Object = Object::of(&[
    field("caCertCredentialName", TEXT),
    field("caCertificates", TEXT),
    field("caCrl", TEXT),
    field("cipherSuites", TEXTS),
    field("credentialName", TEXT),
    field("credentialNames", Type::List(&TEXT, 2)),
    field("httpsRedirect", BOOLEAN),
    field("insecureSkipVerify", BOOLEAN),
    field("maxProtocolVersion", Type::Words(&["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"])),
    field("minProtocolVersion", Type::Words(&["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"])),
    field("mode", Type::Words(&["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"])),
    field("privateKey", TEXT),
    field("serverCertificate", TEXT),
    field("subjectAltNames", TEXTS),
    field("tlsCertificates", Type::List(&object(&TLS_CERTIFICATES), 2)),
    field("verifyCertificateHash", TEXTS),
    field("verifyCertificateSpki", TEXTS),
]);

const INGRESS_LISTENER: Object = Object::of(&[
    field("bind", TEXT),
    field("captureMode", Type::Words(&["DEFAULT", "IPTABLES", "NONE"])),
    field("connectionPool", object(&CONNECTION_POOL)),
    field("defaultEndpoint", TEXT),
    required("port", object(&SIDECAR_PORT)).or("sidecar: port is required for ingress listeners"),
    field("tls", object(&SERVER_TLS)),
]);

const EGRESS_PROXY: Object = Object::of(&[required("host", TEXT), field("port", object(&PORT_SELECTOR)), field("subset", TEXT)]);

const OUTBOUND_TRAFFIC_POLICY: Object =
    Object::of(&[field("egressProxy", object(&EGRESS_PROXY)), field("mode", Type::Words(&["REGISTRY_ONLY", "ALLOW_ANY"]))]);

/// `WorkloadSelector` with `labels`.
pub const LABEL_SELECTOR: Object = Object::of(&[field("labels", Type::Map(&Type::Text(63), 256))]);

/// `Sidecar.spec`.
pub const SIDECAR: Object = Object::of(&[
    field("egress", list(&object(&EGRESS_LISTENER))),
    field("inboundConnectionPool", object(&CONNECTION_POOL)),
    field("ingress", list(&object(&INGRESS_LISTENER))),
    field("outboundTrafficPolicy", object(&OUTBOUND_TRAFFIC_POLICY)),
    field("workloadSelector", object(&LABEL_SELECTOR)),
]);

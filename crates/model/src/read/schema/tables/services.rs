//! `ServiceEntry`, `WorkloadEntry` and `WorkloadGroup` (networking.istio.io).

use super::super::types::{Object, PORT, TEXT, TEXTS, Type, UINT32, field, list, object, required};
use super::networking::LABEL_SELECTOR;

const FEW_LABELS: Type = Type::Map(&TEXT, 256);

/// `WorkloadEntry.spec`.
pub const WORKLOAD_ENTRY: Object = Object::of(&[
    field("address", Type::Text(256)),
    field("labels", FEW_LABELS),
    field("locality", Type::Text(2048)),
    field("network", Type::Text(2048)),
    field("ports", Type::Map(&PORT, 128)),
    field("serviceAccount", Type::Text(253)),
    field("weight", UINT32),
]);

const PORTS: Object = Object::of(&[
    required("name", Type::Text(256)),
    required("number", PORT),
    field("protocol", Type::Text(256)),
    field("targetPort", PORT),
]);

/// `ServiceEntry.spec`.
pub const SERVICE_ENTRY: Object = Object::of(&[
    field("addresses", Type::List(&Type::Text(64), 256)),
    field("endpoints", Type::List(&object(&WORKLOAD_ENTRY), 4096)),
    field("exportTo", TEXTS),
    required("hosts", Type::List(&TEXT, 256)).or("service entry must have at least one host"),
    field("location", Type::Words(&["MESH_EXTERNAL", "MESH_INTERNAL"])),
    field("ports", Type::List(&object(&PORTS), 256)),
    field("resolution", Type::Words(&["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"])),
    field("subjectAltNames", TEXTS),
    field("workloadSelector", object(&LABEL_SELECTOR)),
]);

const METADATA: Object = Object::of(&[field("annotations", FEW_LABELS), field("labels", FEW_LABELS)]);

const EXEC: Object = Object::of(&[required("command", list(&Type::Filled(usize::MAX)))]);

const GRPC: Object = Object::of(&[field("port", PORT), field("service", TEXT)]);

const HTTP_HEADERS: Object = Object::of(&[field("name", TEXT), field("value", TEXT)]);

const HTTP_GET: Object = Object::of(&[
    field("host", TEXT),
    field("httpHeaders", list(&object(&HTTP_HEADERS))),
    field("path", TEXT),
    required("port", PORT),
    field("scheme", TEXT),
]);

const TCP_SOCKET: Object = Object::of(&[field("host", TEXT), required("port", PORT)]);

const PROBE: Object = Object::of(&[
    field("exec", object(&EXEC)),
    field("failureThreshold", Type::Integer(0, i32::MAX as i64)),
    field("grpc", object(&GRPC)),
    field("httpGet", object(&HTTP_GET)),
    field("initialDelaySeconds", Type::Integer(0, i32::MAX as i64)),
    field("periodSeconds", Type::Integer(0, i32::MAX as i64)),
    field("successThreshold", Type::Integer(0, i32::MAX as i64)),
    field("tcpSocket", object(&TCP_SOCKET)),
    field("timeoutSeconds", Type::Integer(0, i32::MAX as i64)),
])
.one_of(&[&["httpGet", "tcpSocket", "exec", "grpc"]]);

/// `WorkloadGroup.spec`.
pub const WORKLOAD_GROUP: Object = Object::of(&[
    field("metadata", object(&METADATA)),
    field("probe", object(&PROBE)),
    required("template", object(&WORKLOAD_ENTRY)),
]);

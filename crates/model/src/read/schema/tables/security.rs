//! `PeerAuthentication` and `AuthorizationPolicy` (security.istio.io).

use super::super::types::{Object, TEXT, TEXTS, Type, field, list, object, required};

const MTLS: Object = Object::of(&[field("mode", Type::Words(&["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]))]);

/// `WorkloadSelector` with `matchLabels`.
pub const SELECTOR: Object = Object::of(&[field("matchLabels", Type::Map(&Type::Text(63), 4096))]);

/// `PeerAuthentication.spec`.
pub const PEER_AUTHENTICATION: Object = Object::of(&[
    field("mtls", object(&MTLS)),
    field("portLevelMtls", Type::Map(&object(&MTLS), usize::MAX)),
    field("selector", object(&SELECTOR)),
]);

const PROVIDER: Object = Object::of(&[field("name", TEXT)]);

const SOURCE: Object = Object::of(&[
    field("ipBlocks", TEXTS),
    field("namespaces", TEXTS),
    field("notIpBlocks", TEXTS),
    field("notNamespaces", TEXTS),
    field("notPrincipals", TEXTS),
    field("notRemoteIpBlocks", TEXTS),
    field("notRequestPrincipals", TEXTS),
    field("notServiceAccounts", Type::List(&Type::Text(320), 16)),
    field("notTrustDomains", TEXTS),
    field("principals", TEXTS),
    field("remoteIpBlocks", TEXTS),
    field("requestPrincipals", TEXTS),
    field("serviceAccounts", Type::List(&Type::Text(320), 16)),
    field("trustDomains", TEXTS),
]);

const FROM: Object = Object::of(&[field("source", object(&SOURCE))]);

const OPERATION: Object = Object::of(&[
    field("hosts", TEXTS),
    field("methods", TEXTS),
    field("notHosts", TEXTS),
    field("notMethods", TEXTS),
    field("notPaths", TEXTS),
    field("notPorts", TEXTS),
    field("paths", TEXTS),
    field("ports", TEXTS),
]);

const TO: Object = Object::of(&[field("operation", object(&OPERATION))]);

const WHEN: Object = Object::of(&[required("key", TEXT), field("notValues", TEXTS), field("values", TEXTS)]);

const RULES: Object = Object::of(&[
    field("from", Type::List(&object(&FROM), 512)),
    field("to", list(&object(&TO))),
    field("when", list(&object(&WHEN))),
]);

const TARGET_REF: Object = Object::of(&[
    field("group", Type::Text(253)),
    required("kind", Type::Filled(63)),
    required("name", Type::Filled(253)),
    field("namespace", TEXT),
]);

/// `AuthorizationPolicy.spec`.
pub const AUTHORIZATION_POLICY: Object = Object::of(&[
    field("action", Type::Words(&["ALLOW", "DENY", "AUDIT", "CUSTOM"])),
    field("provider", object(&PROVIDER)),
    field("rules", Type::List(&object(&RULES), 512)),
    field("selector", object(&SELECTOR)),
    field("targetRef", object(&TARGET_REF)),
    field("targetRefs", Type::List(&object(&TARGET_REF), 16)),
]);

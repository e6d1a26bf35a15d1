//! How a proxy names the workload it stands for, and what rides in gRPC metadata: Istio's conventions.
//!
//! A discovery stream opens with a [`Node`] whose id is `sidecar~ADDRESS~NAME.NAMESPACE~NAMESPACE.svc.DOMAIN`
//! and whose metadata holds `NAMESPACE` and, when known, `SERVICE_ACCOUNT` (Istio's bootstrap). Every type is
//! subscribed to with [`WILDCARD`], except `PeerWorkload`, which is asked for by address. A response's
//! `system_version_info` is the generation of the snapshot, in decimal; the client echoes the response's nonce
//! once it has applied the whole response, or refuses the whole response with `error_detail`.
//!
//! The first certificate is asked for with `authorization: Bearer TOKEN`, every later one over a connection
//! that shows the current certificate.

use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::discovery::Node;

/// The resource name that subscribes to everything of a type that the proxy is entitled to.
pub const WILDCARD: &str = "*";

/// The gRPC metadata key that carries a join token, as `Bearer TOKEN`.
pub const AUTHORIZATION: &str = "authorization";

/// The key in `IstioCertificateRequest.metadata` under which a caller may name the workload (`NAMESPACE/NAME`) that
/// it wants to join as; a token of another workload is then refused without being used up.
pub const REQUEST_WORKLOAD: &str = "Workload";

/// Builds the node of the sidecar of workload `name` in `namespace`. `address` is its own IP address;
/// `account` may be empty when it is not known.
#[must_use]
pub fn sidecar_node(namespace: &str, name: &str, account: &str, address: &str, version: &str) -> Node {
    let mut fields = std::collections::BTreeMap::new();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            fields.insert(key.to_owned(), Value { kind: Some(Kind::StringValue(value.to_owned())) });
        }
    };
    put("NAMESPACE", namespace);
    put("NAME", name);
    put("SERVICE_ACCOUNT", account);
    Node {
        id: format!("sidecar~{address}~{name}.{namespace}~{namespace}.svc.cluster.local"),
        metadata: Some(Struct { fields }),
        user_agent_name: "mutua".to_owned(),
        user_agent_version: version.to_owned(),
        ..Node::default()
    }
}

/// The workload that a node names, as (namespace, name): from the third part of its id, `NAME.NAMESPACE`.
/// `None` when the id does not have the four parts of Istio's form.
#[must_use]
pub fn node_workload(node: &Node) -> Option<(&str, &str)> {
    let mut parts = node.id.split('~');
    let (_kind, _address, workload, _domain) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (name, namespace) = workload.rsplit_once('.')?;
    (!name.is_empty() && !namespace.is_empty()).then_some((namespace, name))
}

/// The string at `key` of a node's or a request's metadata.
#[must_use]
pub fn metadata_string<'a>(metadata: Option<&'a Struct>, key: &str) -> Option<&'a str> {
    match metadata?.fields.get(key)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_its_workload() {
        let node = sidecar_node("shop", "front.v1", "front", "10.0.0.7", "0.1.0");
        assert_eq!(node.id, "sidecar~10.0.0.7~front.v1.shop~shop.svc.cluster.local");
        assert_eq!(node_workload(&node), Some(("shop", "front.v1")));
        assert_eq!(metadata_string(node.metadata.as_ref(), "SERVICE_ACCOUNT"), Some("front"));
        assert_eq!(metadata_string(node.metadata.as_ref(), "CLUSTER_ID"), None);
    }

    #[test]
    fn malformed_ids_name_nothing() {
        for id in ["", "sidecar~1.2.3.4~front~x", "sidecar~1.2.3.4~front.shop", "sidecar~a~b.c~d~e", "sidecar~a~.shop~d"] {
            let node = Node { id: id.to_owned(), ..Node::default() };
            assert_eq!(node_workload(&node), None, "{id}");
        }
    }
}

//! `AuthorizationPolicy`.

use crate::Meta;
use crate::authorization_policy::{AuthorizationPolicy, AuthorizationRule, AuthorizationSource};
use crate::read::object::labels;
use crate::read::tree::Node;

/// Reads an `AuthorizationPolicy`.
pub fn authorization_policy(meta: Meta, node: &Node) -> AuthorizationPolicy {
    let spec = node.get("spec");
    AuthorizationPolicy {
        meta,
        selector: labels(spec.at_path(&["selector", "matchLabels"])),
        has_target: spec.get("targetRef").is_given() || spec.get("targetRefs").is_given(),
        rules: spec.get("rules").items().iter().map(rule).collect(),
    }
}

fn rule(node: &Node) -> AuthorizationRule {
    AuthorizationRule {
        from: node.get("from").items().iter().map(|from| source(from.get("source"))).collect(),
        when: node.get("when").items().iter().map(|condition| condition.get("key").string()).collect(),
    }
}

fn source(node: &Node) -> AuthorizationSource {
    AuthorizationSource {
        principals: node.get("principals").strings(),
        not_principals: node.get("notPrincipals").strings(),
        namespaces: node.get("namespaces").strings(),
        not_namespaces: node.get("notNamespaces").strings(),
    }
}

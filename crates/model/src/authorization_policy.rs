//! `AuthorizationPolicy` (security.istio.io), as far as its rules lean on the identities that mutual TLS proves. It is
//! read for the findings; nothing enforces it.

use crate::{Labels, Meta};

/// An `AuthorizationPolicy`.
#[derive(Clone, Debug)]
pub struct AuthorizationPolicy {
    /// Metadata.
    pub meta: Meta,
    /// `spec.selector.matchLabels`.
    pub selector: Labels,
    /// `spec.targetRefs` or `spec.targetRef` is given: it is for a gateway or waypoint.
    pub has_target: bool,
    /// `spec.rules`, in order.
    pub rules: Vec<AuthorizationRule>,
}

/// One of `spec.rules`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationRule {
    /// `from[].source`.
    pub from: Vec<AuthorizationSource>,
    /// `when[].key`.
    pub when: Vec<String>,
}

/// One `source`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationSource {
    /// `principals`.
    pub principals: Vec<String>,
    /// `notPrincipals`.
    pub not_principals: Vec<String>,
    /// `namespaces`.
    pub namespaces: Vec<String>,
    /// `notNamespaces`.
    pub not_namespaces: Vec<String>,
}

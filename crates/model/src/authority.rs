//! Certificates of authorities, as far as the input shows them: what a plugged-in CA signs with and what is trusted.

use crate::Meta;

/// An object that holds certificates of authorities: Secret `cacerts` or `istio-ca-secret`, ConfigMap `istio-ca-root-cert`.
/// Keys are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// Metadata of the object.
    pub meta: Meta,
    /// Its certificates, in order.
    pub certificates: Vec<Certificate>,
}

/// One certificate and how long it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The field that holds it (`data/root-cert.pem`).
    pub path: String,
    /// Which of the field's certificates it is, from 1.
    pub position: usize,
    /// The first second of its life, in seconds since 1970.
    pub not_before: i64,
    /// The last second of its life, in seconds since 1970.
    pub not_after: i64,
}

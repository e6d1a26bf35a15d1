//! Group Certificates: what callers show.

use mutua_proxy::connections::Outcome;
use mutua_proxy::reasons::Reason;

use super::{CERTIFICATES, Case, refused, served, told};

pub(super) const CASES: &[Case] = &[
    refused(CERTIFICATES, "two_uri_names", Reason::CertificateWithoutIdentity, "Two SPIFFE ids."),
    refused(CERTIFICATES, "no_name", Reason::CertificateWithoutIdentity, "No name."),
    refused(CERTIFICATES, "dns_name_only", Reason::CertificateWithoutIdentity, "A DNS name only."),
    refused(CERTIFICATES, "nul_in_name", Reason::CertificateWithoutIdentity, "NUL in the id (CVE-2025-66220)."),
    refused(CERTIFICATES, "name_not_utf8", Reason::CertificateWithoutIdentity, "An id that is no UTF-8."),
    refused(
        CERTIFICATES,
        "right_ca_wrong_service",
        Reason::PeerRefusedTls,
        "The caller expects another service; at the caller: `PEER_IDENTITY_MISMATCH`.",
    ),
    refused(CERTIFICATES, "wrong_trust_domain", Reason::ForeignTrustDomain, "An id of another trust domain."),
    told(CERTIFICATES, "alias_trust_domain", "served: mutual TLS", "An id of a trust domain that is an alias."),
    refused(CERTIFICATES, "wrong_use", Reason::UntrustedCertificate, "A certificate for signing code (CVE-2022-21657)."),
    refused(CERTIFICATES, "authority_as_leaf", Reason::UntrustedCertificate, "A CA certificate as leaf."),
    refused(CERTIFICATES, "unknown_critical_extension", Reason::UntrustedCertificate, "A critical extension that nobody knows."),
    refused(CERTIFICATES, "rsa_1024", Reason::UntrustedCertificate, "RSA of 1024 bits."),
    refused(CERTIFICATES, "rsa_too_long", Reason::UntrustedCertificate, "RSA of 8448 bits; of 16384 in `make soak`."),
    served(CERTIFICATES, "p521", Outcome::Mtls, "P-521: a sound key of a plugged-in authority; our own signs no such request."),
    refused(CERTIFICATES, "self_signed", Reason::UntrustedCertificate, "A leaf of the caller's own CA, of the mesh's name."),
    refused(CERTIFICATES, "revoked_leaf", Reason::CertificateRevoked, "A leaf on the revocation list."),
    refused(CERTIFICATES, "revoked_intermediate", Reason::CertificateRevoked, "A leaf below a revoked intermediate."),
    refused(
        CERTIFICATES,
        "malformed_crl",
        Reason::CertificateRevoked,
        "Half a revocation list, and one of nonsense: refused, the one before stays in force.",
    ),
    refused(
        CERTIFICATES,
        "path_bomb",
        Reason::UntrustedCertificate,
        "Nine CAs of one name, any of which could be the issuer of the others (RUSTSEC-2023-0052).",
    ),
    refused(CERTIFICATES, "chain_of_100", Reason::UntrustedCertificate, "A chain of 100 certificates."),
];

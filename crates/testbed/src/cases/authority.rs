//! Groups CA faults and Time: what the signer does, and the clock.

use mutua_proxy::connections::Outcome;
use mutua_proxy::reasons::Reason;

use super::{CA, Case, TIME, refused, served, told};

pub(super) const CASES: &[Case] = &[
    told(
        CA,
        "ca_down_at_start",
        "joined as soon as it answers; until then said: `joining will be tried again`",
        "No certificate can be had at the start.",
    ),
    told(
        CA,
        "ca_down_at_renewal",
        "the leaf in use stays, renewed afterwards; said: `the signing key is away`",
        "The CA cannot sign when renewal is due.",
    ),
    told(CA, "ca_slow", "the leaf in use stays, renewed afterwards; said: `Timeout expired`", "The CA takes 30 s to answer."),
    told(
        CA,
        "ca_flapping",
        "the leaf in use stays, renewed afterwards; said: `the signing key is away`",
        "The CA comes and goes, three times.",
    ),
    told(
        CA,
        "ca_answers_garbage",
        "the leaf in use stays, renewed afterwards; said: `no PEM certificate`",
        "What comes is no certificate.",
    ),
    told(
        CA,
        "ca_wrong_identity",
        "the leaf in use stays, renewed afterwards; said: `it is a certificate for spiffe://cluster.local/ns/shop/sa/other`",
        "A leaf for another account.",
    ),
    told(
        CA,
        "ca_unknown_root",
        "the leaf in use stays, renewed afterwards; said: `certificate chain: `",
        "A leaf below a root that is not trusted.",
    ),
    told(
        CA,
        "ca_expired_leaf",
        "the leaf in use stays, renewed afterwards; said: `certificate chain: `",
        "A leaf that has ended already.",
    ),
    told(
        CA,
        "ca_leaf_outlives_signer",
        "the leaf in use stays, renewed afterwards; said: `it ends later than its issuer`",
        "A leaf that outlives its signer.",
    ),
    told(
        CA,
        "ca_wrong_key",
        "the leaf in use stays, renewed afterwards; said: `does not belong to the certificate`",
        "A leaf for another key.",
    ),
    told(
        CA,
        "ca_empty_chain",
        "the leaf in use stays, renewed afterwards; said: `it is empty`",
        "An answer without certificates.",
    ),
    told(CA, "ca_huge_chain", "the leaf in use stays, renewed afterwards; said: `message length too large`", "A chain of 1 MB."),
    told(CA, "ca_rate_limited", "the leaf in use stays, renewed afterwards; said: `too many requests`", "RESOURCE_EXHAUSTED."),
    told(
        CA,
        "ca_split_brain",
        "the leaf in use stays, renewed afterwards; said: `certificate chain: `",
        "Two CAs with a root each answer in turn; either counts once both roots are trusted.",
    ),
    refused(TIME, "not_yet_valid", Reason::CertificateExpired, "A leaf that begins in five minutes."),
    told(
        TIME,
        "expires_mid_connection",
        "the connection goes on; a new one: `CERTIFICATE_EXPIRED`",
        "A leaf ends while a connection is open.",
    ),
    refused(TIME, "expired_leaf", Reason::CertificateExpired, "A leaf that ended an hour ago."),
    refused(TIME, "expired_intermediate", Reason::CertificateExpired, "A leaf of today below an intermediate that has ended."),
    refused(TIME, "expired_root", Reason::CertificateExpired, "A leaf below a root that has ended: no leaf outlives it."),
    told(
        TIME,
        "clock_an_hour_behind",
        "the leaf in use stays: the new one is not valid yet",
        "Renewal with a clock an hour behind the CA's.",
    ),
    told(TIME, "clock_an_hour_ahead", "renewed; the skew is told", "Renewal with a clock an hour ahead of the CA's."),
    told(
        TIME,
        "clock_ten_years_ahead",
        "the leaf in use stays: the new one has ended already",
        "Renewal with a clock ten years ahead of the CA's.",
    ),
    told(
        TIME,
        "slept_eight_hours",
        "the ended leaf stays until there is another; joined anew by the token",
        "A machine wakes up after its leaf has ended.",
    ),
    served(TIME, "leap_at_handshake", Outcome::Mtls, "Leaves dated 30 s ahead and 30 s behind."),
];

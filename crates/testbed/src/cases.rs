//! Faults and bad inputs that a sidecar survives, by group: what is done, and what has to come of it. Each has a test of
//! its own, which takes its expectation from here; `docs/faults.md` is made from this table.

use mutua_proxy::connections::Outcome;
use mutua_proxy::reasons::Reason;

/// What has to come of a case, beside what must hold after every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Every connection of it is refused with this code.
    Refused(Reason),
    /// Every connection of it is served, as this.
    Served(Outcome),
    /// The connections end, and there is nothing to complain of.
    Ended,
    /// Said in words; the test knows.
    Told(&'static str),
}

/// One fault or bad input.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its group.
    pub group: &'static str,
    /// Its name, which is its test's too.
    pub name: &'static str,
    /// What is done.
    pub done: &'static str,
    /// What has to come of it.
    pub expected: Expected,
}

/// The case of a name.
///
/// # Panics
/// There is none.
#[must_use]
pub fn case(name: &str) -> Case {
    *CASES.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("{name} is no case"))
}

const fn refused(group: &'static str, name: &'static str, reason: Reason, done: &'static str) -> Case {
    Case { group, name, done, expected: Expected::Refused(reason) }
}

const fn served(group: &'static str, name: &'static str, outcome: Outcome, done: &'static str) -> Case {
    Case { group, name, done, expected: Expected::Served(outcome) }
}

const fn told(group: &'static str, name: &'static str, expected: &'static str, done: &'static str) -> Case {
    Case { group, name, done, expected: Expected::Told(expected) }
}

const HANDSHAKE: &str = "Handshake";
const MISMATCH: &str = "Protocol mismatch";
const FLOODS: &str = "Floods";
const RESOURCES: &str = "Resources";
const PROCESS: &str = "Process";
const CA: &str = "CA faults";
const TIME: &str = "Time";
const CERTIFICATES: &str = "Certificates";

/// All cases, by group.
pub const CASES: &[Case] = &[
    refused(HANDSHAKE, "slow_caller", Reason::HandshakeTimeout, "A ClientHello comes at a byte every half second."),
    refused(HANDSHAKE, "stalled_caller", Reason::HandshakeTimeout, "Nothing follows a whole ClientHello."),
    refused(HANDSHAKE, "huge_hello", Reason::ClientHelloTooLarge, "A ClientHello of more than 64 KB."),
    served(HANDSHAKE, "fragmented_hello", Outcome::Mtls, "A post-quantum ClientHello in records of one byte each."),
    refused(
        HANDSHAKE,
        "empty_records",
        Reason::PlaintextOnStrictPort,
        "Handshake records without content, which TLS forbids, before and within the ClientHello; in an established session \
         empty application data, which TLS allows, is taken in its thousands.",
    ),
    refused(
        HANDSHAKE,
        "closed_after_hello",
        Reason::PeerClosedInHandshake,
        "close_notify right behind the ClientHello (CVE-2024-32650), and no end of the connection.",
    ),
    refused(
        HANDSHAKE,
        "renegotiation",
        Reason::PeerRefusedTls,
        "openssl asks for renegotiation in TLS 1.2, is denied it, and gives up.",
    ),
    refused(
        HANDSHAKE,
        "downgrade",
        Reason::TlsVersionTooLow,
        "TLS 1.0, 1.1 and SSL 3 are offered, and TLS 1.2 where 1.3 is the floor.",
    ),
    refused(HANDSHAKE, "no_shared_cipher", Reason::NoCommonCryptography, "Only cipher suites that no mesh server has."),
    refused(HANDSHAKE, "no_shared_group", Reason::NoCommonCryptography, "Only key-exchange groups that no mesh server has."),
    refused(HANDSHAKE, "truncated_share", Reason::TlsProtocolError, "A post-quantum key share with 100 of its 1216 bytes."),
    refused(
        HANDSHAKE,
        "retry_loop",
        Reason::TlsProtocolError,
        "The caller answers HelloRetryRequest with the same ClientHello, again and again.",
    ),
    refused(
        HANDSHAKE,
        "resumption_after_root_removal",
        Reason::UntrustedCertificate,
        "openssl keeps its session, the root of its certificate is removed, openssl resumes.",
    ),
    refused(
        HANDSHAKE,
        "early_data",
        Reason::HandshakeTimeout,
        "0-RTT is offered, with application data right behind the ClientHello.",
    ),
    served(
        HANDSHAKE,
        "foreign_alpn",
        Outcome::Mtls,
        "No application protocol, or one that nobody knows, with a mesh certificate.",
    ),
    served(HANDSHAKE, "no_server_name", Outcome::Mtls, "No SNI."),
    served(HANDSHAKE, "spoofed_server_name", Outcome::Mtls, "The SNI of another service; the port decides, as ever."),
    refused(HANDSHAKE, "mad_server_name", Reason::TlsProtocolError, "An SNI of 300 bytes with control characters."),
    refused(
        MISMATCH,
        "plaintext_to_strict",
        Reason::PlaintextOnStrictPort,
        "HTTP and a binary protocol in clear, whole and byte by byte.",
    ),
    refused(
        MISMATCH,
        "tls_without_certificate_to_strict",
        Reason::NoClientCertificate,
        "openssl, curl and a mesh-like client without a certificate.",
    ),
    served(
        MISMATCH,
        "mtls_to_disable",
        Outcome::Plaintext,
        "A mesh caller on a port of mode DISABLE: its bytes reach the application as they are.",
    ),
    served(MISMATCH, "own_tls_to_permissive", Outcome::Tls, "The application's own TLS, called by curl, on a PERMISSIVE port."),
    served(MISMATCH, "server_first_to_permissive", Outcome::Plaintext, "The application greets, the caller waits for it."),
    Case { group: MISMATCH, name: "empty_connect", done: "A connection that ends without a byte.", expected: Expected::Ended },
    refused(MISMATCH, "http2_preface", Reason::PlaintextOnStrictPort, "HTTP/2 with prior knowledge, in clear."),
    refused(
        MISMATCH,
        "proxy_header",
        Reason::PlaintextOnStrictPort,
        "PROXY headers, versions 1 and 2, that claim another caller; never believed.",
    ),
    refused(MISMATCH, "almost_tls", Reason::PlaintextOnStrictPort, "A first byte of TLS, and nothing else of it."),
    refused(
        FLOODS,
        "connect_flood",
        Reason::PlaintextOnStrictPort,
        "Connections in clear as fast as they come; 10,000 a second in `make soak`.",
    ),
    refused(
        FLOODS,
        "idle_flood",
        Reason::TooManyFromSource,
        "Connections that say nothing, beyond what one source may have; 50,000 in `make soak`.",
    ),
    refused(FLOODS, "handshake_flood", Reason::NoClientCertificate, "Handshakes without a certificate, many at once."),
    refused(
        FLOODS,
        "untrusted_flood",
        Reason::UntrustedCertificate,
        "Handshakes with a certificate that is not trusted any more, many at once.",
    ),
    served(FLOODS, "reset_storm", Outcome::Mtls, "Thousands of HTTP/2 streams opened and reset (CVE-2023-44487)."),
    served(FLOODS, "many_identities", Outcome::Mtls, "Each caller another identity: the label sets stay bounded."),
    told(
        RESOURCES,
        "few_descriptors",
        "TOO_MANY_CONNECTIONS beyond what fits; the admin socket answers",
        "128 file descriptors, 200 connections.",
    ),
    told(
        RESOURCES,
        "little_memory",
        "TOO_MANY_CONNECTIONS beyond what fits; never killed",
        "32 MB of memory, 2,000 connections.",
    ),
    told(RESOURCES, "full_disk", "served and renewed all the same", "State folder and log on a full disk."),
    told(
        RESOURCES,
        "read_only_disk",
        "served and renewed all the same; a start there says what is missing",
        "The state folder becomes read-only.",
    ),
    told(RESOURCES, "little_cpu", "slow, and right", "Ten milliseconds of CPU a second."),
    told(RESOURCES, "no_ephemeral_ports", "APPLICATION_UNREACHABLE, and served again afterwards", "All local ports taken."),
    told(
        RESOURCES,
        "full_conntrack",
        "open connections go on, new ones are served again afterwards",
        "The kernel drops what would be a new entry.",
    ),
    told(
        PROCESS,
        "killed_mid_transfer",
        "the far application sees a reset, never a shorter whole",
        "kill -9 of the caller's sidecar in a transfer.",
    ),
    told(
        PROCESS,
        "control_plane_killed",
        "connections and policy stay; followed again afterwards",
        "kill -9 of the control plane.",
    ),
    told(
        PROCESS,
        "stopped_with_live_connections",
        "open ones go on for --drain, then SHUTDOWN; exit code 0",
        "SIGTERM with live connections.",
    ),
    told(
        PROCESS,
        "restart_without_control_plane",
        "served as before by what is kept below --state, followed again without a gap; kept state that is damaged or that others may write is refused",
        "kill -9 of control plane and sidecars; the sidecars start alone.",
    ),
    refused(PROCESS, "panic_in_one_connection", Reason::InternalError, "The sidecar panics on one connection."),
    told(PROCESS, "upgrade_under_load", "no connection is refused", "The binary is replaced under load."),
    told(
        PROCESS,
        "two_on_one_port",
        "the second says which address is taken, exit code 2; the first goes on",
        "A second sidecar on the same ports.",
    ),
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

/// `docs/faults.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Faults\n\nWhat a sidecar is tried with, and what has to come of it. After every case the process lives, no plaintext \
         and no wrong identity was accepted, connections of others went on, every connection left one record with its reason, \
         and memory is back within 5 %.\n\nMade from the table in `crates/testbed/src/cases.rs`; do not edit.\n",
    );
    let mut group = "";
    for case in CASES {
        if case.group != group {
            group = case.group;
            text.push_str(&format!("\n## {group}\n\n| case | what is done | what comes of it |\n|---|---|---|\n"));
        }
        let expected = match case.expected {
            Expected::Refused(reason) => format!("refused: `{reason}`"),
            Expected::Served(Outcome::Mtls) => "served: mutual TLS".to_owned(),
            Expected::Served(Outcome::Tls) => "served: TLS passed through".to_owned(),
            Expected::Served(_) => "served: plaintext".to_owned(),
            Expected::Ended => "ended".to_owned(),
            Expected::Told(words) => words.to_owned(),
        };
        text.push_str(&format!("| `{}` | {} | {expected} |\n", case.name, case.done));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_case() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), document(), "run with UPDATE_DOCS=1");
    }

    #[test]
    fn every_case_has_its_test() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let places = ["proxy/tests/unbreakable", "cli/tests/unbreakable"];
        let files = places.iter().flat_map(|place| std::fs::read_dir(format!("{folder}/{place}")).unwrap());
        let source: String = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        for case in CASES {
            assert!(source.contains(&format!("fn {}(", case.name)), "{} has no test", case.name);
        }
        let count = |group| CASES.iter().filter(|case| case.group == group).count();
        assert_eq!([HANDSHAKE, MISMATCH, FLOODS, RESOURCES, PROCESS].map(count), [18, 9, 6, 7, 7]);
        assert_eq!([CA, TIME, CERTIFICATES].map(count), [14, 10, 20]);
    }
}

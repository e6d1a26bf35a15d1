//! Groups Handshake, Protocol mismatch and Floods: what comes over the wire.

use mutua_proxy::connections::Outcome;
use mutua_proxy::reasons::Reason;

use super::{Case, Expected, FLOODS, HANDSHAKE, MISMATCH, refused, served};

pub(super) const CASES: &[Case] = &[
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
];

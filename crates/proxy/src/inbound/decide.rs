//! What becomes of a connection to the workload, by the port's mode, its protocol and the first bytes: Istio's inbound
//! filter chains (`pilot/pkg/security/authn`), at layer 4.

use crate::connections::Outcome;
use crate::detect::First;
use crate::reasons::Reason;
use crate::world::{Mode, Protocol};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// End mutual TLS here. `http_alpn`: select among `h2` and `http/1.1`.
    Terminate {
        /// Whether caller and an HTTP server have a protocol name in common.
        http_alpn: bool,
    },
    /// Pass the bytes on as they are.
    Forward(Outcome),
    /// Close.
    Refuse(Reason),
}

/// Whether the first bytes matter at all.
#[must_use]
pub fn needs_detection(mode: Mode, protocol: Protocol) -> bool {
    mode != Mode::Disable || protocol.is_http()
}

/// The verdict on a connection whose first bytes are decided.
#[must_use]
pub fn decide(mode: Mode, protocol: Protocol, first: &First) -> Verdict {
    let hello = match first {
        First::Tls(hello) => Some(hello),
        First::TooLarge if mode == Mode::Strict => return Verdict::Refuse(Reason::ClientHelloTooLarge),
        First::TooLarge => None,
        First::Plaintext | First::Undecided => {
            return match mode {
                Mode::Strict => Verdict::Refuse(Reason::PlaintextOnStrictPort),
                Mode::Permissive | Mode::Disable => Verdict::Forward(Outcome::Plaintext),
            };
        }
    };
    let http_alpn = hello.is_some_and(crate::detect::ClientHello::has_http_alpn);
    match mode {
        Mode::Strict => Verdict::Terminate { http_alpn },
        Mode::Permissive if hello.is_some_and(crate::detect::ClientHello::is_mesh) => Verdict::Terminate { http_alpn },
        Mode::Permissive if protocol.is_http() => Verdict::Refuse(Reason::NonMeshTlsOnHttpPort),
        Mode::Disable if protocol.is_http() => Verdict::Refuse(Reason::TlsOnPlaintextHttpPort),
        Mode::Permissive | Mode::Disable => Verdict::Forward(Outcome::Tls),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::ClientHello;

    fn tls(alpn: &[&str]) -> First {
        First::Tls(ClientHello { alpn: alpn.iter().map(|name| name.as_bytes().to_vec()).collect(), ..ClientHello::default() })
    }

    /// Istio's `TestInbound`, with the stated deviations: bytes that are not HTTP pass on HTTP ports.
    #[test]
    fn the_table_of_istio() {
        use Mode::{Disable, Permissive, Strict};
        use Protocol::{Auto, Http, Http2, Tcp};
        let plain = Verdict::Forward(Outcome::Plaintext);
        let raw = Verdict::Forward(Outcome::Tls);
        let mesh = Verdict::Terminate { http_alpn: false };
        let mesh_http = Verdict::Terminate { http_alpn: true };
        for protocol in [Auto, Tcp, Http, Http2] {
            let http = protocol.is_http();
            assert_eq!(decide(Strict, protocol, &First::Plaintext), Verdict::Refuse(Reason::PlaintextOnStrictPort));
            assert_eq!(decide(Permissive, protocol, &First::Plaintext), plain);
            assert_eq!(decide(Disable, protocol, &First::Plaintext), plain);
            for name in ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"] {
                assert_eq!(decide(Strict, protocol, &tls(&[name])), mesh);
                assert_eq!(decide(Permissive, protocol, &tls(&[name])), mesh, "{name}");
            }
            assert_eq!(decide(Permissive, protocol, &tls(&["istio-h2", "istio", "h2"])), mesh_http);
            for foreign in [tls(&[]), tls(&["http/1.1", "h2"]), tls(&["istio2"])] {
                let refused = |reason| if http { Verdict::Refuse(reason) } else { raw };
                assert!(matches!(decide(Strict, protocol, &foreign), Verdict::Terminate { .. }));
                assert_eq!(decide(Permissive, protocol, &foreign), refused(Reason::NonMeshTlsOnHttpPort));
                assert_eq!(decide(Disable, protocol, &foreign), refused(Reason::TlsOnPlaintextHttpPort));
            }
            let mesh_on_disabled = if http { Verdict::Refuse(Reason::TlsOnPlaintextHttpPort) } else { raw };
            assert_eq!(decide(Disable, protocol, &tls(&["istio"])), mesh_on_disabled);
            assert_eq!(decide(Strict, protocol, &First::TooLarge), Verdict::Refuse(Reason::ClientHelloTooLarge));
        }
        assert!(!needs_detection(Disable, Tcp) && !needs_detection(Disable, Auto) && needs_detection(Disable, Http));
        assert!(needs_detection(Strict, Tcp) && needs_detection(Permissive, Auto));
    }
}

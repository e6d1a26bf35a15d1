//! What a client's decision means for one endpoint (Istio's `mtlsChecker`, and which transport socket matches).

use mutua_model::{ClientTlsMode, MtlsMode};

use crate::client::ClientDecision;
use crate::workload;

/// What is sent to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// As the application wrote it.
    Plaintext,
    /// Mesh mTLS.
    IstioMutual,
    /// TLS without a client certificate.
    Simple,
    /// TLS with a certificate of the rule's.
    Mutual,
}

/// The transport towards an endpoint with this tlsMode, whose sidecar accepts `server` on the endpoint's port.
pub(crate) fn transport(decision: &ClientDecision, tls_mode: &str, server: MtlsMode) -> Transport {
    match decision.mode {
        _ if decision.dropped => Transport::Plaintext,
        ClientTlsMode::Disable => Transport::Plaintext,
        ClientTlsMode::Simple => Transport::Simple,
        ClientTlsMode::Mutual => Transport::Mutual,
        // A rule, or the original address being dialled, sets the transport for all.
        ClientTlsMode::IstioMutual if !decision.auto || decision.uniform => Transport::IstioMutual,
        ClientTlsMode::IstioMutual if marked(decision, tls_mode, server) => Transport::IstioMutual,
        ClientTlsMode::IstioMutual => Transport::Plaintext,
    }
}

/// Whether the endpoint carries the mark that selects the mTLS socket.
fn marked(decision: &ClientDecision, tls_mode: &str, server: MtlsMode) -> bool {
    let enabled = match decision.endpoint_mode {
        Some(mode) => mode == ClientTlsMode::IstioMutual,
        None => workload::is_istio(tls_mode) && server != MtlsMode::Disable,
    };
    // The socket matches the word `istio` only.
    enabled && workload::is_istio(tls_mode)
}

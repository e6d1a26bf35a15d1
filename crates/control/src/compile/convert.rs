//! The model's words in the words of the wire.

use mutua_identity::Compliance;
use mutua_model::{AppProtocol, ClientTlsMode, MtlsMode, OutboundPolicy, TlsVersion};
use mutua_wire::mesh;

/// A receiving mode.
#[must_use]
pub fn mode(mode: MtlsMode) -> mesh::Mode {
    match mode {
        MtlsMode::Disable => mesh::Mode::Disable,
        MtlsMode::Permissive => mesh::Mode::Permissive,
        MtlsMode::Strict => mesh::Mode::Strict,
    }
}

/// How a port's bytes are treated. UDP is not served by the mesh, and never asked for.
#[must_use]
pub fn protocol(protocol: AppProtocol) -> mesh::Protocol {
    match protocol {
        AppProtocol::Http => mesh::Protocol::Http,
        AppProtocol::Http2 => mesh::Protocol::Http2,
        AppProtocol::Tcp => mesh::Protocol::Tcp,
        AppProtocol::Auto | AppProtocol::Udp => mesh::Protocol::Auto,
    }
}

/// What a sender does.
#[must_use]
pub fn client_tls_mode(mode: ClientTlsMode) -> mesh::ClientTlsMode {
    match mode {
        ClientTlsMode::Disable => mesh::ClientTlsMode::TlsDisable,
        ClientTlsMode::Simple => mesh::ClientTlsMode::TlsSimple,
        ClientTlsMode::Mutual => mesh::ClientTlsMode::TlsMutual,
        ClientTlsMode::IstioMutual => mesh::ClientTlsMode::TlsIstioMutual,
    }
}

/// The compliance policy of all connections.
#[must_use]
pub fn compliance(policy: Compliance) -> mesh::Compliance {
    match policy {
        Compliance::None => mesh::Compliance::None,
        Compliance::Fips140_2 => mesh::Compliance::Fips1402,
        Compliance::Fips140_3 => mesh::Compliance::Fips1403,
        Compliance::Pqc => mesh::Compliance::Pqc,
    }
}

/// A floor of the protocol version.
#[must_use]
pub fn tls_version(version: TlsVersion) -> mesh::TlsVersion {
    match version {
        TlsVersion::V1_2 => mesh::TlsVersion::TlsV12,
        TlsVersion::V1_3 => mesh::TlsVersion::TlsV13,
    }
}

/// What happens to unknown destinations.
#[must_use]
pub fn outbound_policy(policy: OutboundPolicy) -> mesh::OutboundPolicy {
    match policy {
        OutboundPolicy::AllowAny => mesh::OutboundPolicy::AllowAny,
        OutboundPolicy::RegistryOnly => mesh::OutboundPolicy::RegistryOnly,
    }
}

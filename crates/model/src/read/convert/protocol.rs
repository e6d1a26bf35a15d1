//! The protocol of a port as Istio derives it: `appProtocol`, else the prefix of the port's name.

use crate::AppProtocol;

/// Ports that count as TCP when nothing is declared, because their servers speak first: SMTP, DNS, MySQL, MongoDB.
const SERVER_FIRST: &[u16] = &[25, 53, 3306, 27017];

/// The protocol of a Service's port.
pub fn of_service_port(number: u16, name: &str, transport: Option<&str>, app_protocol: Option<&str>) -> AppProtocol {
    if matches!(transport, Some("UDP" | "SCTP")) {
        return AppProtocol::Udp;
    }
    match app_protocol {
        Some("kubernetes.io/h2c") => return AppProtocol::Http2,
        Some("kubernetes.io/ws") => return AppProtocol::Http,
        Some("kubernetes.io/wss") => return AppProtocol::Tcp,
        _ => {}
    }
    let declared = app_protocol.unwrap_or(name).to_ascii_lowercase();
    let protocol =
        if declared.starts_with("grpc-web") { AppProtocol::Http } else { parse(declared.split('-').next().unwrap_or_default()) };
    if protocol == AppProtocol::Auto && SERVER_FIRST.contains(&number) { AppProtocol::Tcp } else { protocol }
}

/// A protocol by its name, as in `ServiceEntry.spec.ports[].protocol`.
pub fn parse(name: &str) -> AppProtocol {
    match name.to_ascii_lowercase().as_str() {
        "http" | "grpc-web" => AppProtocol::Http,
        "http2" | "grpc" => AppProtocol::Http2,
        "tcp" | "tls" | "https" | "mongo" | "redis" | "mysql" => AppProtocol::Tcp,
        "udp" => AppProtocol::Udp,
        _ => AppProtocol::Auto,
    }
}

//! `WorkloadEntry` and `WorkloadGroup` (`validateWorkloadEntry`, `ValidateWorkloadGroup`).

use std::collections::BTreeSet;

use super::field::Field;
use super::{names, selector};
use crate::read::report::Report;

const SOCKET: &str = "unix://";

/// What an endpoint's address may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// An IP address or a Unix socket.
    Ip,
    /// A domain name too.
    IpOrName,
}

/// Checks a `WorkloadEntry`'s `spec`.
pub fn check_entry(spec: &Field<'_>, report: &mut Report) {
    check_endpoint(spec, None, Addresses::IpOrName, report);
}

/// Checks an endpoint; `ports` are the names that its service declares.
pub fn check_endpoint(endpoint: &Field<'_>, ports: Option<&BTreeSet<&str>>, allowed: Addresses, report: &mut Report) {
    let address = endpoint.get("address");
    match (address.has_text(), endpoint.get("network").has_text()) {
        (false, false) => address.error_once(report, "Address is required"),
        (false, true) if ports.is_some() && allowed == Addresses::IpOrName => check_address(&address, allowed, report),
        (false, true) => {
            let network = endpoint.get("network");
            endpoint.warning(report, format!("address is unset with network {:?}", network.text()));
        }
        (true, _) => check_address(&address, allowed, report),
    }
    let socket = address.text().starts_with(SOCKET);
    if socket && ports.is_some() && allowed == Addresses::IpOrName {
        address.error_once(report, not_a_name(address.text()));
    } else if socket && ports.is_some_and(|ports| ports.len() != 1) {
        endpoint.error_once(report, "exactly 1 service port required for unix endpoints");
    }
    check_ports(endpoint, ports, report);
    selector::check_labels(&endpoint.get("labels"), report);
}

fn check_address(address: &Field<'_>, allowed: Addresses, report: &mut Report) {
    let text = address.text();
    if let Some(socket) = text.strip_prefix(SOCKET) {
        return address.expect(report, |_| names::unix_socket(socket));
    }
    if names::address(text).is_ok() {
        return;
    }
    if allowed == Addresses::Ip {
        address.error_once(report, format!("endpoint address {text:?} is not a valid IP address"));
    } else if names::domain(text).is_err() {
        address.error_once(report, not_a_name(text));
    }
}

fn not_a_name(address: &str) -> String {
    format!("endpoint address {address:?} is not a valid FQDN or an IP address")
}

fn check_ports(endpoint: &Field<'_>, declared: Option<&BTreeSet<&str>>, report: &mut Report) {
    let ports = endpoint.get("ports");
    if endpoint.get("address").text().starts_with(SOCKET) && ports.is_given() {
        ports.error(report, "UDS may not include ports");
    }
    for (name, port) in ports.entries() {
        if declared.is_some_and(|declared| !declared.contains(name)) {
            let number = port.integer().unwrap_or(0);
            port.error(report, format!("endpoint port {number} is not defined by the service entry"));
        }
        if let Err(message) = names::port_name(name) {
            port.error_once(report, message);
        }
    }
}

/// Checks a `WorkloadGroup`'s `spec`. Its template may lack what is filled in when a workload registers.
pub fn check_group(spec: &Field<'_>, report: &mut Report) {
    selector::check_labels(&spec.get("metadata").get("labels"), report);
    let template = spec.get("template");
    let address = template.get("address");
    if let Some(socket) = address.text().strip_prefix(SOCKET) {
        address.expect(report, |_| names::unix_socket(socket));
    }
    check_ports(&template, None, report);
    check_probe(&spec.get("probe"), report);
}

fn check_probe(probe: &Field<'_>, report: &mut Report) {
    if !probe.is_given() {
        return;
    }
    if !["httpGet", "tcpSocket", "exec"].iter().any(|method| probe.get(method).is_given()) {
        // istiod refuses gRPC probes too, though the schema has them.
        probe.error_once(report, "unknown health check method: one of httpGet, tcpSocket, exec is required");
    }
    let scheme = probe.get("httpGet").get("scheme");
    if !matches!(scheme.text(), "" | "HTTP" | "HTTPS") {
        scheme.error_once(report, format!("scheme must be one of [HTTP, HTTPS]; found {}", scheme.describe()));
    }
    let command = probe.get("exec").get("command");
    if command.is_given() && command.is_empty() {
        command.error_once(report, "exec.command is required");
    }
    for header in probe.get("httpGet").get("httpHeaders").items() {
        let name = header.get("name");
        let fine = name.has_text() && name.text().bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !fine {
            name.error_once(report, format!("header name {:?} is not a valid header name", name.text()));
        }
    }
}

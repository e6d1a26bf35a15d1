//! `Sidecar` (`ValidateSidecar`).

use std::collections::{BTreeMap, BTreeSet};

use super::field::Field;
use super::{destination_rule, names, pools, selector, tls};
use crate::read::report::Report;

const SOCKET: &str = "unix://";
const NOT_UNIQUE: &str = "sidecar: ports on IP bound listeners must be unique";

/// Checks a `spec`.
pub fn check(spec: &Field<'_>, report: &mut Report) {
    let selects = spec.get("workloadSelector");
    selector::check(&selects, "labels", ("sidecar: ", ", will be applied to all services in namespace"), report);
    let (egress, ingress) = (spec.get("egress"), spec.get("ingress"));
    let others = ["outboundTrafficPolicy", "inboundConnectionPool"].iter().any(|name| spec.get(name).is_given());
    if egress.is_empty() && ingress.is_empty() && !others {
        return spec.error_once(report, "sidecar: empty configuration provided");
    }
    let mut ports = BTreeSet::new();
    for listener in ingress.items() {
        check_ingress(&listener, &mut ports, report);
    }
    pools::check_connection_pool(&spec.get("inboundConnectionPool"), report);
    check_egress(&egress, report);
    check_outbound(&spec.get("outboundTrafficPolicy"), report);
}

fn check_ingress(listener: &Field<'_>, ports: &mut BTreeSet<i64>, report: &mut Report) {
    if listener.is_null() {
        return listener.error_once(report, "sidecar: ingress may not be null");
    }
    let port = listener.get("port");
    if !port.is_given() {
        return port.error_once(report, "sidecar: port is required for ingress listeners");
    }
    check_port(&port, report);
    check_number(&port, report);
    if listener.get("bind").has_text() {
        listener.get("bind").expect(report, names::address);
    }
    if let Some(number) = port.get("number").integer()
        && !ports.insert(number)
    {
        port.get("number").error(report, NOT_UNIQUE);
    }
    let endpoint = listener.get("defaultEndpoint");
    if endpoint.has_text() {
        endpoint.expect(report, default_endpoint);
    }
    check_ingress_tls(&listener.get("tls"), port.get("protocol").text(), report);
    pools::check_connection_pool(&listener.get("connectionPool"), report);
}

fn check_port(port: &Field<'_>, report: &mut Report) {
    if port.get("targetPort").integer().is_some_and(|target| target > 0) {
        port.get("targetPort").error(report, "targetPort has no impact on Sidecars");
    }
    if port.get("name").has_text() {
        port.get("name").expect(report, names::port_name);
    }
    port.get("protocol").expect(report, names::protocol);
}

fn check_number(port: &Field<'_>, report: &mut Report) {
    if let Err(message) = names::port(port.get("number").integer().unwrap_or(0)) {
        port.get("number").error_once(report, message);
    }
}

fn default_endpoint(text: &str) -> Result<(), String> {
    const LOCAL: &[&str] = &["", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"];
    if let Some(socket) = text.strip_prefix(SOCKET) {
        return names::unix_socket(socket);
    }
    let Some((host, port)) = text.rsplit_once(':') else { return Err(format!("address {text}: missing port in address")) };
    if !LOCAL.contains(&host) {
        let forms = "127.0.0.1:<port>,0.0.0.0:<port>,[::1]:port,[::]:port,unix://filepath or unset";
        return Err(format!("sidecar: defaultEndpoint must be of form {forms}"));
    }
    let number =
        port.parse::<i64>().map_err(|error| format!("sidecar: defaultEndpoint port ({port}) is not a number: {error}"))?;
    names::port(number)
}

fn check_ingress_tls(settings: &Field<'_>, protocol: &str, report: &mut Report) {
    const UNSUPPORTED: &[(&str, &str)] = &[
        ("subjectAltNames", "sidecar: subjectAltNames is not supported in ingress tls"),
        ("credentialName", "sidecar: credentialName is not currently supported"),
        ("credentialNames", "sidecar: credentialNames is not currently supported"),
        ("tlsCertificates", "sidecar: tls_certificates is not currently supported"),
    ];
    if !settings.is_given() {
        return;
    }
    for (name, message) in UNSUPPORTED {
        let field = settings.get(name);
        if field.has_text() || !field.is_empty() {
            field.error(report, *message);
        }
    }
    if settings.get("httpsRedirect").is_true() {
        settings.get("httpsRedirect").error(report, "sidecar: httpsRedirect is not supported");
    }
    let mode = settings.get("mode");
    if matches!(mode.text(), "ISTIO_MUTUAL" | "AUTO_PASSTHROUGH") {
        mode.error(report, format!("cannot set mode to {} in sidecar ingress tls", mode.text()));
    }
    if !matches!(protocol.to_ascii_lowercase().as_str(), "https" | "tls") {
        settings.error(report, "server cannot have TLS settings for non HTTPS/TLS ports");
    }
    tls::check_server(settings, report);
}

fn check_egress(egress: &Field<'_>, report: &mut Report) {
    let listeners: Vec<_> = egress.items().collect();
    let mut taken = BTreeSet::new();
    for (index, listener) in listeners.iter().enumerate() {
        if listener.is_null() {
            listener.error_once(report, "egress listener may not be null");
            continue;
        }
        let port = listener.get("port");
        if port.is_given() {
            check_egress_port(listener, &port, &mut taken, report);
        } else if index + 1 != listeners.len() {
            let text = "sidecar: the egress listener with empty port should be the last listener in the list";
            listener.error(report, text);
        }
        check_hosts(&listener.get("hosts"), report);
    }
}

fn check_egress_port(listener: &Field<'_>, port: &Field<'_>, taken: &mut BTreeSet<String>, report: &mut Report) {
    check_port(port, report);
    let bind = listener.get("bind");
    let number = port.get("number").integer().unwrap_or(0);
    if number == 0 {
        match bind.text().strip_prefix(SOCKET) {
            None => bind.error_once(report, "sidecar: ports with 0 value must have a unix domain socket bind address"),
            Some(socket) => bind.expect(report, |_| names::unix_socket(socket)),
        }
        if listener.get("captureMode").text() == "IPTABLES" {
            let text = "sidecar: captureMode must be DEFAULT/NONE for unix domain socket listeners";
            listener.get("captureMode").error(report, text);
        }
        if !taken.insert(bind.text().to_owned()) {
            bind.error_once(report, "sidecar: unix domain socket values for listeners must be unique");
        }
        return;
    }
    check_number(port, report);
    if bind.has_text() {
        bind.expect(report, names::address);
    }
    if !taken.insert(number.to_string()) {
        port.get("number").error_once(report, NOT_UNIQUE);
    }
}

fn check_hosts(hosts: &Field<'_>, report: &mut Report) {
    if hosts.is_empty() {
        return hosts.error_once(report, "sidecar: egress listener must contain at least one host");
    }
    let own = report.namespace().to_owned();
    let mut seen = BTreeMap::<String, BTreeSet<&str>>::new();
    for host in hosts.items() {
        host.expect(report, egress_host);
        let Some((namespace, name)) = host.text().split_once('/').filter(|(namespace, _)| !namespace.starts_with('~')) else {
            continue;
        };
        let namespace = if namespace == "." { own.clone() } else { namespace.to_owned() };
        let names = seen.entry(namespace).or_default();
        let covered = if name == "*" { !names.is_empty() } else { names.contains(name) || names.contains("*") };
        if covered {
            host.warning(report, format!("duplicated egress host: {}", host.text()));
        }
        names.insert(name);
    }
    if seen.get("*").is_some_and(|names| names.contains("*")) && seen.len() > 1 {
        hosts.warning(report, "`*/*` host select all resources, no other hosts can be added");
    }
}

/// `namespace/host`, with `*`, `.` and `~namespace` for the namespace.
fn egress_host(text: &str) -> Result<(), String> {
    let Some((namespace, host)) = text.split_once('/') else {
        return Err("host must be of form namespace/dnsName".to_owned());
    };
    if namespace.is_empty() || host.is_empty() {
        return Err("config namespace and dnsName in host entry cannot be empty".to_owned());
    }
    let name = namespace.strip_prefix('~').unwrap_or(namespace);
    if !matches!(name, "" | "*" | ".") && !names::is_label(name) {
        return Err(format!("invalid namespace value {namespace:?} in sidecar"));
    }
    if host != "*" && !host.contains('.') {
        return Err("short names (non FQDN) are not allowed".to_owned());
    }
    names::wildcard_domain(host)?;
    names::no_partial_wildcard(host)
}

fn check_outbound(policy: &Field<'_>, report: &mut Report) {
    let proxy = policy.get("egressProxy");
    if !proxy.is_given() {
        return;
    }
    if policy.get("mode").text() != "ALLOW_ANY" {
        return proxy.error(report, "sidecar: egress_proxy must be set only with ALLOW_ANY outbound_traffic_policy mode");
    }
    proxy.get("host").expect(report, names::domain);
    if !proxy.get("port").is_given() {
        return proxy.get("port").error(report, "sidecar: egress_proxy port must be non-nil");
    }
    check_number(&proxy.get("port"), report);
    if proxy.get("subset").has_text() {
        proxy.get("subset").expect(report, destination_rule::subset_name);
    }
}

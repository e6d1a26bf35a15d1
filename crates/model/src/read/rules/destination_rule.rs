//! `DestinationRule` (`ValidateDestinationRule`).

use std::collections::BTreeSet;

use super::export_to::{self, Exporter};
use super::field::Field;
use super::{names, pools, selector, tls};
use crate::read::report::Report;

/// Checks a `spec`.
pub fn check(spec: &Field<'_>, report: &mut Report) {
    let namespace = report.namespace().to_owned();
    let host = spec.get("host");
    host.expect(report, names::wildcard_domain);
    let rule = Rule { namespace: &namespace, host: host.text() };
    rule.traffic_policy(&spec.get("trafficPolicy"), report);
    let mut subsets = BTreeSet::new();
    for subset in spec.get("subsets").items() {
        if subset.is_null() {
            subset.error(report, "subset may not be null");
            continue;
        }
        let name = subset.get("name");
        if !subsets.insert(name.text().to_owned()) {
            name.error(report, format!("duplicate subset names: {}", name.text()));
        }
        name.expect(report, subset_name);
        selector::check_labels(&subset.get("labels"), report);
        rule.traffic_policy(&subset.get("trafficPolicy"), report);
    }
    let selects = spec.get("workloadSelector");
    let exporter = if selects.is_given() { Exporter::RuleWithSelector } else { Exporter::Rule };
    export_to::check(&spec.get("exportTo"), &namespace, exporter, report);
    selector::check(&selects, "matchLabels", ("", ""), report);
}

/// The name of a subset.
pub fn subset_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("subset name cannot be empty".to_owned()),
        name if names::is_label(name) => Ok(()),
        _ => Err(format!("subset name is invalid: {name}")),
    }
}

struct Rule<'a> {
    namespace: &'a str,
    host: &'a str,
}

impl Rule<'_> {
    fn traffic_policy(&self, policy: &Field<'_>, report: &mut Report) {
        const FIELDS: &[&str] =
            &["outlierDetection", "connectionPool", "loadBalancer", "tls", "tunnel", "proxyProtocol", "retryBudget"];
        if !policy.is_given() {
            return;
        }
        let ports = policy.get("portLevelSettings");
        if !FIELDS.iter().any(|field| policy.get(field).is_given()) && ports.is_empty() {
            return policy.error_once(report, "traffic policy must have at least one field");
        }
        if policy.get("tunnel").is_given() && policy.get("proxyProtocol").is_given() {
            return policy.error(report, "tunnel and proxyProtocol must not be set together");
        }
        self.settings(policy, report);
        for port in ports.items() {
            self.port_policy(&port, report);
        }
        tunnel(&policy.get("tunnel"), report);
    }

    /// What a policy and one of its ports have in common.
    fn settings(&self, policy: &Field<'_>, report: &mut Report) {
        let outlier = policy.get("outlierDetection");
        pools::check_outlier_detection(&outlier, report);
        pools::check_connection_pool(&policy.get("connectionPool"), report);
        pools::check_load_balancer(&policy.get("loadBalancer"), outlier.is_given(), report);
        tls::check_client(&policy.get("tls"), self.namespace, report);
        tls::warn_without_roots(&policy.get("tls"), self.host, report);
    }

    fn port_policy(&self, policy: &Field<'_>, report: &mut Report) {
        const FIELDS: &[&str] = &["outlierDetection", "connectionPool", "loadBalancer", "tls"];
        if policy.is_null() {
            return policy.error(report, "traffic policy may not be null");
        }
        let number = policy.get("port").get("number");
        if !policy.get("port").is_given() {
            policy.get("port").error(report, "portTrafficPolicy must have valid port");
        } else if number.integer().is_none_or(|port| names::port(port).is_err()) {
            number.warning(
                report,
                format!("found {}; no Service has such a port, so this entry is never used", describe_port(&number)),
            );
        }
        if !FIELDS.iter().any(|field| policy.get(field).is_given()) {
            return policy.error_once(report, "port traffic policy must have at least one field");
        }
        self.settings(policy, report);
    }
}

fn describe_port(number: &Field<'_>) -> String {
    if number.is_given() { number.describe() } else { "no number".to_owned() }
}

fn tunnel(tunnel: &Field<'_>, report: &mut Report) {
    if !tunnel.is_given() {
        return;
    }
    let protocol = tunnel.get("protocol");
    if !matches!(protocol.text(), "" | "CONNECT" | "POST") {
        protocol.error_once(report, "tunnel protocol must be \"CONNECT\" or \"POST\"");
    }
    let host = tunnel.get("targetHost");
    if let (Err(name), Err(address)) = (names::domain(host.text()), names::address(host.text())) {
        host.error_once(report, format!("tunnel target host must be valid FQDN or IP address: {name}; {address}"));
    }
    let port = tunnel.get("targetPort");
    if let Some(Err(message)) = port.integer().map(names::port) {
        port.error_once(report, format!("tunnel target port is invalid: {message}"));
    }
}

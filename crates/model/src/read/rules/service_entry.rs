//! `ServiceEntry` (`ValidateServiceEntry`, and the rules in its CustomResourceDefinition).

use std::collections::BTreeSet;

use super::export_to::{self, Exporter};
use super::field::Field;
use super::workload::{self, Addresses};
use super::{names, selector};
use crate::read::report::Report;

/// Checks a `spec`, of an object with these labels.
pub fn check(spec: &Field<'_>, labels: &Field<'_>, report: &mut Report) {
    let namespace = report.namespace().to_owned();
    let selects = spec.get("workloadSelector");
    selector::check(&selects, "labels", ("service entry: ", ", will be applied to all services in namespace"), report);
    if selects.is_given() && spec.get("endpoints").is_given() {
        spec.get("endpoints").error(report, "only one of WorkloadSelector or Endpoints can be set");
    }
    let resolution = match spec.get("resolution").text() {
        "" => "NONE",
        resolution => resolution,
    };
    hosts(&spec.get("hosts"), resolution, report);
    addresses(&spec.get("addresses"), resolution, report);
    let ports = ports(&spec.get("ports"), report);
    let allocated = resolution != "NONE" && !labels.get(ALLOCATE).text().eq_ignore_ascii_case("false");
    if !allocated && spec.get("addresses").is_empty() {
        without_addresses(spec, report);
    }
    match resolution {
        "NONE" => without_resolution(spec, report),
        "STATIC" => endpoints(&spec.get("endpoints"), &ports, Addresses::Ip, report),
        "DNS" | "DNS_ROUND_ROBIN" => by_dns(spec, resolution, &ports, report),
        "DYNAMIC_DNS" => by_dynamic_dns(spec, resolution, report),
        _ => {}
    }
    if resolution != "NONE" {
        several_hosts(spec, report);
    }
    export_to::check(&spec.get("exportTo"), &namespace, Exporter::ServiceEntry, report);
}

fn hosts(hosts: &Field<'_>, resolution: &str, report: &mut Report) {
    if hosts.is_given() && hosts.is_empty() {
        hosts.error_once(report, "service entry must have at least one host");
    }
    for host in hosts.items() {
        if host.text() == "*" {
            host.error(report, "hostname cannot be wildcard");
            continue;
        }
        host.expect(report, names::wildcard_domain);
        if let Err(message) = names::no_partial_wildcard(host.text())
            && resolution != "DYNAMIC_DNS"
        {
            host.warning(report, message);
        }
    }
}

fn addresses(addresses: &Field<'_>, resolution: &str, report: &mut Report) {
    for address in addresses.items() {
        address.expect(report, names::subnet);
        if address.text().contains('/') && !matches!(resolution, "NONE" | "STATIC") {
            address.error_once(report, "CIDR addresses are allowed only for NONE/STATIC resolution types");
        }
    }
}

/// Checks the ports and returns their names.
fn ports<'a>(ports: &Field<'a>, report: &mut Report) -> BTreeSet<&'a str> {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for port in ports.items() {
        if port.is_null() {
            port.error_once(report, "service entry port may not be null");
            continue;
        }
        let (name, number) = (port.get("name"), port.get("number"));
        if !names.insert(name.text()) {
            name.error(report, format!("service entry port name {:?} already defined (Duplicate value)", name.text()));
        }
        if let Some(written) = number.integer()
            && !numbers.insert(written)
        {
            number.error(report, format!("service entry port {written} already defined (port number cannot be duplicated)"));
        }
        name.expect(report, names::port_name);
        port.get("protocol").expect(report, names::protocol);
    }
    names
}

/// Connections to a port of plain TCP are told apart by address alone.
fn without_addresses(spec: &Field<'_>, report: &mut Report) {
    for port in spec.get("ports").items().filter(|port| !port.is_null() && matches!(port.get("protocol").text(), "" | "TCP")) {
        let text = "addresses are required for ports serving TCP (or unset) protocol when IP Autoallocation is not enabled";
        port.warning(report, text);
    }
}

/// The label that says whether a host without addresses is given some.
const ALLOCATE: &str = "networking.istio.io/enable-autoallocate-ip";

fn endpoints(endpoints: &Field<'_>, ports: &BTreeSet<&str>, allowed: Addresses, report: &mut Report) {
    for endpoint in endpoints.items() {
        if endpoint.is_null() {
            endpoint.error_once(report, "endpoint cannot be nil");
            continue;
        }
        workload::check_endpoint(&endpoint, Some(ports), allowed, report);
    }
}

fn without_resolution(spec: &Field<'_>, report: &mut Report) {
    if spec.get("endpoints").is_given() {
        spec.get("endpoints").error(report, "NONE mode cannot set endpoints");
    }
    if spec.get("workloadSelector").is_given() {
        spec.get("workloadSelector").warning(report, "workloadSelector should not be set when resolution mode is NONE");
    }
}

fn by_dns(spec: &Field<'_>, resolution: &str, ports: &BTreeSet<&str>, report: &mut Report) {
    let given = spec.get("endpoints");
    if given.is_empty() {
        for host in spec.get("hosts").items() {
            if let Err(why) = names::domain(host.text()) {
                let text = "hosts must be FQDN or contain only prefix wildcards if no endpoints are provided for resolution mode";
                host.error_once(report, format!("{text} {resolution}, {why}"));
                break;
            }
        }
    }
    if resolution == "DNS_ROUND_ROBIN" && given.len() > 1 {
        given.error(report, "DNS_ROUND_ROBIN mode cannot have multiple endpoints");
    }
    endpoints(&given, ports, Addresses::IpOrName, report);
    let with_tcp = spec.get("ports").items().any(|port| is_tcp(port.get("protocol").text()));
    if !spec.get("addresses").is_empty() && with_tcp && spec.get("hosts").len() > 1 {
        let text = "service entry can not have more than one host specified simultaneously with address and tcp port";
        spec.get("hosts").warning(report, text);
    }
}

fn by_dynamic_dns(spec: &Field<'_>, resolution: &str, report: &mut Report) {
    for host in spec.get("hosts").items().filter(|host| !host.text().starts_with('*')) {
        host.error_once(report, format!("host must be wildcarded for resolution mode {resolution}"));
    }
    for name in ["addresses", "endpoints"] {
        let field = spec.get(name);
        if !field.is_empty() {
            field.error(report, format!("{name} cannot be set for resolution type {resolution}"));
        }
    }
    for port in spec.get("ports").items() {
        let protocol = port.get("protocol");
        if !matches!(protocol.text().to_ascii_lowercase().as_str(), "http" | "tls" | "grpc" | "http2") {
            let text = "only HTTP, TLS, GRPC, and HTTP2 protocols are supported for resolution type";
            protocol.error_once(report, format!("{text} {resolution}"));
        }
    }
}

/// Plain TCP cannot tell several hosts apart.
fn several_hosts(spec: &Field<'_>, report: &mut Report) {
    if spec.get("hosts").len() < 2 {
        return;
    }
    let mut ports = spec.get("ports").items();
    if let Some(port) = ports.find(|port| !tells_hosts_apart(port.get("protocol").text())) {
        port.error(report, "multiple hosts provided with non-HTTP, non-TLS ports");
    }
}

fn tells_hosts_apart(protocol: &str) -> bool {
    let protocol = protocol.to_ascii_lowercase();
    matches!(protocol.as_str(), "http" | "http2" | "grpc" | "grpc-web" | "http_proxy" | "hbone" | "https" | "tls")
}

fn is_tcp(protocol: &str) -> bool {
    matches!(protocol.to_ascii_lowercase().as_str(), "tcp" | "https" | "tls" | "mongo" | "redis" | "mysql")
}

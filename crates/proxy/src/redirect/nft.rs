//! The rules as an nftables script: one table of our own, replaced in one transaction.

use std::fmt::Write;

use ipnet::IpNet;

use super::{
    Captured, DNS_PORT, Exempt, Family, HBONE_PORT, IPV4, IPV6, Interception, NAME_SERVICE_PORT, Settings, TPROXY_MARK, ranges,
    sorted,
};

/// The table that holds the rules.
pub const TABLE: &str = "mutua";

/// The script that puts the rules in place: it removes what an earlier version left and adds the table anew, in one
/// transaction, so that there is no moment without capture.
#[must_use]
pub fn script(settings: &Settings) -> String {
    format!("{}{}", drop_table(settings, TABLE), table(settings, TABLE, false))
}

/// `inet` where IPv6 exists, else `ip`.
pub(super) fn family(settings: &Settings) -> &'static str {
    if settings.ipv6 { "inet" } else { "ip" }
}

/// Removes a table whether or not it exists: adding an existing table changes nothing.
pub(super) fn drop_table(settings: &Settings, name: &str) -> String {
    let family = family(settings);
    format!("table {family} {name}\ndelete table {family} {name}\n")
}

/// The table alone; a dormant one is checked and kept by the kernel, but sees no packet.
pub(super) fn table(settings: &Settings, name: &str, dormant: bool) -> String {
    let mut text = format!("table {} {name} {{\n", family(settings));
    if dormant {
        text.push_str("\tflags dormant\n");
    }
    chain(&mut text, "outbound", "type nat hook output priority -100; policy accept;", &outbound(settings));
    if settings.interception == Interception::Tproxy {
        chain(&mut text, "inbound", "type filter hook prerouting priority -150; policy accept;", &transparent(settings));
        let answers = format!("meta l4proto tcp ct mark {TPROXY_MARK:#010x} meta mark set {TPROXY_MARK:#010x}");
        chain(&mut text, "answers", "type route hook output priority -150; policy accept;", &[answers]);
    } else {
        chain(&mut text, "inbound", "type nat hook prerouting priority -100; policy accept;", &inbound(settings));
    }
    chain(&mut text, "guard", "type filter hook input priority 0; policy accept;", &guard(settings));
    if settings.captures_dns() {
        chain(&mut text, "zones_out", "type filter hook output priority -300; policy accept;", &zones_out(settings));
        chain(&mut text, "zones_in", "type filter hook prerouting priority -300; policy accept;", &zones_in(settings));
    }
    text.push_str("}\n");
    text
}

fn chain(text: &mut String, name: &str, hook: &str, rules: &[String]) {
    // Writing to a string cannot fail.
    let _ = write!(text, "\tchain {name} {{\n\t\t{hook}\n");
    for rule in rules {
        let _ = writeln!(text, "\t\t{rule}");
    }
    text.push_str("\t}\n");
}

fn families(settings: &Settings) -> Vec<Family> {
    if settings.ipv6 { vec![IPV4, IPV6] } else { vec![IPV4] }
}

/// How the sidecar's own packets are told.
fn own(settings: &Settings) -> Vec<String> {
    match settings.exempt {
        Exempt::Owner { uid, gid } => vec![format!("meta skuid {uid}"), format!("meta skgid {gid}")],
        Exempt::Mark(mark) => vec![format!("meta mark {mark:#010x}")],
    }
}

fn outbound(settings: &Settings) -> Vec<String> {
    let mut rules = Vec::new();
    if !settings.exclude_interfaces.is_empty() {
        rules.push(format!("oifname {} return", names(&settings.exclude_interfaces)));
    }
    if settings.interception == Interception::Tproxy {
        rules.push(format!("meta mark {TPROXY_MARK:#010x} return"));
    }
    let excluded = settings.uncaptured_outbound();
    if !excluded.is_empty() {
        rules.push(format!("tcp dport {} return", set(&excluded)));
        if settings.captures_dns() {
            rules.push(format!("udp dport {} return", set(&excluded)));
        }
    }
    for Family { nft, inbound_source, .. } in families(settings) {
        rules.push(format!("oifname \"lo\" {nft} saddr {inbound_source} return"));
    }
    let not_to_us = if settings.captures_dns() {
        format!("!= {}", set(&[NAME_SERVICE_PORT, HBONE_PORT]))
    } else {
        format!("!= {HBONE_PORT}")
    };
    let own = own(settings);
    for own in &own {
        for Family { nft, loopback, .. } in families(settings) {
            rules.push(format!(
                "oifname \"lo\" {own} {nft} daddr != {loopback} tcp dport {not_to_us} redirect to :{}",
                settings.inbound_port
            ));
        }
    }
    rules.extend(own.iter().map(|own| format!("{own} return")));
    for protocol in ["udp", "tcp"] {
        let to_dns = |server: String| format!("{server}{protocol} dport {NAME_SERVICE_PORT} redirect to :{DNS_PORT}");
        rules.extend(servers(settings, "daddr").map(to_dns));
    }
    rules.push("oifname \"lo\" return".to_owned());
    rules.extend(chosen(settings));
    rules
}

/// Which destinations are captured.
fn chosen(settings: &Settings) -> Vec<String> {
    let redirect = format!("redirect to :{}", settings.outbound_port);
    let mut rules = Vec::new();
    let mut within = |nets: &[IpNet], verdict: &str| {
        for family in families(settings) {
            let own = ranges(nets, family);
            if !own.is_empty() {
                rules.push(format!("{} daddr {} {verdict}", family.nft, prefixes(&own)));
            }
        }
    };
    within(&settings.exclude_outbound_ranges, "return");
    if let Captured::These(nets) = &settings.include_outbound_ranges {
        within(nets, &format!("meta l4proto tcp {redirect}"));
        if !settings.include_outbound_ports.is_empty() {
            rules.push(format!("tcp dport {} {redirect}", set(&sorted(settings.include_outbound_ports.clone()))));
        }
    } else {
        rules.push(format!("meta l4proto tcp {redirect}"));
    }
    rules
}

/// The captured name servers of each family as a match; one that matches all when all are.
fn servers(settings: &Settings, side: &str) -> impl Iterator<Item = String> {
    let one = move |family: Family| match settings.dns_of(family) {
        Some(Some(servers)) => Some(format!("{} {side} {{ {} }} ", family.nft, servers.join(", "))),
        Some(None) => (family == IPV4).then(String::new),
        None => None,
    };
    families(settings).into_iter().filter_map(one)
}

/// Questions of the sidecar and of the workload are kept apart, so that a port which both used is not taken for one
/// conversation (`addDNSConntrackZones`).
fn zones_out(settings: &Settings) -> Vec<String> {
    let mut rules = Vec::new();
    rules.extend(own(settings).iter().map(|own| format!("{own} udp dport {NAME_SERVICE_PORT} ct zone set 1")));
    // From this port nobody but the sidecar's DNS sends.
    rules.push(format!("udp sport {DNS_PORT} ct zone set 2"));
    rules.extend(servers(settings, "daddr").map(|server| format!("{server}udp dport {NAME_SERVICE_PORT} ct zone set 2")));
    rules
}

fn zones_in(settings: &Settings) -> Vec<String> {
    servers(settings, "saddr").map(|server| format!("{server}udp sport {NAME_SERVICE_PORT} ct zone set 1")).collect()
}

/// As [`inbound`], with both addresses kept. A connection to the application that comes over loopback is the sidecar's, whose
/// answers have to find back, or the workload's own.
fn transparent(settings: &Settings) -> Vec<String> {
    let mut rules = Vec::new();
    if !settings.exclude_interfaces.is_empty() {
        rules.push(format!("iifname {} return", names(&settings.exclude_interfaces)));
    }
    rules.push(format!("iifname \"lo\" meta mark {TPROXY_MARK:#010x} ct mark set {TPROXY_MARK:#010x} return"));
    rules.push("iifname \"lo\" return".to_owned());
    rules.push(format!("tcp dport {} return", set(&settings.uncaptured_inbound())));
    let these = match &settings.include_inbound_ports {
        Captured::All => "meta l4proto tcp".to_owned(),
        Captured::These(ports) if ports.is_empty() => return rules,
        Captured::These(ports) => format!("tcp dport {}", set(&sorted(ports.clone()))),
    };
    rules.push(format!("{these} tproxy to :{} accept", settings.inbound_port));
    // Nobody listens: a new connection goes nowhere instead of to the application.
    rules.push(format!("{these} tcp flags & (fin | syn | rst | ack) == syn drop"));
    rules
}

fn inbound(settings: &Settings) -> Vec<String> {
    let mut rules = Vec::new();
    if !settings.exclude_interfaces.is_empty() {
        rules.push(format!("iifname {} return", names(&settings.exclude_interfaces)));
    }
    rules.push(format!("tcp dport {} return", set(&settings.uncaptured_inbound())));
    let redirect = format!("redirect to :{}", settings.inbound_port);
    match &settings.include_inbound_ports {
        Captured::All => rules.push(format!("meta l4proto tcp {redirect}")),
        Captured::These(ports) if ports.is_empty() => {}
        Captured::These(ports) => rules.push(format!("tcp dport {} {redirect}", set(&sorted(ports.clone())))),
    }
    rules
}

fn guard(settings: &Settings) -> Vec<String> {
    let own = set(&settings.own_ports());
    vec![format!("tcp dport {own} ct status dnat accept"), format!("tcp dport {own} reject with tcp reset")]
}

fn set(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}

fn prefixes(nets: &[IpNet]) -> String {
    let host = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
    let nets: Vec<String> = nets.iter().map(|net| if host(net) { net.addr().to_string() } else { net.to_string() }).collect();
    format!("{{ {} }}", nets.join(", "))
}

fn names(interfaces: &[String]) -> String {
    let names: Vec<String> = interfaces.iter().map(|name| format!("\"{name}\"")).collect();
    format!("{{ {} }}", names.join(", "))
}

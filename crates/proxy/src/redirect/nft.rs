//! The rules as an nftables script: one table of our own, replaced in one transaction.

use std::fmt::Write;

use super::{Exempt, Family, HBONE_PORT, IPV4, IPV6, Settings};

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
    chain(&mut text, "inbound", "type nat hook prerouting priority -100; policy accept;", &inbound(settings));
    chain(&mut text, "guard", "type filter hook input priority 0; policy accept;", &guard(settings));
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

fn outbound(settings: &Settings) -> Vec<String> {
    let mut rules = Vec::new();
    let excluded = settings.uncaptured_outbound();
    if !excluded.is_empty() {
        rules.push(format!("tcp dport {} return", set(&excluded)));
    }
    let own: Vec<String> = match settings.exempt {
        Exempt::Owner { uid, gid } => vec![format!("meta skuid {uid}"), format!("meta skgid {gid}")],
        Exempt::Mark(mark) => vec![format!("meta mark {mark:#010x}")],
    };
    for Family { nft, inbound_source, .. } in families(settings) {
        rules.push(format!("oifname \"lo\" {nft} saddr {inbound_source} return"));
    }
    for own in &own {
        for Family { nft, loopback, .. } in families(settings) {
            rules.push(format!(
                "oifname \"lo\" {own} {nft} daddr != {loopback} tcp dport != {HBONE_PORT} redirect to :{}",
                settings.inbound_port
            ));
        }
    }
    rules.extend(own.iter().map(|own| format!("{own} return")));
    rules.push("oifname \"lo\" return".to_owned());
    rules.push(format!("meta l4proto tcp redirect to :{}", settings.outbound_port));
    rules
}

fn inbound(settings: &Settings) -> Vec<String> {
    vec![
        format!("tcp dport {} return", set(&settings.uncaptured_inbound())),
        format!("meta l4proto tcp redirect to :{}", settings.inbound_port),
    ]
}

fn guard(settings: &Settings) -> Vec<String> {
    let own = set(&settings.own_ports());
    vec![format!("tcp dport {own} ct status dnat accept"), format!("tcp dport {own} reject with tcp reset")]
}

fn set(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}

//! The rules as text for `iptables-restore --noflush`, written as `iptables-save` prints them, so that a check is
//! a comparison of lines.

use super::{
    Captured, DNS_PORT, Exempt, Family, HBONE_PORT, IPV4, Interception, NAME_SERVICE_PORT, Settings, TPROXY_MARK, ranges, sorted,
};

const OUTPUT: &str = "MUTUA_OUTPUT";
const INBOUND: &str = "MUTUA_INBOUND";
const GUARD: &str = "MUTUA_GUARD";
const ZONES_OUT: &str = "MUTUA_ZONES_OUT";
const ZONES_IN: &str = "MUTUA_ZONES_IN";
const TRANSPARENT: &str = "MUTUA_TPROXY";
const ANSWERS: &str = "MUTUA_ANSWERS";
/// Our chains by table.
const CHAINS: [(&str, &[&str]); 4] =
    [("nat", &[OUTPUT, INBOUND]), ("filter", &[GUARD]), ("raw", &[ZONES_OUT, ZONES_IN]), ("mangle", &[TRANSPARENT, ANSWERS])];

/// Where the kernel's chains lead into ours: (table, jump).
pub(super) const JUMPS: [(&str, &str); 7] = [
    ("nat", "-A OUTPUT -j MUTUA_OUTPUT"),
    ("nat", "-A PREROUTING -p tcp -j MUTUA_INBOUND"),
    ("filter", "-A INPUT -p tcp -j MUTUA_GUARD"),
    ("raw", "-A OUTPUT -p udp -j MUTUA_ZONES_OUT"),
    ("raw", "-A PREROUTING -p udp -j MUTUA_ZONES_IN"),
    ("mangle", "-A PREROUTING -p tcp -j MUTUA_TPROXY"),
    ("mangle", "-A OUTPUT -p tcp -j MUTUA_ANSWERS"),
];

/// The text that puts the rules of one family in place. Our chains are emptied and filled in one transaction for each
/// table; `jumps` are those of the kernel's chains into ours that do not exist yet.
pub(super) fn restore(settings: &Settings, family: Family, jumps: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (table, chains) in CHAINS {
        text.push_str(&format!("*{table}\n"));
        for chain in chains {
            text.push_str(&format!(":{chain} - [0:0]\n"));
        }
        for (_, jump) in jumps.iter().filter(|(of, _)| *of == table) {
            text.push_str(&format!("{jump}\n"));
        }
        for (_, rule) in rules(settings, family).iter().filter(|(of, _)| *of == table) {
            text.push_str(&format!("{rule}\n"));
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// Every rule of our chains: (table, rule), in order within a chain.
pub(super) fn rules(settings: &Settings, family: Family) -> Vec<(&'static str, String)> {
    let mut rules: Vec<(&str, String)> = Vec::new();
    rules.extend(outbound(settings, family).into_iter().map(|rule| ("nat", format!("-A {OUTPUT} {rule}"))));
    if settings.interception == Interception::Tproxy {
        rules.extend(transparent(settings, family).into_iter().map(|rule| ("mangle", format!("-A {TRANSPARENT} {rule}"))));
        let answers = format!("-p tcp -m connmark --mark {TPROXY_MARK:#x} -j MARK --set-xmark {TPROXY_MARK:#x}/0xffffffff");
        rules.push(("mangle", format!("-A {ANSWERS} {answers}")));
    } else {
        rules.extend(inbound(settings).into_iter().map(|rule| ("nat", format!("-A {INBOUND} {rule}"))));
    }
    rules.extend(guard(settings).into_iter().map(|rule| ("filter", format!("-A {GUARD} {rule}"))));
    rules.extend(zones_out(settings, family).into_iter().map(|rule| ("raw", format!("-A {ZONES_OUT} {rule}"))));
    rules.extend(zones_in(settings, family).into_iter().map(|rule| ("raw", format!("-A {ZONES_IN} {rule}"))));
    rules
}

/// The text that takes our chains away; `present` are the lines of `iptables-save`.
pub(super) fn removal(present: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (table, chains) in CHAINS {
        let here = |line: &str| present.iter().any(|(of, present)| *of == table && present == line);
        text.push_str(&format!("*{table}\n"));
        for (_, jump) in JUMPS.iter().filter(|(of, jump)| *of == table && here(jump)) {
            text.push_str(&format!("{}\n", jump.replacen("-A ", "-D ", 1)));
        }
        for chain in chains {
            // Declaring a chain empties or creates it; then it can be removed.
            text.push_str(&format!(":{chain} - [0:0]\n"));
        }
        for chain in chains {
            text.push_str(&format!("-X {chain}\n"));
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// Whether a line of `iptables-save` is one of our rules or a jump to them.
pub(super) fn is_ours(line: &str) -> bool {
    line.starts_with("-A ") && CHAINS.iter().any(|(_, chains)| line.split(' ').any(|word| chains.contains(&word)))
}

/// How the sidecar's own packets are told.
fn own(settings: &Settings) -> Vec<String> {
    match settings.exempt {
        Exempt::Owner { uid, gid } => vec![format!("-m owner --uid-owner {uid}"), format!("-m owner --gid-owner {gid}")],
        Exempt::Mark(mark) => vec![format!("-m mark --mark {mark:#x}")],
    }
}

fn outbound(settings: &Settings, family: Family) -> Vec<String> {
    let Family { loopback, inbound_source, host_prefix, .. } = family;
    let mut rules: Vec<String> = settings.exclude_interfaces.iter().map(|name| format!("-o {name} -j RETURN")).collect();
    if settings.interception == Interception::Tproxy {
        rules.push(format!("-m mark --mark {TPROXY_MARK:#x} -j RETURN"));
    }
    for port in settings.uncaptured_outbound() {
        rules.push(format!("-p tcp -m tcp --dport {port} -j RETURN"));
        if settings.captures_dns() {
            rules.push(format!("-p udp -m udp --dport {port} -j RETURN"));
        }
    }
    rules.push(format!("-s {inbound_source}/{host_prefix} -o lo -j RETURN"));
    let not_to_us = if settings.captures_dns() {
        format!("-m multiport ! --dports {NAME_SERVICE_PORT},{HBONE_PORT}")
    } else {
        format!("-m tcp ! --dport {HBONE_PORT}")
    };
    let own = own(settings);
    for own in &own {
        rules.push(format!(
            "! -d {loopback}/{host_prefix} -o lo -p tcp {own} {not_to_us} -j REDIRECT --to-ports {}",
            settings.inbound_port
        ));
    }
    rules.extend(own.iter().map(|own| format!("{own} -j RETURN")));
    for protocol in ["udp", "tcp"] {
        let to_dns = |server: String| {
            format!("{server}-p {protocol} -m {protocol} --dport {NAME_SERVICE_PORT} -j REDIRECT --to-ports {DNS_PORT}")
        };
        rules.extend(servers(settings, family, "-d").into_iter().map(to_dns));
    }
    rules.push("-o lo -j RETURN".to_owned());
    rules.extend(chosen(settings, family));
    rules
}

/// Which destinations are captured.
fn chosen(settings: &Settings, family: Family) -> Vec<String> {
    let redirect = format!("-j REDIRECT --to-ports {}", settings.outbound_port);
    let excluded = ranges(&settings.exclude_outbound_ranges, family);
    let mut rules: Vec<String> = excluded.iter().map(|net| format!("-d {net} -j RETURN")).collect();
    if let Captured::These(nets) = &settings.include_outbound_ranges {
        rules.extend(ranges(nets, family).iter().map(|net| format!("-d {net} -p tcp {redirect}")));
        let ports = sorted(settings.include_outbound_ports.clone());
        rules.extend(ports.iter().map(|port| format!("-p tcp -m tcp --dport {port} {redirect}")));
    } else {
        rules.push(format!("-p tcp {redirect}"));
    }
    rules
}

/// The captured name servers of a family as a match; one that matches all when all are.
fn servers(settings: &Settings, family: Family, side: &str) -> Vec<String> {
    match settings.dns_of(family) {
        Some(Some(servers)) => servers.iter().map(|server| format!("{side} {server}/{} ", family.host_prefix)).collect(),
        Some(None) => vec![String::new()],
        None => Vec::new(),
    }
}

/// Questions of the sidecar and of the workload are kept apart, so that a port which both used is not taken for one
/// conversation (`addDNSConntrackZones`).
fn zones_out(settings: &Settings, family: Family) -> Vec<String> {
    let mut rules = Vec::new();
    if settings.captures_dns() {
        let questions =
            own(settings).into_iter().map(|own| format!("-p udp -m udp --dport {NAME_SERVICE_PORT} {own} -j CT --zone 1"));
        rules.extend(questions);
        // From this port nobody but the sidecar's DNS sends.
        rules.push(format!("-p udp -m udp --sport {DNS_PORT} -j CT --zone 2"));
    }
    let of_server = |server: String| format!("{server}-p udp -m udp --dport {NAME_SERVICE_PORT} -j CT --zone 2");
    rules.extend(servers(settings, family, "-d").into_iter().map(of_server));
    rules
}

fn zones_in(settings: &Settings, family: Family) -> Vec<String> {
    let of_server = |server: String| format!("{server}-p udp -m udp --sport {NAME_SERVICE_PORT} -j CT --zone 1");
    servers(settings, family, "-s").into_iter().map(of_server).collect()
}

/// As [`inbound`], with both addresses kept. A connection to the application that comes over loopback is the sidecar's, whose
/// answers have to find back, or the workload's own.
fn transparent(settings: &Settings, family: Family) -> Vec<String> {
    let mut rules: Vec<String> = settings.exclude_interfaces.iter().map(|name| format!("-i {name} -j RETURN")).collect();
    rules.push(format!("-i lo -p tcp -m mark --mark {TPROXY_MARK:#x} -j CONNMARK --set-xmark {TPROXY_MARK:#x}/0xffffffff"));
    rules.push("-i lo -j RETURN".to_owned());
    rules.extend(settings.uncaptured_inbound().iter().map(|port| format!("-p tcp -m tcp --dport {port} -j RETURN")));
    // TPROXY drops what has no listener, so it is for new connections only.
    rules.push("-p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN".to_owned());
    let any = if family == IPV4 { "0.0.0.0" } else { "::" };
    let to_us = format!("-j TPROXY --on-port {} --on-ip {any} --tproxy-mark 0x0/0x0", settings.inbound_port);
    match &settings.include_inbound_ports {
        Captured::All => rules.push(format!("-p tcp {to_us}")),
        Captured::These(ports) => {
            rules.extend(sorted(ports.clone()).iter().map(|port| format!("-p tcp -m tcp --dport {port} {to_us}")));
        }
    }
    rules
}

fn inbound(settings: &Settings) -> Vec<String> {
    let mut rules: Vec<String> = settings.exclude_interfaces.iter().map(|name| format!("-i {name} -j RETURN")).collect();
    let uncaptured = settings.uncaptured_inbound();
    rules.extend(uncaptured.iter().map(|port| format!("-p tcp -m tcp --dport {port} -j RETURN")));
    let redirect = format!("-j REDIRECT --to-ports {}", settings.inbound_port);
    match &settings.include_inbound_ports {
        Captured::All => rules.push(format!("-p tcp {redirect}")),
        Captured::These(ports) => {
            rules.extend(sorted(ports.clone()).iter().map(|port| format!("-p tcp -m tcp --dport {port} {redirect}")));
        }
    }
    rules
}

fn guard(settings: &Settings) -> Vec<String> {
    let per_port = |port: &u16| {
        [
            format!("-p tcp -m tcp --dport {port} -m conntrack --ctstate DNAT -j RETURN"),
            format!("-p tcp -m tcp --dport {port} -j REJECT --reject-with tcp-reset"),
        ]
    };
    settings.own_ports().iter().flat_map(per_port).collect()
}

//! The rules as text for `iptables-restore --noflush`, written as `iptables-save` prints them, so that a check is
//! a comparison of lines.

use super::{Exempt, Family, HBONE_PORT, Settings};

const OUTPUT: &str = "MUTUA_OUTPUT";
const INBOUND: &str = "MUTUA_INBOUND";
const GUARD: &str = "MUTUA_GUARD";

/// Where the kernel's chains lead into ours: (table, jump).
pub(super) const JUMPS: [(&str, &str); 3] = [
    ("nat", "-A OUTPUT -p tcp -j MUTUA_OUTPUT"),
    ("nat", "-A PREROUTING -p tcp -j MUTUA_INBOUND"),
    ("filter", "-A INPUT -p tcp -j MUTUA_GUARD"),
];

/// The text that puts the rules of one family in place. Our chains are emptied and filled in one transaction for each
/// table; `jumps` are those of the kernel's chains into ours that do not exist yet.
pub(super) fn restore(settings: &Settings, family: Family, jumps: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (table, chains) in [("nat", &[OUTPUT, INBOUND][..]), ("filter", &[GUARD][..])] {
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
    rules.extend(inbound(settings).into_iter().map(|rule| ("nat", format!("-A {INBOUND} {rule}"))));
    rules.extend(guard(settings).into_iter().map(|rule| ("filter", format!("-A {GUARD} {rule}"))));
    rules
}

/// The text that takes our chains away; `present` are the lines of `iptables-save`.
pub(super) fn removal(present: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (table, chains) in [("nat", &[OUTPUT, INBOUND][..]), ("filter", &[GUARD][..])] {
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
    line.starts_with("-A ") && [OUTPUT, INBOUND, GUARD].iter().any(|chain| line.split(' ').any(|word| word == *chain))
}

fn outbound(settings: &Settings, family: Family) -> Vec<String> {
    let Family { loopback, inbound_source, host_prefix, .. } = family;
    let mut rules: Vec<String> =
        settings.uncaptured_outbound().iter().map(|port| format!("-p tcp -m tcp --dport {port} -j RETURN")).collect();
    let own = match settings.exempt {
        Exempt::Owner { uid, gid } => vec![format!("-m owner --uid-owner {uid}"), format!("-m owner --gid-owner {gid}")],
        Exempt::Mark(mark) => vec![format!("-m mark --mark {mark:#x}")],
    };
    rules.push(format!("-s {inbound_source}/{host_prefix} -o lo -j RETURN"));
    for own in &own {
        rules.push(format!(
            "! -d {loopback}/{host_prefix} -o lo -p tcp {own} -m tcp ! --dport {HBONE_PORT} -j REDIRECT --to-ports {}",
            settings.inbound_port
        ));
    }
    rules.extend(own.iter().map(|own| format!("{own} -j RETURN")));
    rules.push("-o lo -j RETURN".to_owned());
    rules.push(format!("-p tcp -j REDIRECT --to-ports {}", settings.outbound_port));
    rules
}

fn inbound(settings: &Settings) -> Vec<String> {
    let mut rules: Vec<String> =
        settings.uncaptured_inbound().iter().map(|port| format!("-p tcp -m tcp --dport {port} -j RETURN")).collect();
    rules.push(format!("-p tcp -j REDIRECT --to-ports {}", settings.inbound_port));
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

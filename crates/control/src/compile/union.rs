//! What receivers accept while a change is under way: everything that the old or the new policy accepts, nothing else.

use std::collections::{BTreeMap, BTreeSet};

use mutua_wire::mesh::{InboundPolicy, InboundPort, Mode};

/// The policy that accepts what any of `policies` accepts. What is not about acceptance is taken from the last.
#[must_use]
pub fn union(policies: Vec<InboundPolicy>) -> Option<InboundPolicy> {
    policies.into_iter().reduce(|old, new| merge(&old, &new))
}

fn merge(old: &InboundPolicy, new: &InboundPolicy) -> InboundPolicy {
    let (old_ports, new_ports) = (by_port(old), by_port(new));
    let numbers: BTreeSet<u32> = old_ports.keys().chain(new_ports.keys()).copied().collect();
    let ports = numbers.into_iter().filter_map(|number| {
        let (before, after) = (old_ports.get(&number), new_ports.get(&number));
        let described = after.or(before)?;
        let mode = either(before.map_or(old.mode(), |port| port.mode()), after.map_or(new.mode(), |port| port.mode()));
        Some(InboundPort { mode: mode.into(), ..(*described).clone() })
    });
    InboundPolicy {
        ports: ports.collect(),
        mode: either(old.mode(), new.mode()).into(),
        trust_domains: joined(&old.trust_domains, &new.trust_domains),
        min_tls: old.min_tls.min(new.min_tls),
        // No suites named means the default set.
        cipher_suites: if old.cipher_suites.is_empty() || new.cipher_suites.is_empty() {
            Vec::new()
        } else {
            joined(&new.cipher_suites, &old.cipher_suites)
        },
        ..new.clone()
    }
}

fn by_port(policy: &InboundPolicy) -> BTreeMap<u32, &InboundPort> {
    policy.ports.iter().map(|port| (port.port, port)).collect()
}

/// Accepts plaintext if one of them does, and mutual TLS if one of them does.
fn either(a: Mode, b: Mode) -> Mode {
    match (a, b) {
        _ if a == b => a,
        // An unknown mode accepts nothing that the other does not.
        (Mode::Unspecified, known) | (known, Mode::Unspecified) => known,
        _ => Mode::Permissive,
    }
}

fn joined(first: &[String], second: &[String]) -> Vec<String> {
    let mut all = first.to_vec();
    all.extend(second.iter().filter(|name| !first.contains(name)).cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODES: [Mode; 3] = [Mode::Disable, Mode::Permissive, Mode::Strict];

    fn policy(mode: Mode, ports: &[(u32, Mode)]) -> InboundPolicy {
        let port = |(port, mode): &(u32, Mode)| InboundPort { port: *port, mode: (*mode).into(), ..InboundPort::default() };
        InboundPolicy { mode: mode.into(), ports: ports.iter().map(port).collect(), ..InboundPolicy::default() }
    }

    /// What a mode accepts: plaintext, mutual TLS.
    fn accepts(mode: Mode) -> (bool, bool) {
        (mode != Mode::Strict, mode != Mode::Disable)
    }

    fn on_port(policy: &InboundPolicy, port: u32) -> Mode {
        policy.ports.iter().find(|one| one.port == port).map_or(policy.mode(), InboundPort::mode)
    }

    #[test]
    fn every_pair_accepts_what_either_accepts_and_nothing_more() {
        for old_mode in MODES {
            for new_mode in MODES {
                for port_mode in MODES {
                    let (old, new) = (policy(old_mode, &[(1, port_mode)]), policy(new_mode, &[(2, port_mode)]));
                    let both = union(vec![old.clone(), new.clone()]).expect("two policies");
                    for port in [1, 2, 3] {
                        let (a, b) = (accepts(on_port(&old, port)), accepts(on_port(&new, port)));
                        assert_eq!(accepts(on_port(&both, port)), (a.0 || b.0, a.1 || b.1), "{old_mode:?} {new_mode:?} {port}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_lower_floor_and_all_trust_domains_count() {
        let old = InboundPolicy { trust_domains: vec!["a".to_owned()], min_tls: 1, ..policy(Mode::Strict, &[]) };
        let suites = vec!["x".to_owned()];
        let new = InboundPolicy { trust_domains: vec!["b".to_owned()], cipher_suites: suites, ..policy(Mode::Strict, &[]) };
        let both = union(vec![old, new]).expect("two policies");
        assert_eq!((both.trust_domains, both.min_tls), (vec!["a".to_owned(), "b".to_owned()], 0));
        assert!(both.cipher_suites.is_empty(), "the default suites are among them");
        assert_eq!(union(vec![]), None);
    }
}

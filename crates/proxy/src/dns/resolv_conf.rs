//! The resolver's configuration: `/etc/resolv.conf` and `/etc/hosts`.

use std::net::{IpAddr, Ipv4Addr};

/// Name servers that are asked (the C library's `MAXNS`).
const MAX_SERVERS: usize = 3;
/// Search domains that are tried.
const MAX_SEARCH: usize = 6;

/// What `resolv.conf` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// The name servers; this machine when none is named.
    pub servers: Vec<IpAddr>,
    /// The search domains, in lower case, without a last dot.
    pub search: Vec<String>,
}

impl ResolvConf {
    /// Reads the text of the file; what cannot be read of it is passed over, as the C library does.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut conf = Self { servers: Vec::new(), search: Vec::new() };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                // An interface behind `%` matters for link-local servers only, which cannot be captured.
                Some("nameserver") => conf.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                Some("search" | "domain") => {
                    let domain = |word: &str| word.trim_end_matches('.').to_ascii_lowercase();
                    conf.search = words.map(domain).filter(|word| !word.is_empty()).take(MAX_SEARCH).collect();
                }
                _ => {}
            }
        }
        conf.servers.truncate(MAX_SERVERS);
        if conf.servers.is_empty() {
            conf.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        conf
    }

    /// Of this machine, now.
    #[must_use]
    pub fn of_machine() -> Self {
        Self::read(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }
}

/// The addresses of `name` in the text of a hosts file.
#[must_use]
pub fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_the_last_search_list_count() {
        let conf = ResolvConf::read(
            "# a comment\nnameserver 10.96.0.10\nnameserver fd00::a\nnameserver fe80::1%eth0\nnameserver x\nnameserver\n\
             domain old.example\nsearch Shop.svc.cluster.local. svc.cluster.local\noptions ndots:5\nnameserver 1.1.1.1\n\
             nameserver 9.9.9.9\n",
        );
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10", "fd00::a", "1.1.1.1"]);
        assert_eq!(conf.search, ["shop.svc.cluster.local", "svc.cluster.local"]);
        assert_eq!(ResolvConf::read("").servers, [IpAddr::from([127, 0, 0, 1])]);
    }

    #[test]
    fn hosts_have_names_and_aliases() {
        let text =
            "127.0.0.1 localhost\n::1 localhost ip6-localhost\n10.0.0.1\tcart.shop Cart # not.this\n#10.0.0.2 cart\nx cart\n";
        assert_eq!(in_hosts(text, "localhost").len(), 2);
        assert_eq!(in_hosts(text, "cart"), [IpAddr::from([10, 0, 0, 1])]);
        assert!(in_hosts(text, "not.this").is_empty() && in_hosts(text, "10.0.0.1").is_empty());
    }
}

//! Host names: exact ones, and wildcards that begin with `*` (plain suffix matching, as Istio's `pkg/config/host`).

use mutua_model::DestinationRule;

use crate::service::Service;

/// Whether `host` is a wildcard.
pub(crate) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether every name that `host` stands for is matched by `pattern`.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    match (pattern.strip_prefix('*'), host.strip_prefix('*')) {
        (None, None) => pattern == host,
        (Some(suffix), None) => host.ends_with(suffix),
        (Some(suffix), Some(rest)) => rest.ends_with(suffix),
        (None, Some(_)) => false,
    }
}

/// The order in which wildcards are tried: most specific first, that is the longest, then by name.
pub(crate) fn by_specificity(a: &str, b: &str) -> std::cmp::Ordering {
    b.len().cmp(&a.len()).then_with(|| a.cmp(b))
}

/// A DestinationRule's host in full: short names belong to the rule's own namespace (`ResolveShortnameToFQDN`).
pub(crate) fn resolve_short(host: &str, namespace: &str, domain: &str) -> String {
    if host.contains('.') || host == "*" || host.parse::<std::net::IpAddr>().is_ok() {
        return host.to_owned();
    }
    format!("{host}.{namespace}.svc.{domain}")
}

/// Services by host, and by the end of their host.
pub(crate) struct Hosts<'e> {
    services: &'e [Service],
    /// Hosts backwards, sorted, with the position.
    backwards: Vec<(Vec<u8>, usize)>,
}

impl<'e> Hosts<'e> {
    pub(crate) fn new(services: &'e [Service]) -> Self {
        let mut backwards: Vec<(Vec<u8>, usize)> =
            services.iter().enumerate().map(|(at, service)| (service.host.bytes().rev().collect(), at)).collect();
        backwards.sort();
        Self { services, backwards }
    }

    /// The positions of the services that a rule's host stands for.
    pub(crate) fn covered(&self, rule: &DestinationRule, domain: &str) -> Vec<usize> {
        let pattern = resolve_short(&rule.host, rule.meta.namespace(), domain);
        let end: Vec<u8> = pattern.strip_prefix('*').unwrap_or(&pattern).bytes().rev().collect();
        let from = self.backwards.partition_point(|(name, _)| *name < end);
        let within = self.backwards[from..].iter().take_while(|(name, _)| name.starts_with(&end));
        let mut found: Vec<usize> = within.map(|(_, at)| *at).filter(|at| covers(&pattern, &self.services[*at].host)).collect();
        found.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_by_suffix() {
        for (pattern, host, expected) in [
            ("*", "a.b", true),
            ("*.foo.com", "foo.com", false),
            ("*.foo.com", "a.foo.com", true),
            ("*.foo.com", "a.b.foo.com", true),
            ("*foo.com", "foo.com", true),
            ("*-b.ns.svc.cluster.local", "a-b.ns.svc.cluster.local", true),
            ("*.com", "*.foo.com", true),
            ("*.foo.com", "*.com", false),
            ("a.b", "*.b", false),
            ("a.b", "a.b", true),
        ] {
            assert_eq!(covers(pattern, host), expected, "{pattern} {host}");
        }
    }

    #[test]
    fn short_names_belong_to_the_rules_namespace() {
        assert_eq!(resolve_short("reviews", "shop", "cluster.local"), "reviews.shop.svc.cluster.local");
        assert_eq!(resolve_short("*-v1", "shop", "cluster.local"), "*-v1.shop.svc.cluster.local");
        for verbatim in ["reviews.prod", "*", "*.local", "10.0.0.1", "::1"] {
            assert_eq!(resolve_short(verbatim, "shop", "cluster.local"), verbatim);
        }
    }
}

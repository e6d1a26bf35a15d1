//! The small meshes that are compared: every object in the few shapes that matter.

use mutua_model::{ClientTlsMode, MtlsMode, OutboundPolicy, Resolution};
use proptest::prelude::*;
use proptest::sample::select;

pub(super) const ROOT: &str = "istio-system";
pub(super) const SPACES: [&str; 3] = [ROOT, "bar", "foo"];
pub(super) const WEB: &str = "web.bar.svc.cluster.local";

/// A mesh.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) config: Config,
    pub(super) web: Web,
    pub(super) second: Option<Second>,
    pub(super) alternative: Option<Alternative>,
    pub(super) policies: Vec<Policy>,
    pub(super) rules: Vec<Rule>,
    pub(super) entries: Vec<Entry>,
    pub(super) machines: Vec<Machine>,
    pub(super) sidecars: Vec<Scope>,
}

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) auto: bool,
    pub(super) private_rules: bool,
    pub(super) private_services: bool,
    pub(super) outbound: OutboundPolicy,
    pub(super) domain: &'static str,
    pub(super) aliases: Vec<&'static str>,
    pub(super) root: &'static str,
}

/// The Service bar/web.
#[derive(Clone, Debug)]
pub(super) struct Web {
    pub(super) headless: bool,
    pub(super) export: Option<&'static str>,
    pub(super) accounts: Option<&'static str>,
    pub(super) named_target: bool,
    pub(super) age: Option<i64>,
}

/// A second pod of bar/web.
#[derive(Clone, Debug)]
pub(super) struct Second {
    pub(super) tls_mode: Option<&'static str>,
    /// The port that it calls `web`.
    pub(super) port: Option<u16>,
}

/// A Service bar/alt that selects the same pods.
#[derive(Clone, Debug)]
pub(super) struct Alternative {
    pub(super) headless: bool,
    pub(super) tcp: bool,
    pub(super) age: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) namespace: &'static str,
    pub(super) selector: Option<(&'static str, &'static str)>,
    pub(super) mode: Option<MtlsMode>,
    pub(super) port: Option<(u16, Option<MtlsMode>)>,
    pub(super) age: Option<i64>,
}

/// One level of a traffic policy: tls, PASSTHROUGH, and an entry for a port with the same.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) tls: Option<Tls>,
    pub(super) passthrough: bool,
    pub(super) port: Option<(u16, Option<Tls>, bool)>,
}

#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) mode: ClientTlsMode,
    pub(super) sni: bool,
    pub(super) names: Option<&'static str>,
    pub(super) credential: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) namespace: &'static str,
    pub(super) host: &'static str,
    pub(super) selector: Option<(&'static str, &'static str)>,
    pub(super) export: Vec<&'static str>,
    pub(super) policy: Option<Level>,
    pub(super) subset: Option<(&'static str, Option<Level>)>,
    pub(super) age: Option<i64>,
}

/// A ServiceEntry; its host follows from its place in the list, so that no two share one.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) namespace: &'static str,
    pub(super) internal: bool,
    pub(super) resolution: Resolution,
    pub(super) tcp: bool,
    pub(super) address: bool,
    pub(super) selector: Option<&'static str>,
    pub(super) endpoints: Vec<Inline>,
    pub(super) export: Vec<&'static str>,
    pub(super) names: Vec<&'static str>,
    pub(super) age: Option<i64>,
}

/// An inline endpoint of a ServiceEntry.
#[derive(Clone, Debug)]
pub(super) struct Inline {
    pub(super) account: bool,
    pub(super) tls_mode: Option<&'static str>,
    pub(super) version: Option<&'static str>,
    pub(super) port: Option<u16>,
}

/// A WorkloadEntry.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) namespace: &'static str,
    pub(super) app: &'static str,
    pub(super) inline: Inline,
}

/// A Sidecar.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) namespace: &'static str,
    pub(super) selector: Option<&'static str>,
    pub(super) egress: Option<Vec<(u16, Vec<&'static str>)>>,
    pub(super) ingress: Vec<(u16, bool)>,
    pub(super) outbound: Option<OutboundPolicy>,
    pub(super) age: Option<i64>,
}

/// The hosts of ServiceEntries, by their place.
pub(super) const OUTSIDE: [&str; 3] = ["api.example.com", "*.wild.example.com", "db.bar.svc.cluster.local"];
const HOSTS: [&str; 8] = [WEB, "web", "*.bar.svc.cluster.local", "*.local", "*", OUTSIDE[0], "*.example.com", OUTSIDE[2]];
const EGRESS: [&str; 10] = [
    "*/*",
    "./*",
    "bar/*",
    "foo/*",
    "~/*",
    "*/web.bar.svc.cluster.local",
    "*/*.example.com",
    "bar/api.example.com",
    "~bar/web.bar.svc.cluster.local",
    "~*/*.example.com",
];

fn mode() -> impl Strategy<Value = Option<MtlsMode>> {
    select(vec![None, Some(MtlsMode::Disable), Some(MtlsMode::Permissive), Some(MtlsMode::Strict)])
}

fn age() -> impl Strategy<Value = Option<i64>> {
    select(vec![None, Some(1), Some(2)])
}

fn outbound() -> impl Strategy<Value = OutboundPolicy> {
    select(vec![OutboundPolicy::AllowAny, OutboundPolicy::RegistryOnly])
}

fn label() -> impl Strategy<Value = Option<&'static str>> {
    select(vec![None, Some("istio"), Some("istio"), Some("disabled"), Some("weird")])
}

prop_compose! {
    fn tls()(
        mode in select(vec![ClientTlsMode::Disable, ClientTlsMode::Simple, ClientTlsMode::Mutual, ClientTlsMode::IstioMutual]),
        sni in prop::bool::weighted(0.2),
        names in prop::option::weighted(0.2, select(vec!["spiffe://cluster.local/ns/bar/sa/web", "a.example.com"])),
        credential in prop::option::weighted(0.15, select(vec!["cred", "configmap://roots"])),
    ) -> Tls {
        let outside = matches!(mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
        Tls { mode, sni, names, credential: credential.filter(|_| outside) }
    }
}

prop_compose! {
    fn level()(
        tls in prop::option::weighted(0.7, tls()),
        passthrough in prop::bool::weighted(0.15),
        port in prop::option::of((select(vec![8000, 8000, 9000, 80]), prop::option::weighted(0.7, tls()), prop::bool::weighted(0.15))),
    ) -> Level {
        Level { tls, passthrough, port }
    }
}

prop_compose! {
    fn policy()(
        namespace in select(&SPACES[..]),
        selector in prop::option::of(select(vec![("app", "web"), ("app", "web"), ("version", "v1"), ("app", "vm")])),
        mode in mode(),
        port in prop::option::of((select(vec![80, 80, 90, 8080, 7777]), mode())),
        age in age(),
    ) -> Policy {
        Policy { namespace, selector, mode, port: port.filter(|_| selector.is_some()), age }
    }
}

prop_compose! {
    fn rule()(
        namespace in select(&SPACES[..]),
        host in select(&HOSTS[..]),
        selector in prop::option::weighted(0.3, select(vec![("app", "sleep"), ("app", "sleep"), ("version", "v1"), ("app", "gate")])),
        export in select(vec![vec![], vec![], vec!["*"], vec!["."], vec!["foo"], vec!["bar"], vec![".", "foo"]]),
        policy in prop::option::weighted(0.8, level()),
        subset in prop::option::of((select(vec!["v1", "v2"]), prop::option::of(level()))),
        age in age(),
    ) -> Rule {
        Rule { namespace, host, selector, export, policy, subset, age }
    }
}

prop_compose! {
    fn inline()(
        account in any::<bool>(),
        tls_mode in label(),
        version in prop::option::of(select(vec!["v1", "v2"])),
        port in prop::option::weighted(0.3, select(vec![7777, 80])),
    ) -> Inline {
        Inline { account, tls_mode, version, port }
    }
}

prop_compose! {
    fn entry()(
        namespace in select(&SPACES[..]),
        (internal, tcp, address) in any::<(bool, bool, bool)>(),
        resolution in select(vec![Resolution::Static, Resolution::Static, Resolution::Dns, Resolution::None]),
        selector in prop::option::weighted(0.3, select(vec!["vm", "web"])),
        endpoints in prop::collection::vec(inline(), 0..3),
        export in select(vec![vec![], vec![], vec!["*"], vec!["."], vec!["foo"], vec!["~"]]),
        names in select(vec![vec![], vec![], vec!["api.example.com"], vec!["spiffe://x/ns/y/sa/z"], vec!["spiffe://x/ns/y"]]),
        age in age(),
    ) -> Entry {
        // Only STATIC entries select, and NONE has no endpoints but itself.
        let selector = selector.filter(|_| resolution == Resolution::Static);
        let endpoints = if selector.is_some() || resolution == Resolution::None { Vec::new() } else { endpoints };
        Entry { namespace, internal, resolution, tcp, address, selector, endpoints, export, names, age }
    }
}

prop_compose! {
    fn machine()(namespace in select(vec!["bar", "foo"]), app in select(vec!["vm", "web"]), inline in inline()) -> Machine {
        Machine { namespace, app, inline }
    }
}

prop_compose! {
    fn scope()(
        namespace in select(&SPACES[..]),
        selector in prop::option::weighted(0.3, select(vec!["sleep", "web"])),
        egress in prop::option::weighted(0.8, prop::collection::vec(
            (select(vec![0, 0, 8000, 80]), prop::collection::vec(select(&EGRESS[..]), 1..3)), 1..3)),
        ingress in prop::collection::vec((select(vec![80, 8080, 7000]), any::<bool>()), 0..2),
        outbound in prop::option::weighted(0.3, outbound()),
        age in age(),
    ) -> Scope {
        Scope { namespace, selector, egress, ingress, outbound, age }
    }
}

prop_compose! {
    fn config()(
        auto in prop::bool::weighted(0.8),
        (private_rules, private_services) in (prop::bool::weighted(0.15), prop::bool::weighted(0.05)),
        outbound in select(vec![OutboundPolicy::AllowAny, OutboundPolicy::AllowAny, OutboundPolicy::RegistryOnly]),
        domain in select(vec!["cluster.local", "cluster.local", "my@td"]),
        aliases in select(vec![vec![], vec![], vec!["old.td"], vec!["old.td", "b@c"]]),
        root in select(vec![ROOT, ROOT, ROOT, "foo", "bar"]),
    ) -> Config {
        Config { auto, private_rules, private_services, outbound, domain, aliases, root }
    }
}

prop_compose! {
    fn web()(
        headless in prop::bool::weighted(0.3),
        export in prop::option::weighted(0.15, select(vec![".", "*", "foo", "~", " . , foo", "~, foo"])),
        accounts in prop::option::weighted(0.15, select(vec!["x, y", "x"])),
        named_target in prop::bool::weighted(0.3),
        age in age(),
    ) -> Web {
        Web { headless, export, accounts, named_target, age }
    }
}

prop_compose! {
    pub(super) fn world()(
        config in config(),
        web in web(),
        second in prop::option::of((label(), prop::option::of(select(vec![80, 8080]))).prop_map(|(tls_mode, port)| Second { tls_mode, port })),
        alternative in prop::option::weighted(0.3, (any::<bool>(), any::<bool>(), age())
            .prop_map(|(headless, tcp, age)| Alternative { headless, tcp, age })),
        policies in prop::collection::vec(policy(), 0..5),
        rules in prop::collection::vec(rule(), 0..5),
        entries in prop::collection::vec(entry(), 0..3),
        machines in prop::collection::vec(machine(), 0..3),
        sidecars in prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(scope(), 1..3)],
    ) -> World {
        World { config, web, second, alternative, policies, rules, entries, machines, sidecars }
    }
}

//! A second evaluator, slow and literal, written from Istio's rules and from nothing of the engine, and the comparison of
//! both over random small meshes.

use std::sync::{Arc, OnceLock};

use mutua_model::destination_rule::PortPolicy;
use mutua_model::{
    ClientTls, ClientTlsMode, DestinationRule, Kind, Labels, Mesh, Meta, MtlsMode, PeerAuthentication, Subset, TrafficPolicy,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::BASE;
use crate::{ConnectionQuery, Engine, Outcome};

const ROOT: &str = "istio-system";
const SPACES: [&str; 3] = [ROOT, "bar", "foo"];
const WEB: &str = "web.bar.svc.cluster.local";
const HOSTS: [&str; 5] = [WEB, "web", "*.bar.svc.cluster.local", "*.local", "*"];
const SPECIFIC: [&str; 4] = [WEB, "*.bar.svc.cluster.local", "*.local", "*"];

#[derive(Clone, Debug)]
struct Policy {
    namespace: &'static str,
    selects: bool,
    mode: Option<MtlsMode>,
    port: Option<Option<MtlsMode>>,
    age: Option<i64>,
}

type Level = (Option<ClientTlsMode>, Option<Option<ClientTlsMode>>);

#[derive(Clone, Debug)]
struct Rule {
    namespace: &'static str,
    host: &'static str,
    selects: bool,
    export: Vec<&'static str>,
    policy: Option<Level>,
    subset: Option<Option<Level>>,
    age: Option<i64>,
}

#[derive(Clone, Debug)]
struct World {
    auto: bool,
    private: bool,
    headless: bool,
    bare: bool,
    policies: Vec<Policy>,
    rules: Vec<Rule>,
}

fn mode() -> impl Strategy<Value = Option<MtlsMode>> {
    select(vec![None, Some(MtlsMode::Disable), Some(MtlsMode::Permissive), Some(MtlsMode::Strict)])
}

fn tls() -> impl Strategy<Value = Option<ClientTlsMode>> {
    use ClientTlsMode::{Disable, IstioMutual, Mutual, Simple};
    select(vec![None, Some(Disable), Some(Simple), Some(Mutual), Some(IstioMutual)])
}

fn age() -> impl Strategy<Value = Option<i64>> {
    select(vec![None, Some(1), Some(2)])
}

fn level() -> impl Strategy<Value = Level> {
    (tls(), prop::option::of(tls()))
}

prop_compose! {
    fn a_policy()(namespace in select(&SPACES[..]), selects in any::<bool>(), mode in mode(), port in prop::option::of(mode()), age in age()) -> Policy {
        Policy { namespace, selects, mode, port: port.filter(|_| selects), age }
    }
}

prop_compose! {
    fn a_rule()(
        namespace in select(&SPACES[..]),
        host in select(&HOSTS[..]),
        selects in prop::bool::weighted(0.25),
        export in select(vec![vec![], vec![], vec!["*"], vec!["."], vec!["foo"], vec!["bar"], vec![".", "foo"]]),
        policy in prop::option::weighted(0.8, level()),
        subset in prop::option::of(prop::option::of(level())),
        age in age(),
    ) -> Rule {
        Rule { namespace, host, selects, export, policy, subset, age }
    }
}

prop_compose! {
    fn a_world()(
        auto in prop::bool::weighted(0.8),
        private in prop::bool::weighted(0.2),
        headless in prop::bool::weighted(0.3),
        bare in prop::bool::weighted(0.3),
        policies in prop::collection::vec(a_policy(), 0..5),
        rules in prop::collection::vec(a_rule(), 0..5),
    ) -> World {
        World { auto, private, headless, bare, policies, rules }
    }
}

fn app(name: &str) -> Labels {
    Labels::from([("app".to_owned(), name.to_owned())])
}

fn traffic((outer, port): &Level) -> TrafficPolicy {
    let settings = |mode: &ClientTlsMode| ClientTls { mode: *mode, ..ClientTls::default() };
    let entry = |tls: &Option<ClientTlsMode>| (8000, PortPolicy { tls: tls.as_ref().map(settings), passthrough: false });
    TrafficPolicy { tls: outer.as_ref().map(settings), passthrough: false, ports: port.iter().map(entry).collect() }
}

/// The world as the engine gets it.
fn mesh(world: &World) -> Mesh {
    static LOADED: OnceLock<Mesh> = OnceLock::new();
    let root = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: gate, namespace: istio-system, labels: {security.istio.io/tlsMode: istio}}\n";
    let bare = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: zz-bare, namespace: bar, labels: {app: web}}\nstatus: {podIP: 10.0.0.77}\n";
    let text = BASE.to_owned() + root + bare;
    let base = LOADED.get_or_init(|| mutua_model::read::Inputs::from_texts([("b.yaml", text)]).load().expect("readable").mesh);
    let mut mesh = base.clone();
    mesh.config.enable_auto_mtls = world.auto;
    mesh.config.default_destination_rule_export_to = vec![if world.private { "." } else { "*" }.to_owned()];
    mesh.pods.retain(|pod| world.bare || pod.meta.name() != "zz-bare");
    for service in &mut mesh.services {
        Arc::make_mut(service).headless = world.headless;
    }
    for (at, policy) in world.policies.iter().enumerate() {
        let mut meta = Meta::named(Kind::PeerAuthentication, policy.namespace, &format!("p{at}"));
        meta.created = policy.age;
        let selector = if policy.selects { app("web") } else { Labels::new() };
        let ports = policy.port.iter().map(|mode| (80, *mode)).collect();
        mesh.peer_authentications.push(Arc::new(PeerAuthentication {
            meta,
            selector,
            selector_present: policy.selects,
            mode: policy.mode,
            ports,
        }));
    }
    for (at, rule) in world.rules.iter().enumerate() {
        let mut meta = Meta::named(Kind::DestinationRule, rule.namespace, &format!("r{at}"));
        meta.created = rule.age;
        let subset =
            |policy: &Option<Level>| Subset { name: "v".to_owned(), labels: Labels::new(), policy: policy.as_ref().map(traffic) };
        mesh.destination_rules.push(Arc::new(DestinationRule {
            meta,
            host: rule.host.to_owned(),
            export_to: rule.export.iter().map(|to| (*to).to_owned()).collect(),
            workload_selector: rule.selects.then(|| app("sleep")),
            policy: rule.policy.as_ref().map(traffic),
            subsets: rule.subset.iter().map(subset).collect(),
        }));
    }
    mesh
}

/// The server's mode on port 80 of bar/web.
fn accepts(world: &World) -> MtlsMode {
    let sorted = sorted(&world.policies, |policy| policy.age);
    let first = |namespace: &str, selects: bool| sorted.iter().find(|one| one.namespace == namespace && one.selects == selects);
    let mut mode = MtlsMode::Permissive;
    for policy in [first(ROOT, false), first("bar", false), first("bar", true)].into_iter().flatten() {
        mode = policy.mode.unwrap_or(mode);
    }
    match first("bar", true).and_then(|policy| policy.port) {
        Some(port) => port.unwrap_or(mode),
        None => mode,
    }
}

/// What clients take namespace bar for.
fn hint(world: &World) -> MtlsMode {
    let sorted = sorted(&world.policies, |policy| policy.age);
    let first = |namespace: &str| sorted.iter().find(|one| one.namespace == namespace && !one.selects).and_then(|one| one.mode);
    first("bar").or_else(|| first(ROOT)).unwrap_or(MtlsMode::Permissive)
}

/// By age, no timestamp first, then by name, which counts up.
fn sorted<T: Clone>(list: &[T], age: impl Fn(&T) -> Option<i64>) -> Vec<T> {
    let mut list = list.to_vec();
    list.sort_by_key(age);
    list
}

/// A rule after merging.
#[derive(Clone)]
struct Entry {
    selects: bool,
    namespace: &'static str,
    export: Vec<&'static str>,
    policy: Option<Level>,
    subset: Option<Option<Level>>,
}

fn export_of(rule: &Rule) -> Vec<&'static str> {
    if rule.selects { vec!["."] } else { rule.export.clone() }
}

/// The entries of one host in one index, merged in order.
fn entries(world: &World, host: &str, namespace: &str, belongs: impl Fn(&Rule) -> bool) -> Vec<Entry> {
    let mut rules = sorted(&world.rules, |rule| rule.age);
    rules.sort_by_key(|rule| !rule.selects);
    let full =
        |rule: &Rule| if rule.host == "web" { format!("web.{}.svc.cluster.local", rule.namespace) } else { rule.host.to_owned() };
    let mut merged: Vec<Entry> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.namespace == namespace && full(rule) == host && belongs(rule)) {
        let export = export_of(rule);
        let mut append = true;
        for entry in &mut merged {
            let superset = entry.export.iter().all(|to| export.contains(to));
            if export == entry.export {
                append = false;
            } else if !entry.export.is_empty() && superset {
                append = true;
            } else {
                append = true;
                continue;
            }
            if rule.selects == entry.selects {
                append = false;
            }
            entry.policy = entry.policy.or(rule.policy);
            entry.subset = entry.subset.or(rule.subset);
        }
        if append || merged.is_empty() {
            let Rule { selects, namespace, policy, subset, .. } = rule.clone();
            merged.push(Entry { selects, namespace, export, policy, subset });
        }
    }
    merged
}

/// The rule that a client uses for web.bar.
fn used(world: &World, client: &str, sleep: bool) -> Option<Entry> {
    let private_only = |rule: &Rule| match &export_of(rule)[..] {
        [] => world.private,
        [only] => *only == "." || *only == rule.namespace,
        _ => false,
    };
    let local = |rule: &Rule| {
        let export = export_of(rule);
        export.is_empty() || ["*", ".", rule.namespace].iter().any(|to| export.contains(to))
    };
    let best = |namespace: &str, belongs: &dyn Fn(&Rule) -> bool| {
        SPECIFIC.iter().map(|host| entries(world, host, namespace, belongs)).find(|list| !list.is_empty()).unwrap_or_default()
    };
    let mut found = if client == ROOT { best(ROOT, &private_only) } else { best(client, &local) };
    for owner in ["bar", ROOT] {
        if found.is_empty() {
            found = best(owner, &|rule| !private_only(rule));
            found.retain(|entry| entry.export.is_empty() || entry.export.contains(&"*") || entry.export.contains(&client));
        }
    }
    let selected = found.iter().find(|entry| entry.selects && entry.namespace == client && sleep);
    selected.or_else(|| found.iter().rev().find(|entry| !entry.selects)).cloned()
}

struct Answer {
    tls: ClientTlsMode,
    auto: bool,
    connections: Vec<Outcome>,
}

fn evaluate(world: &World, client: &str, sleep: bool, subset: bool) -> Option<Answer> {
    let entry = used(world, client, sleep);
    let chosen = entry.as_ref().and_then(|entry| entry.subset);
    if subset && chosen.is_none() {
        return None;
    }
    let inner = chosen.flatten().filter(|_| subset);
    let outer = entry.as_ref().and_then(|entry| entry.policy);
    let built = |(outer, port): Level| port.unwrap_or(outer);
    let of_outer = outer.and_then(built);
    let of_cluster = match inner {
        Some((_, Some(port))) => port,
        Some((tls, None)) => tls.or(of_outer),
        None => of_outer,
    };
    let marking = |(outer, port): Level| port.flatten().or(outer);
    let of_endpoint = inner.and_then(marking).or_else(|| outer.and_then(marking));
    let off = !world.auto || (world.headless && world.bare) || hint(world) == MtlsMode::Disable;
    let (tls, auto) = match of_cluster {
        Some(mode) => (mode, false),
        None if off => (ClientTlsMode::Disable, false),
        None => (ClientTlsMode::IstioMutual, true),
    };
    let server = accepts(world);
    let enabled = of_endpoint.map_or(server != MtlsMode::Disable, |mode| mode == ClientTlsMode::IstioMutual);
    let mut connections = vec![at_sidecar(tls, auto && !world.headless && !enabled, server)];
    if world.bare {
        connections.push(match tls {
            ClientTlsMode::Disable => Outcome::Plaintext,
            ClientTlsMode::IstioMutual if auto => Outcome::Plaintext,
            ClientTlsMode::IstioMutual => Outcome::Refused,
            ClientTlsMode::Simple | ClientTlsMode::Mutual => Outcome::Tls,
        });
    }
    Some(Answer { tls, auto, connections })
}

/// At the sidecar of bar/web, whose port 80 is declared HTTP.
fn at_sidecar(tls: ClientTlsMode, raw: bool, server: MtlsMode) -> Outcome {
    let plaintext = raw || tls == ClientTlsMode::Disable;
    match (tls, server) {
        (_, MtlsMode::Strict) if plaintext => Outcome::Refused,
        _ if plaintext => Outcome::Plaintext,
        (ClientTlsMode::IstioMutual, MtlsMode::Strict | MtlsMode::Permissive) => Outcome::Mtls,
        (ClientTlsMode::Mutual, MtlsMode::Strict) => Outcome::Mtls,
        _ => Outcome::Refused,
    }
}

fn compare(world: &World) -> Result<(), TestCaseError> {
    let engine = Engine::new(Arc::new(mesh(world)));
    for (from, sleep) in [("foo/sleep", true), ("bar/web", false), ("istio-system/gate", false)] {
        let client = from.split('/').next().unwrap_or_default();
        for subset in [false, true] {
            let query =
                ConnectionQuery { from: from.to_owned(), to: format!("{WEB}:8000"), subset: subset.then(|| "v".to_owned()) };
            let (answer, expected) = (engine.explain_connection(&query).ok(), evaluate(world, client, sleep, subset));
            let Some(expected) = expected else {
                prop_assert!(answer.is_none(), "{} has no subset, {:?}", from, answer);
                continue;
            };
            prop_assert!(answer.is_some(), "{} subset {}: no answer", from, subset);
            let Some(answer) = answer else { continue };
            prop_assert_eq!((answer.client.tls, answer.client.auto), (expected.tls, expected.auto), "{} subset {}", from, subset);
            let connections: Vec<_> = answer.endpoints.iter().map(|endpoint| endpoint.connection).collect();
            prop_assert_eq!(connections, expected.connections, "{} subset {}", from, subset);
        }
    }
    Ok(())
}

/// Twenty thousand meshes, a million with `MUTUA_SOAK`.
fn cases() -> u32 {
    if std::env::var_os("MUTUA_SOAK").is_some() { 1_000_000 } else { 20_000 }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn the_engine_says_what_the_rules_say(world in a_world()) {
        compare(&world)?;
    }
}

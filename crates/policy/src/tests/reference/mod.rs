//! A second evaluator, slow and literal, written from Istio's rules and from nothing of the engine, and the comparison of
//! both over random small meshes.
//!
//! [`world`] says what is generated, [`written`] makes objects of it, [`evaluate`] answers from [`peer`] policies,
//! [`rules`], the [`scope`] of a client and the [`registry`] of services.

mod evaluate;
mod peer;
mod registry;
mod rules;
mod scope;
mod world;
mod written;

use std::collections::BTreeSet;
use std::sync::Arc;

use mutua_model::{Labels, Mesh};
use proptest::prelude::*;
use proptest::sample::Index;

use self::evaluate::{Place, Question, Reference};
use self::world::{OUTSIDE, WEB, World, world};
use crate::{ConnectionQuery, Engine, Outcome, TlsSettings};

const CLIENTS: [&str; 4] = ["foo/sleep", "bar/web", "istio-system/gate", "foo/legacy"];
/// Questions about one mesh.
const QUESTIONS: usize = 8;

/// Whether all pairs of a selector are among the labels.
fn holds(labels: &Labels, selector: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Everything that can be dialled.
fn targets(mesh: &Mesh, world: &World) -> Vec<(String, u16)> {
    let mut targets = vec![(WEB.to_owned(), 8000), (WEB.to_owned(), 8000), (WEB.to_owned(), 9000)];
    for service in &mesh.services {
        let first = service.cluster_ips.first().map(ToString::to_string);
        targets.extend(first.map(|address| (address, 8000)));
    }
    if world.alternative.is_some() {
        targets.push(("alt.bar.svc.cluster.local".to_owned(), 8000));
    }
    for (at, entry) in world.entries.iter().enumerate() {
        let host = OUTSIDE[at].replace('*', "some");
        targets.extend([(host.clone(), 80), (host, 8000)]);
        targets.extend(entry.address.then(|| (format!("198.51.100.{at}"), 80)));
    }
    targets.extend([("10.0.0.7".to_owned(), 8000), ("10.0.0.7".to_owned(), 80), ("192.0.2.200".to_owned(), 80)]);
    targets
}

fn compare(world: &World, picks: &[(Index, Index, Index)]) -> Result<(), TestCaseError> {
    let mesh = written::mesh(world);
    let (reference, targets) = (Reference::new(&mesh), targets(&mesh, world));
    let engine = Engine::new(Arc::new(mesh.clone()));
    for (client, target, subset) in picks {
        let (from, (to, port)) = (CLIENTS[client.index(CLIENTS.len())], &targets[target.index(targets.len())]);
        let subset = [None, None, Some("v1"), Some("v2")][subset.index(4)];
        let expected = reference.connection(&Question { from, to, port: *port, subset });
        let query = ConnectionQuery { from: from.to_owned(), to: format!("{to}:{port}"), subset: subset.map(str::to_owned) };
        let answer = engine.explain_connection(&query).ok();
        let said = format!("{from} to {to}:{port} subset {subset:?}");
        let Some(expected) = expected else {
            prop_assert!(answer.is_none(), "{}: there is no such subset, {:?}", said, answer);
            continue;
        };
        prop_assert!(answer.is_some(), "{}: no answer", said);
        let Some(answer) = answer else { continue };
        let endpoints: BTreeSet<Place> = answer.endpoints.iter().map(place).collect();
        prop_assert_eq!(endpoints.len(), answer.endpoints.len(), "{}: each endpoint once", said);
        let client = answer.client;
        prop_assert_eq!((client.tls, client.auto), (expected.tls, expected.auto), "{}", said);
        prop_assert_eq!(client.sni, expected.sni, "{}", said);
        prop_assert_eq!(client.subject_alt_names.into_iter().collect::<BTreeSet<_>>(), expected.names, "{}", said);
        prop_assert_eq!(endpoints, expected.endpoints, "{}", said);
        prop_assert_eq!(answer.outcome, expected.outcome, "{}", said);
    }
    let first = picks.first().map_or(0, |(client, ..)| client.index(3));
    destinations(&engine, &reference, CLIENTS[first])?;
    workloads(&engine, &reference, world)
}

/// What the proxy of a client is told: every port that its sidecar knows, and nothing else, as explained.
fn destinations(engine: &Engine, reference: &Reference<'_>, from: &str) -> Result<(), TestCaseError> {
    let client = engine.workload(from).expect("generated");
    let mut told = BTreeSet::new();
    for destination in engine.destinations(client) {
        for port in &destination.ports {
            let said = format!("{from} is told of {}:{}", destination.host, port.port);
            told.insert((destination.host.clone(), port.port));
            let to = destination.host.replace('*', "some");
            let expected = reference.connection(&Question { from, to: &to, port: port.port, subset: None });
            let Some(expected) = expected else { return Err(TestCaseError::fail(said)) };
            let wanted: BTreeSet<_> = expected
                .endpoints
                .iter()
                .map(|place| (place.address.clone(), place.port, place.sent != Outcome::Plaintext))
                .collect();
            let given: BTreeSet<_> = port.endpoints.iter().map(|one| (one.address.clone(), one.port, one.tls)).collect();
            prop_assert_eq!(given, wanted, "{}", said);
            // Settings that a credentialName drops are not told.
            if port.tls.mode != expected.tls {
                prop_assert!(expected.endpoints.iter().all(|place| place.sent == Outcome::Plaintext), "{}", said);
                prop_assert_eq!(&port.tls, &TlsSettings::default(), "{}", said);
                continue;
            }
            prop_assert_eq!((port.tls.auto, &port.tls.sni), (expected.auto, &expected.sni), "{}", said);
            prop_assert_eq!(port.tls.subject_alt_names.iter().cloned().collect::<BTreeSet<_>>(), expected.names, "{}", said);
        }
    }
    prop_assert_eq!(told, reference.known(from), "{}", from);
    Ok(())
}

fn place(endpoint: &crate::EndpointAnswer) -> Place {
    Place {
        workload: endpoint.workload.clone(),
        address: endpoint.address.clone().unwrap_or_default(),
        port: endpoint.port,
        sidecar: endpoint.sidecar,
        mode: endpoint.server_mode,
        sent: endpoint.sent,
        connection: endpoint.connection,
    }
}

/// What each workload accepts, in general and on every port that is listed for it.
fn workloads(engine: &Engine, reference: &Reference<'_>, world: &World) -> Result<(), TestCaseError> {
    let machines = world.machines.iter().enumerate().map(|(at, machine)| format!("{}/vm{at}", machine.namespace));
    for name in CLIENTS.iter().map(|name| (*name).to_owned()).chain(machines) {
        let answer = engine.explain_workload(&name);
        prop_assert!(answer.is_ok(), "{}", name);
        let Ok(answer) = answer else { continue };
        prop_assert_eq!(answer.mode, reference.workload(&name, None), "{}", name);
        for port in reference.ports(&name) {
            prop_assert!(answer.ports.contains_key(&port), "{} port {}", name, port);
        }
        for (port, mode) in &answer.ports {
            prop_assert_eq!(*mode, reference.workload(&name, Some(*port)), "{} port {}", name, port);
        }
    }
    Ok(())
}

/// Twenty thousand meshes, a million with `MUTUA_SOAK`; `MUTUA_CASES` sets the number.
fn cases() -> u32 {
    let asked = std::env::var("MUTUA_CASES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if std::env::var_os("MUTUA_SOAK").is_some() { 1_000_000 } else { 20_000 })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn the_engine_says_what_the_rules_say(
        world in world(),
        picks in prop::collection::vec(any::<(Index, Index, Index)>(), QUESTIONS),
    ) {
        compare(&world, &picks)?;
    }
}

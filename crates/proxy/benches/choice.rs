//! What the choice of an endpoint costs a connection, by the number of endpoints: where they stand, and with a list of all
//! made first, as it was before. `cargo bench -p mutua-proxy --bench choice`; medians of rounds that take turns.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "the report")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use mutua_proxy::capture::Dialer;
use mutua_proxy::dns::{Resolver, Upstream};
use mutua_proxy::outbound::{Candidates, Loads};
use mutua_proxy::world::{Endpoint, Match, Table};
use mutua_testbed::wire;
use mutua_wire::discovery::Resource;
use mutua_wire::mesh::{ClientTlsMode, Destination, Protocol};
use mutua_wire::{MeshResource, content_version};

const COUNTS: [u32; 4] = [1, 10, 100, 1000];
const ROUNDS: usize = 21;
const CONNECTIONS: u32 = 20_000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("| endpoints | where they stand, ns | list of all first, ns |\n|---:|---:|---:|");
    for count in COUNTS {
        let table = table(count);
        let found = table.find("192.0.2.1:80".parse().unwrap()).unwrap();
        let resolver = Resolver::new(Upstream::of_machine(Dialer::default()));
        let (mut standing, mut listed) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let loads = Loads::default();
            standing.push(nanoseconds(|| {
                let candidates = runtime.block_on(Candidates::of(&resolver, &found, &mut Vec::new()));
                loads.choose(candidates.count(), &[], |at| Some(candidates.at(at)?.0)).unwrap().0
            }));
            listed.push(nanoseconds(|| {
                let candidates = runtime.block_on(async { list(&found) });
                loads.choose(candidates.len(), &[], |at| Some(candidates[at].0)).unwrap().0
            }));
        }
        println!("| {count} | {:.0} | {:.0} |", median(standing), median(listed));
    }
}

/// As it was before: every endpoint, for each connection.
fn list(found: &Match) -> Vec<(SocketAddr, &Endpoint)> {
    let mut all = Vec::with_capacity(found.port.endpoints.len());
    all.extend(found.port.endpoints.iter().filter_map(|endpoint| Some((endpoint.socket()?, endpoint))));
    all
}

fn table(count: u32) -> std::sync::Arc<Table> {
    let address = |at: u32| SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + at)), 8080);
    let endpoints: Vec<SocketAddr> = (0..count).map(address).collect();
    let destination = wire::destination(Protocol::Tcp, wire::tls(ClientTlsMode::TlsIstioMutual, &[]), &endpoints);
    let any = destination.pack();
    let version = content_version(&any.value);
    let resource = Resource { name: "shop/server".to_owned(), version, resource: Some(any), aliases: Vec::new() };
    let world = mutua_proxy::world::World::default();
    let (type_url, resources) = (Destination::TYPE_URL, [resource]);
    world.apply(&mutua_proxy::world::Change { type_url, generation: "1", resources: &resources, removed: &[] }).unwrap();
    std::sync::Arc::clone(&world.current().table)
}

fn nanoseconds(mut one: impl FnMut() -> usize) -> f64 {
    let start = Instant::now();
    let chosen: usize = (0..CONNECTIONS).map(|_| one()).sum();
    let took = start.elapsed().as_secs_f64() * 1e9 / f64::from(CONNECTIONS);
    std::hint::black_box(chosen);
    took
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

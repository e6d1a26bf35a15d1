//! Many proxies at once, over real gRPC and mutual TLS on loopback: with delays, lost connections and a control plane that
//! is stopped in between, all end up with the newest policy. For figures of thousands: the bench `distribution`.

mod common;

use std::time::{Duration, Instant};

use common::{Mesh, PATIENCE};
use mutua_identity::{Ca, TrustDomain};
use mutua_testbed::swarm::{Layout, Pace, State, Swarm, policy};
use mutua_wire::mesh::Mode;

const COUNT: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_proxies_end_up_with_the_newest_policy() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("config")).expect("made");
    for (name, text) in (Layout { workloads: COUNT, narrowed: true }).files() {
        std::fs::write(folder.path().join("config").join(name), text).expect("written");
    }
    let settings = common::settings(folder.path());
    let mesh = Mesh::over(folder, settings).await.expect("starts");
    let ca = Ca::load_or_create(&mesh.folder.path().join("state/ca"), &TrustDomain::new("cluster.local").expect("a name"))
        .expect("the CA");
    let pace = Pace { delay: Duration::from_millis(50), losses: 60, seed: 7, reports: false };
    let swarm = Swarm::new(&ca, mesh.listen, COUNT, pace);
    (0..COUNT).for_each(|number| swarm.join(number));
    swarm.all(0..COUNT, Instant::now(), PATIENCE, State::is_complete).await;
    let listen = mesh.listen;
    let mesh = change(mesh, &swarm, Mode::Strict).await.restart_with(|settings| settings.listen = listen).await;
    let mesh = change(change(mesh, &swarm, Mode::Disable).await, &swarm, Mode::Permissive).await;
    mesh.until("/api/v1/status", |status| status["proxiesCurrent"] == COUNT).await;
    let state = |look: fn(&State) -> u64| swarm.proxies().iter().map(|proxy| proxy.look(look)).sum::<u64>();
    let (connections, services) = (state(|state| state.connections), state(|state| state.destinations().count() as u64));
    assert!(connections > 2 * COUNT as u64, "some connections were lost on the way: {connections} in all");
    assert_eq!(services, 4 * COUNT as u64, "each knows the services of its namespace");
}

async fn change(mesh: Mesh, swarm: &Swarm, mode: Mode) -> Mesh {
    mesh.write("policy.yaml", &policy("istio-system", mode.as_str_name()));
    swarm.all(0..COUNT, Instant::now(), PATIENCE, |state| state.mode() == Some(mode)).await;
    mesh
}

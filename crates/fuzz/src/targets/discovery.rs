//! What a control plane sends to a sidecar: each response is taken over whole or refused whole, and what is in force can
//! be asked about.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};

use mutua_identity::Credentials;
use mutua_proxy::access_log::AccessLogger;
use mutua_proxy::admin::Pages;
use mutua_proxy::capture::Dialer;
use mutua_proxy::certificate::Store;
use mutua_proxy::discovery::answer;
use mutua_proxy::kept::Kept;
use mutua_proxy::settings::Workload;
use mutua_proxy::sidecar::Sidecar;
use mutua_proxy::world::World;
use mutua_testbed::{Authority, SERVER, Wanted, wire};
use mutua_wire::discovery::{DeltaDiscoveryResponse, Resource};
use mutua_wire::{MeshResource, mesh};
use prost::Message;

use super::admin;
use crate::{Random, Target};

/// The target. Its input is responses, each behind its length as protobuf writes it.
pub const TARGET: Target = Target {
    name: "discovery",
    run,
    grammar,
    words: &[
        b"type.googleapis.com/mutua.mesh.v1.InboundPolicy",
        b"type.googleapis.com/mutua.mesh.v1.Destination",
        b"type.googleapis.com/mutua.mesh.v1.TrustBundle",
        b"type.googleapis.com/mutua.mesh.v1.ProxySettings",
        b"type.googleapis.com/mutua.mesh.v1.PeerWorkload",
        b"-----BEGIN CERTIFICATE-----\n",
        b"cluster.local",
        b"192.0.2.1",
        b"0.0.0.0/0",
        b"::/0",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x08\x00",
    ],
    longest: 64 * 1024,
    memory: 4 * 1024 * 1024,
    memory_per_byte: 200,
};

const TYPES: [&str; 4] =
    [mesh::TrustBundle::TYPE_URL, mesh::ProxySettings::TYPE_URL, mesh::InboundPolicy::TYPE_URL, mesh::Destination::TYPE_URL];

static SHOWN: LazyLock<(Credentials, Vec<String>)> = LazyLock::new(|| {
    let authority = Authority::new();
    (authority.leaf(SERVER), authority.roots())
});

/// What must hold.
pub fn run(mut bytes: &[u8]) {
    let folder = folder();
    let kept = kept(&folder);
    let world = Arc::new(World::default());
    world.set_credentials(SHOWN.0.clone()).unwrap();
    let sidecar = Arc::new(Sidecar::new(world, Dialer::default(), Box::new(Wanted::default()), AccessLogger::silent()));
    while !bytes.is_empty() {
        let Ok(response) = DeltaDiscoveryResponse::decode_length_delimited(&mut bytes) else { break };
        take(&sidecar, &kept, &response);
    }
    same_after_a_restart(&sidecar.world, &kept);
    let pages = admin::admin(&sidecar);
    for path in ["/config", "/certs", "/policy", "/healthz/ready", "/stats/prometheus"] {
        admin::whole(&pages.answer(Pages::All, path, "port=80"));
    }
}

fn take(sidecar: &Sidecar, kept: &Kept, response: &DeltaDiscoveryResponse) {
    let world = &sidecar.world;
    let held = || TYPES.map(|type_url| world.versions(type_url));
    let (before, versions) = (world.current(), held());
    let request = answer(sidecar, kept, response);
    assert_eq!((&request.type_url, &request.response_nonce), (&response.type_url, &response.nonce));
    let after = world.current();
    if let Some(refused) = &request.error_detail {
        assert!(refused.message.chars().count() <= 1000);
        assert!(Arc::ptr_eq(&before, &after) && versions == held(), "a refused response has changed something");
        return;
    }
    if let Some(at) = TYPES.iter().position(|known| *known == response.type_url) {
        let mut expected = versions[at].clone();
        expected.extend(response.resources.iter().map(|one| (one.name.clone(), one.version.clone())));
        response.removed_resources.iter().for_each(|name| drop(expected.remove(name)));
        assert_eq!(world.versions(&response.type_url), expected, "it was taken over in part");
    }
    // What a sidecar knows is never taken away from it.
    assert!(after.complete || !before.complete);
    assert!(after.inbound.is_some() || before.inbound.is_none());
    assert!(after.tls.is_some() || before.tls.is_none());
    for destination in after.table.destinations().iter().take(8) {
        let ports = destination.ports.iter().map(|port| port.port);
        for (address, port) in destination.addresses.iter().map(ipnet::IpNet::addr).zip(ports) {
            let found = after.table.find(SocketAddr::new(address, port));
            assert!(found.is_some(), "{address} port {port} of {} is not found", destination.host);
        }
    }
    let _ = after.table.find(SocketAddr::new(IpAddr::from([10, 0, 0, 1]), 80));
}

/// What is kept for a restart is what is held.
fn same_after_a_restart(world: &World, kept: &Kept) {
    for type_url in TYPES {
        let held = world.versions(type_url);
        let Some(all) = kept.load(&[type_url]).unwrap() else {
            assert!(held.is_empty(), "{type_url} is held and not kept");
            continue;
        };
        let kept: BTreeMap<String, String> = all[0].resources.iter().map(|one| (one.name.clone(), one.version.clone())).collect();
        assert_eq!(kept, held);
        World::default().apply(&all[0].change()).unwrap();
    }
}

/// A folder for one input, in memory where there is such a place: the sidecar waits for its files to be on the disk.
pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What the sidecar shop/it keeps there.
pub(super) fn kept(folder: &tempfile::TempDir) -> Kept {
    let workload = Workload { namespace: "shop".to_owned(), name: "it".to_owned() };
    Kept::new(Store::open(folder.path().to_owned()).unwrap(), &workload)
}

fn grammar(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.between(1, 6) {
        response(random).encode_length_delimited(&mut bytes).unwrap();
    }
    bytes
}

pub(super) fn response(random: &mut Random) -> DeltaDiscoveryResponse {
    let kind = random.below(5);
    let name = |random: &mut Random| random.one_of(&["default", "shop/it", "shop/a", "shop/b", "10.0.0.7", "*", ""]).to_owned();
    let mut resources = Vec::new();
    for _ in 0..random.length(5) {
        let any = match kind {
            0 => bundle(random).pack(),
            1 => settings(random).pack(),
            2 => inbound(random).pack(),
            3 => destination(random).pack(),
            _ => mesh::PeerWorkload { labels: Some(labels(random)), ..Default::default() }.pack(),
        };
        let resource = (!random.once_in(20)).then_some(any);
        resources.push(Resource { name: name(random), version: random.below(5).to_string(), resource, aliases: Vec::new() });
    }
    let type_url = [TYPES[0], TYPES[1], TYPES[2], TYPES[3], mesh::PeerWorkload::TYPE_URL];
    let kind = if random.once_in(20) { random.below(5) } else { kind };
    DeltaDiscoveryResponse {
        system_version_info: random.below(9).to_string(),
        resources,
        type_url: type_url[kind].to_owned(),
        nonce: random.text(),
        removed_resources: (0..random.below(2)).map(|_| name(random)).collect(),
    }
}

fn bundle(random: &mut Random) -> mesh::TrustBundle {
    let revocation_lists = if random.once_in(4) { vec![random.text()] } else { Vec::new() };
    let domains = if random.once_in(4) {
        vec![mesh::DomainRoots { trust_domain: random.text(), roots: roots(random) }]
    } else {
        Vec::new()
    };
    mesh::TrustBundle { roots: roots(random), renew_not_before: number(random) as i64, revocation_lists, domains }
}

fn roots(random: &mut Random) -> Vec<String> {
    let mut roots = SHOWN.1.clone();
    if random.once_in(4) {
        roots.push(random.text());
    }
    if random.once_in(8) {
        roots.remove(0);
    }
    roots
}

fn number(random: &mut Random) -> u64 {
    random.one_of(&[0, 1, 80, 65_535, 65_536, u64::from(u32::MAX), u64::MAX, 1 << 62, 300])
}

fn small(random: &mut Random) -> i32 {
    random.one_of(&[0, 1, 2, 3, 1, 2, 3, -1, 99])
}

fn settings(random: &mut Random) -> mesh::ProxySettings {
    let set = TYPES.iter().take(random.below(5));
    mesh::ProxySettings {
        outbound_policy: small(random),
        drain_duration_ms: number(random),
        complete_set: set.map(|type_url| ((*type_url).to_owned(), random.below(3) as u32)).collect(),
        compliance: if random.once_in(3) { small(random) } else { 0 },
        default_groups: (0..random.below(3)).map(|_| random.text()).collect(),
        default_cipher_suites: (0..random.below(3)).map(|_| random.text()).collect(),
        ..wire::settings(mesh::OutboundPolicy::AllowAny)
    }
}

fn inbound(random: &mut Random) -> mesh::InboundPolicy {
    let port = SocketAddr::from(([127, 0, 0, 1], random.number() as u16));
    let mut policy = wire::inbound(mesh::Mode::Strict, &[(port, mesh::Protocol::Http)]);
    policy.mode = small(random);
    policy.min_tls = random.one_of(&[0, 1, 0, 1, 2]);
    for port in &mut policy.ports {
        port.service_name = random.text();
        port.decided_by = random.text();
        port.mode = random.one_of(&[1, 2, 3, 3, 0]);
    }
    if random.once_in(6) {
        policy.trust_domains.push(random.text());
    }
    if random.once_in(4) {
        policy.cipher_suites = vec![random.one_of(&["ECDHE-RSA-AES256-GCM-SHA384", "AES256-SHA", "x"]).to_owned()];
    }
    policy.labels = Some(labels(random));
    policy
}

fn labels(random: &mut Random) -> mesh::WorkloadLabels {
    mesh::WorkloadLabels {
        name: random.text(),
        namespace: random.text(),
        app: random.text(),
        canonical_name: random.text(),
        ..Default::default()
    }
}

pub(super) fn destination(random: &mut Random) -> mesh::Destination {
    let mut tls = wire::tls(mesh::ClientTlsMode::TlsIstioMutual, &[SERVER]);
    tls.mode = random.one_of(&[0, 1, 2, 3, 3, 3, 7]);
    tls.sni = random.text();
    let addresses = ["192.0.2.1", "10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::1", "10.1.2.3/33", "", "a.example"];
    let endpoints = [SocketAddr::from(([10, 0, 0, random.byte()], 8080))];
    let mut destination = wire::destination(mesh::Protocol::Http, tls, &endpoints);
    destination.host = random.text();
    destination.addresses = (0..random.below(4))
        .map(|_| {
            let known = if random.once_in(6) { addresses.len() } else { 5 };
            addresses[random.below(known)].to_owned()
        })
        .collect();
    for port in &mut destination.ports {
        port.port = if random.once_in(6) { number(random) as u32 } else { random.one_of(&[80, 443, 8080]) };
        port.protocol = random.one_of(&[0, 1, 2, 3, 2, 9]);
        if random.once_in(6) {
            port.endpoints[0].address = random.text();
        }
    }
    let again = destination.ports.clone();
    destination.ports.extend(again.into_iter().take(random.below(2)));
    destination.by_endpoint = random.once_in(3);
    destination.passthrough = random.once_in(5);
    destination
}

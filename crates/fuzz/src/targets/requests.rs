//! What a proxy asks of the control plane: whatever it says, its bookkeeping stays bounded and gives it what exists.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use mutua_control::distribute::authorize::named_workload;
use mutua_control::distribute::resources::{Catalog, Named, Packed, TYPES};
use mutua_control::distribute::subscriptions::Subscriptions;
use mutua_control::revision::{Phase, Revision};
use mutua_wire::discovery::{DeltaDiscoveryRequest, Status};
use mutua_wire::mesh::Destination;
use mutua_wire::node::sidecar_node;
use prost::Message;

use crate::{Random, Target};

/// The target. Its input is requests, each behind its length as protobuf writes it.
pub const TARGET: Target = Target {
    name: "requests",
    run,
    grammar,
    words: &[
        b"type.googleapis.com/mutua.mesh.v1.Destination",
        b"type.googleapis.com/mutua.mesh.v1.PeerWorkload",
        b"\x1a\x01*",
        b"\x1a\x01a",
        b"\x22\x01b",
        b"1-1",
        b"2-2",
        b"sidecar~10.0.0.1~front.shop~shop.svc.cluster.local",
        b"\x3a\x00",
        b"\x2a\x04\x0a\x00\x12\x00",
    ],
    longest: 64 * 1024,
    memory: 1024 * 1024,
    memory_per_byte: 300,
};

struct All {
    generation: u64,
    all: Named,
    none: Named,
}

static CATALOGS: LazyLock<Vec<All>> = LazyLock::new(|| {
    let of = |generation: u64, names: &[&str]| {
        let pack = |name: &&str| {
            let host = format!("{name}.{generation}");
            let packed = Packed::new(name, &Destination { host, ..Destination::default() });
            (Arc::clone(&packed.name), Arc::new(packed))
        };
        All { generation, all: names.iter().map(pack).collect(), none: BTreeMap::new() }
    };
    vec![of(1, &["a", "b", "c"]), of(2, &["b", "c", "d"]), of(3, &[])]
});

impl Catalog for All {
    fn revision(&self) -> Revision {
        Revision::new(self.generation, Phase::Complete)
    }

    fn all(&self, type_url: &str) -> &Named {
        if type_url == TYPES[3] { &self.all } else { &self.none }
    }

    fn named(&self, type_url: &str, name: &str) -> Option<Arc<Packed>> {
        self.all(type_url).get(name).cloned()
    }
}

/// What must hold.
pub fn run(mut bytes: &[u8]) {
    let mut subscriptions = Subscriptions::default();
    let mut turn: usize = 0;
    while !bytes.is_empty() {
        let Ok(request) = DeltaDiscoveryRequest::decode_length_delimited(&mut bytes) else { return };
        if let Ok(workload) = named_workload(request.node.as_ref()) {
            assert_eq!(workload.to_string().parse().ok(), Some(workload));
        }
        if subscriptions.request(&request).is_err() {
            return;
        }
        turn += 1;
        due(&mut subscriptions, &CATALOGS[(turn / 3).min(CATALOGS.len() - 1)]);
    }
}

fn due(subscriptions: &mut Subscriptions, catalog: &All) {
    let responses = subscriptions.due(catalog);
    assert!(responses.len() <= TYPES.len());
    for response in &responses {
        assert!(subscriptions.waiting());
        assert_eq!(response.system_version_info, catalog.generation.to_string());
        for resource in &response.resources {
            let existing = catalog.named(&response.type_url, &resource.name).map(|packed| packed.to_wire());
            assert_eq!(existing.as_ref(), Some(resource), "nothing is sent that does not exist");
            assert!(!response.removed_resources.contains(&resource.name));
        }
    }
    // At most one response of a type is on its way.
    assert!(subscriptions.due(catalog).iter().all(|response| responses.iter().all(|one| one.type_url != response.type_url)));
    let progress = subscriptions.progress();
    assert!(progress.acknowledged <= progress.sent);
    assert!(progress.refused.iter().all(|refused| refused.error.len() <= 1024));
}

fn grammar(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    let name = |random: &mut Random| {
        let known = random.one_of(&["*", "a", "b", "c", "d", "10.0.0.7", ""]).to_owned();
        if random.once_in(30) { "n".repeat(random.below(600)) } else { known }
    };
    for turn in 0..random.between(1, 12) {
        let request = DeltaDiscoveryRequest {
            node: (turn == 0).then(|| sidecar_node("shop", &random.text(), "front", "10.0.0.1", "1")),
            type_url: TYPES[if random.once_in(3) { random.below(5) } else { 3 }].to_owned(),
            resource_names_subscribe: (0..random.below(3)).map(|_| name(random)).collect(),
            resource_names_unsubscribe: (0..random.below(2)).map(|_| name(random)).collect(),
            initial_resource_versions: (0..random.below(3)).map(|_| (name(random), random.text())).collect(),
            response_nonce: format!("{}-{}", random.between(1, 3), random.between(1, 6)),
            error_detail: random.once_in(3).then(|| Status { code: 13, message: random.text() }),
        };
        request.encode_length_delimited(&mut bytes).unwrap();
    }
    bytes
}

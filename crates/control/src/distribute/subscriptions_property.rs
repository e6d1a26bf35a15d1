//! Whatever a client does and whenever the configuration changes: once things are quiet, the client holds exactly what
//! it asked for, in the newest version, and the server knows it.

use std::collections::{BTreeMap, BTreeSet};

use mutua_wire::MeshResource;
use mutua_wire::discovery::Status;
use mutua_wire::mesh::Destination;
use proptest::prelude::*;

use super::super::resources::Named;
use super::*;
use crate::revision::Phase;

fn complete(generation: u64) -> Revision {
    Revision::new(generation, Phase::Complete)
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
enum Step {
    /// The configuration becomes this: a version for each name, 0 for none.
    Change([u8; 5]),
    /// The client applies the response that is on its way.
    Accept,
    /// The client refuses it.
    Refuse,
    /// The client answers something that is long out of date.
    AnswerLate,
    /// The connection breaks; the client comes back with what it holds.
    Reconnect,
    Subscribe(usize),
    Unsubscribe(usize),
    SubscribeAll,
    UnsubscribeAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::array::uniform5(0_u8..3).prop_map(Step::Change),
        4 => Just(Step::Accept),
        2 => Just(Step::Refuse),
        1 => Just(Step::AnswerLate),
        1 => Just(Step::Reconnect),
        1 => (0_usize..5).prop_map(Step::Subscribe),
        1 => (0_usize..5).prop_map(Step::Unsubscribe),
        1 => Just(Step::SubscribeAll),
        1 => Just(Step::UnsubscribeAll),
    ]
}

struct Configuration {
    generation: u64,
    all: Named,
}

impl Catalog for Configuration {
    fn revision(&self) -> Revision {
        complete(self.generation)
    }

    fn all(&self, _type_url: &str) -> &Named {
        &self.all
    }

    fn named(&self, _type_url: &str, name: &str) -> Option<Arc<Packed>> {
        self.all.get(name).cloned()
    }
}

impl Configuration {
    fn new(generation: u64, versions: [u8; 5]) -> Self {
        let exists = NAMES.iter().zip(versions).filter(|(_, version)| *version > 0);
        let pack = |(name, version): (&&str, u8)| {
            let packed = Packed::new(name, &Destination { host: version.to_string(), ..Destination::default() });
            (Arc::clone(&packed.name), Arc::new(packed))
        };
        Self { generation, all: exists.map(pack).collect() }
    }
}

#[derive(Default)]
struct Client {
    wildcard: bool,
    names: BTreeSet<String>,
    holds: BTreeMap<String, String>,
    on_its_way: Option<DeltaDiscoveryResponse>,
}

struct World {
    server: Subscriptions,
    client: Client,
    configuration: Configuration,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            server: Subscriptions::default(),
            client: Client { wildcard: true, ..Client::default() },
            configuration: Configuration::new(1, [1; 5]),
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        self.server = Subscriptions::default();
        self.client.on_its_way = None;
        let mut subscribe: Vec<String> = self.client.names.iter().cloned().collect();
        subscribe.extend(self.client.wildcard.then(|| WILDCARD.to_owned()));
        if subscribe.is_empty() {
            // An empty first request would mean everything.
            subscribe.push("none".to_owned());
            self.client.names.insert("none".to_owned());
        }
        self.request(DeltaDiscoveryRequest {
            resource_names_subscribe: subscribe,
            initial_resource_versions: self.client.holds.clone(),
            ..DeltaDiscoveryRequest::default()
        });
    }

    fn request(&mut self, mut request: DeltaDiscoveryRequest) {
        request.type_url = Destination::TYPE_URL.to_owned();
        self.server.request(&request).expect("within bounds");
        self.exchange();
    }

    fn exchange(&mut self) {
        for response in self.server.due(&self.configuration) {
            assert!(self.client.on_its_way.is_none(), "one response at a time");
            self.client.on_its_way = Some(response);
        }
    }

    fn answer(&mut self, error: Option<&str>) {
        let Some(response) = self.client.on_its_way.take() else { return };
        if error.is_none() {
            for name in &response.removed_resources {
                self.client.holds.remove(name);
            }
            for resource in &response.resources {
                self.client.holds.insert(resource.name.clone(), resource.version.clone());
            }
        }
        let error_detail = error.map(|message| Status { code: 13, message: message.to_owned() });
        self.request(DeltaDiscoveryRequest { response_nonce: response.nonce, error_detail, ..DeltaDiscoveryRequest::default() });
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Change(versions) => {
                self.configuration = Configuration::new(self.configuration.generation + 1, *versions);
                self.exchange();
            }
            Step::Accept => self.answer(None),
            Step::Refuse => self.answer(Some("no")),
            Step::AnswerLate => {
                self.request(DeltaDiscoveryRequest { response_nonce: "0-0".to_owned(), ..DeltaDiscoveryRequest::default() });
            }
            Step::Reconnect => self.connect(),
            Step::Subscribe(at) => self.subscribe(NAMES[*at]),
            Step::Unsubscribe(at) => self.unsubscribe(NAMES[*at]),
            Step::SubscribeAll => {
                self.client.wildcard = true;
                self.change_names(&[WILDCARD], &[]);
            }
            Step::UnsubscribeAll => {
                self.client.wildcard = false;
                self.change_names(&[], &[WILDCARD]);
            }
        }
    }

    fn subscribe(&mut self, name: &str) {
        // Asking again for a name means that it was dropped.
        if !self.client.names.insert(name.to_owned()) {
            self.client.holds.remove(name);
        }
        self.change_names(&[name], &[]);
    }

    fn unsubscribe(&mut self, name: &str) {
        if self.client.names.remove(name) {
            self.client.holds.remove(name);
            self.change_names(&[], &[name]);
        }
    }

    fn change_names(&mut self, subscribe: &[&str], unsubscribe: &[&str]) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.request(DeltaDiscoveryRequest {
            resource_names_subscribe: owned(subscribe),
            resource_names_unsubscribe: owned(unsubscribe),
            ..DeltaDiscoveryRequest::default()
        });
    }

    fn settle(&mut self) {
        for _ in 0..50 {
            if self.client.on_its_way.is_none() {
                return;
            }
            self.answer(None);
        }
        panic!("responses never end");
    }

    fn wanted(&self) -> BTreeMap<String, String> {
        let asked = |name: &str| self.client.wildcard || self.client.names.contains(name);
        let all = self.configuration.all.values().filter(|packed| asked(&packed.name));
        all.map(|packed| (packed.name.to_string(), packed.to_wire().version)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_quiet_client_holds_exactly_what_it_asked_for(steps in prop::collection::vec(step(), 0..40)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.settle();
        // What was refused may be missing still; the next version of everything is not refused.
        world.take(&Step::Change([9; 5]));
        world.settle();
        prop_assert_eq!(&world.client.holds, &world.wanted());
        let progress = world.server.progress();
        prop_assert_eq!(progress, Progress {
            sent: complete(world.configuration.generation),
            acknowledged: complete(world.configuration.generation),
            refused: vec![],
        });
    }
}

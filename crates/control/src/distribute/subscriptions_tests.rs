use mutua_wire::MeshResource;
use mutua_wire::discovery::Status;
use mutua_wire::mesh::{Destination, InboundPolicy, PeerWorkload};

use super::super::resources::Named;
use super::*;
use crate::revision::Phase;

fn complete(generation: u64) -> Revision {
    Revision::new(generation, Phase::Complete)
}

/// A catalog of destinations, by name and host, and of peers.
struct Fixed {
    generation: u64,
    destinations: Named,
    none: Named,
}

impl Fixed {
    fn new(generation: u64, destinations: &[(&str, &str)]) -> Self {
        let pack = |(name, host): &(&str, &str)| {
            let packed = Packed::new(name, &Destination { host: (*host).to_owned(), ..Destination::default() });
            (Arc::clone(&packed.name), Arc::new(packed))
        };
        Self { generation, destinations: destinations.iter().map(pack).collect(), none: Named::new() }
    }
}

impl Catalog for Fixed {
    fn revision(&self) -> Revision {
        complete(self.generation)
    }

    fn all(&self, type_url: &str) -> &Named {
        if type_url == Destination::TYPE_URL { &self.destinations } else { &self.none }
    }

    fn named(&self, type_url: &str, name: &str) -> Option<Arc<Packed>> {
        if type_url == PeerWorkload::TYPE_URL {
            return Some(Arc::new(Packed::new(name, &PeerWorkload { address: name.to_owned(), labels: None })));
        }
        self.all(type_url).get(name).cloned()
    }
}

fn subscribe(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: Destination::TYPE_URL.to_owned(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn nack(response: &DeltaDiscoveryResponse, error: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { error_detail: Some(Status { code: 13, message: error.to_owned() }), ..ack(response) }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

/// The one response that is due.
fn only(subscriptions: &mut Subscriptions, catalog: &Fixed) -> DeltaDiscoveryResponse {
    let mut due = subscriptions.due(catalog);
    assert_eq!(due.len(), 1, "one response is due: {due:?}");
    due.remove(0)
}

#[test]
fn only_what_changed_is_sent() {
    let mut client = Subscriptions::default();
    client.request(&subscribe(&[WILDCARD])).expect("allowed");
    let first = only(&mut client, &Fixed::new(1, &[("a", "1"), ("b", "1"), ("c", "1")]));
    assert_eq!(names(&first), ["a", "b", "c"]);
    assert_eq!(first.system_version_info, "1");
    client.request(&ack(&first)).expect("allowed");
    let second = only(&mut client, &Fixed::new(2, &[("a", "1"), ("b", "2")]));
    assert_eq!(names(&second), ["b"]);
    assert_eq!(second.removed_resources, ["c"]);
    assert_eq!(client.progress(), Progress { sent: complete(2), acknowledged: Revision::default(), refused: vec![] });
    client.request(&ack(&second)).expect("allowed");
    assert!(client.due(&Fixed::new(2, &[("a", "1"), ("b", "2")])).is_empty());
    assert_eq!(client.progress(), Progress { sent: complete(2), acknowledged: complete(2), refused: vec![] });
}

#[test]
fn a_generation_that_changes_nothing_is_acknowledged_without_a_message() {
    let mut client = Subscriptions::default();
    client.request(&subscribe(&[])).expect("an empty first request asks for everything");
    let first = only(&mut client, &Fixed::new(1, &[("a", "1")]));
    client.request(&ack(&first)).expect("allowed");
    assert!(client.due(&Fixed::new(9, &[("a", "1")])).is_empty());
    assert_eq!(client.progress().acknowledged, complete(9));
}

#[test]
fn snapshots_merge_while_a_response_is_on_its_way() {
    let mut client = Subscriptions::default();
    client.request(&subscribe(&[WILDCARD])).expect("allowed");
    let first = only(&mut client, &Fixed::new(1, &[("a", "1")]));
    assert!(client.due(&Fixed::new(2, &[("a", "2")])).is_empty(), "one response at a time");
    assert!(client.due(&Fixed::new(3, &[("a", "3")])).is_empty());
    client.request(&ack(&first)).expect("allowed");
    let merged = only(&mut client, &Fixed::new(3, &[("a", "3")]));
    assert_eq!((names(&merged), merged.system_version_info.as_str()), (vec!["a"], "3"));
}

#[test]
fn a_refused_version_is_not_sent_again_and_the_next_one_is() {
    let mut client = Subscriptions::default();
    client.request(&subscribe(&[WILDCARD])).expect("allowed");
    let first = only(&mut client, &Fixed::new(1, &[("a", "1")]));
    client.request(&ack(&first)).expect("allowed");
    let second = only(&mut client, &Fixed::new(2, &[("a", "2")]));
    client.request(&nack(&second, "no such file")).expect("allowed");
    assert!(client.due(&Fixed::new(2, &[("a", "2")])).is_empty(), "no loop of refusals");
    let progress = client.progress();
    assert_eq!(
        (progress.sent, progress.acknowledged),
        (complete(2), Revision::default()),
        "generation 1 was never settled by an empty difference"
    );
    assert_eq!(progress.refused.len(), 1);
    assert_eq!((progress.refused[0].revision, progress.refused[0].error.as_str()), (complete(2), "no such file"));
    let third = only(&mut client, &Fixed::new(3, &[("a", "3")]));
    client.request(&ack(&third)).expect("allowed");
    assert!(client.due(&Fixed::new(3, &[("a", "3")])).is_empty());
    assert_eq!(client.progress(), Progress { sent: complete(3), acknowledged: complete(3), refused: vec![] });
}

#[test]
fn going_back_to_what_the_client_holds_ends_a_refusal() {
    let mut client = Subscriptions::default();
    client.request(&subscribe(&[WILDCARD])).expect("allowed");
    let first = only(&mut client, &Fixed::new(1, &[("a", "1")]));
    client.request(&ack(&first)).expect("allowed");
    let second = only(&mut client, &Fixed::new(2, &[("a", "2")]));
    client.request(&nack(&second, "no")).expect("allowed");
    assert!(client.due(&Fixed::new(3, &[("a", "1")])).is_empty(), "it holds this version");
    assert_eq!(client.progress(), Progress { sent: complete(3), acknowledged: complete(3), refused: vec![] });
}

#[test]
fn a_client_that_reconnects_resumes_from_what_it_holds() {
    let catalog = Fixed::new(5, &[("a", "1"), ("b", "1")]);
    let mut request = subscribe(&[WILDCARD]);
    let held = catalog.destinations["a"].to_wire();
    request.initial_resource_versions.insert("a".to_owned(), held.version);
    request.initial_resource_versions.insert("b".to_owned(), "foreign".to_owned());
    request.initial_resource_versions.insert("gone".to_owned(), "0123456789abcdef".to_owned());
    let mut client = Subscriptions::default();
    client.request(&request).expect("allowed");
    let response = only(&mut client, &catalog);
    assert_eq!((names(&response), response.removed_resources.as_slice()), (vec!["b"], ["gone".to_owned()].as_slice()));
}

#[test]
fn the_first_request_of_a_type_is_always_answered() {
    let mut client = Subscriptions::default();
    let request = DeltaDiscoveryRequest { type_url: InboundPolicy::TYPE_URL.to_owned(), ..subscribe(&[WILDCARD]) };
    client.request(&request).expect("allowed");
    let response = only(&mut client, &Fixed::new(1, &[]));
    assert!(response.resources.is_empty() && response.removed_resources.is_empty());
    client.request(&ack(&response)).expect("allowed");
    assert!(client.due(&Fixed::new(1, &[])).is_empty());
}

#[test]
fn names_are_answered_one_by_one_also_when_there_is_no_such_resource() {
    let catalog = Fixed::new(1, &[("a", "1"), ("b", "1")]);
    let mut client = Subscriptions::default();
    client.request(&subscribe(&["a", "nobody"])).expect("allowed");
    let response = only(&mut client, &catalog);
    assert_eq!((names(&response), response.removed_resources.as_slice()), (vec!["a"], ["nobody".to_owned()].as_slice()));
    client.request(&ack(&response)).expect("allowed");
    assert!(client.due(&catalog).is_empty(), "told once");
    let appears = Fixed::new(2, &[("a", "1"), ("nobody", "1")]);
    let response = only(&mut client, &appears);
    assert_eq!(names(&response), ["nobody"]);
    client.request(&ack(&response)).expect("allowed");
    client
        .request(&DeltaDiscoveryRequest { resource_names_unsubscribe: vec!["a".to_owned()], ..subscribe(&[]) })
        .expect("allowed");
    assert!(client.due(&Fixed::new(3, &[("a", "2"), ("nobody", "1")])).is_empty(), "no longer asked for");
    client.request(&subscribe(&["nobody"])).expect("allowed");
    assert_eq!(names(&only(&mut client, &appears)), ["nobody"], "asked again means sent again");
}

#[test]
fn answers_out_of_date_say_nothing() {
    let mut client = Subscriptions::default();
    client.request(&subscribe(&[WILDCARD])).expect("allowed");
    let first = only(&mut client, &Fixed::new(1, &[("a", "1")]));
    client.request(&ack(&first)).expect("allowed");
    let second = only(&mut client, &Fixed::new(2, &[("a", "2")]));
    client.request(&nack(&first, "late")).expect("allowed");
    assert!(client.waiting() && client.progress().refused.is_empty());
    client.request(&ack(&second)).expect("allowed");
    assert!(!client.waiting());
}

#[test]
fn large_sets_come_in_bounded_responses() {
    let host = "h".repeat(400_000);
    let catalog = Fixed::new(1, &[("a", &host), ("b", &host), ("c", &host)]);
    let mut client = Subscriptions::default();
    client.request(&subscribe(&[WILDCARD])).expect("allowed");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let Some(response) = client.due(&catalog).pop() else { break };
        assert!(prost::Message::encoded_len(&response) < 2 * MAX_RESPONSE_BYTES);
        seen.extend(names(&response).iter().map(|name| (*name).to_owned()));
        assert_eq!(client.progress().acknowledged, Revision::default(), "a part is not the whole");
        client.request(&ack(&response)).expect("allowed");
    }
    assert_eq!(seen, ["a", "b", "c"]);
    assert!(client.due(&catalog).is_empty());
    assert_eq!(client.progress().acknowledged, complete(1));
}

#[test]
fn bounds_hold() {
    let mut client = Subscriptions::default();
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    assert_eq!(client.request(&subscribe(&[long.as_str()])), Err(Violation::Names));
    let many: Vec<String> = (0..=MAX_NAMES).map(|n| n.to_string()).collect();
    let request = DeltaDiscoveryRequest { resource_names_subscribe: many, ..subscribe(&[]) };
    assert_eq!(Subscriptions::default().request(&request), Err(Violation::Names));
    let mut client = Subscriptions::default();
    client
        .request(&DeltaDiscoveryRequest { type_url: "type.googleapis.com/unknown".to_owned(), ..subscribe(&[]) })
        .expect("ignored");
    assert!(client.due(&Fixed::new(1, &[])).is_empty());
    client.request(&subscribe(&[WILDCARD])).expect("allowed");
    let first = only(&mut client, &Fixed::new(1, &[("a", "1")]));
    client.request(&nack(&first, &"ä".repeat(MAX_ERROR_BYTES))).expect("allowed");
    assert_eq!(client.progress().refused[0].error.len(), MAX_ERROR_BYTES);
}

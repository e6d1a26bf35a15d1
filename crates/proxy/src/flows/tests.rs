use std::net::SocketAddr;

use super::*;
use crate::connections::{Connections, Direction, Outcome};
use crate::reasons::Reason;

fn address(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], port))
}

fn inbound(connections: &Connections, caller: u8) -> Arc<Connection> {
    let connection = connections.open(Direction::Inbound, address(caller, 40_000), address(1, 80));
    connection.note(|details| details.outcome = Some(Outcome::Plaintext));
    connection
}

#[test]
fn connections_that_are_alike_are_one_flow_and_open_ones_count() {
    let (flows, connections) = (Flows::default(), Connections::default());
    let [one, two] = [inbound(&connections, 2), inbound(&connections, 2)];
    for connection in [&one, &two] {
        flows.begin(connection);
        connection.received(100);
        connection.sent(7);
    }
    one.tell();
    one.tell();
    one.received(1);
    flows.end(&one, None);
    flows.end(&one, None);
    let [flow] = &flows.list()[..] else { panic!("one flow") };
    let Counts { opened, closed, failed, received, sent, .. } = flow.counts();
    assert_eq!((opened, closed, failed, received, sent), (2, 1, 0, 101, 7), "the second has told nothing yet");
    two.tell();
    assert_eq!((flow.counts().received, flow.counts().sent), (201, 14));
    assert_eq!((flow.key.port, flow.key.peer, flow.key.outcome), (80, Some(address(2, 0).ip()), Some(Outcome::Plaintext)));
}

#[test]
fn a_connection_that_goes_on_over_another_end_is_counted_in_both_with_its_own_bytes() {
    let (flows, connections) = (Flows::default(), Connections::default());
    let connection = connections.open(Direction::Outbound, address(1, 40_000), address(9, 80));
    for (outcome, bytes) in [(Outcome::Plaintext, 10), (Outcome::Mtls, 5)] {
        connection.note(|details| details.outcome = Some(outcome));
        flows.begin(&connection);
        connection.received(bytes);
        connection.parted();
    }
    flows.end(&connection, None);
    let counted: Vec<_> =
        flows.list().iter().map(|flow| (flow.key.outcome, flow.counts().received, flow.counts().closed)).collect();
    assert_eq!(counted, [(Some(Outcome::Plaintext), 10, 1), (Some(Outcome::Mtls), 5, 1)]);
}

#[test]
fn what_is_refused_or_cut_is_counted_by_its_reason() {
    let (flows, connections) = (Flows::default(), Connections::default());
    let refusal = |reason| Refusal { peer_identity: Some("spiffe://td/ns/a/sa/b".to_owned()), ..Refusal::new(reason, "no") };
    let stranger = connections.open(Direction::Inbound, address(2, 40_000), address(1, 80));
    flows.end(&stranger, Some(&refusal(Reason::PlaintextOnStrictPort)));
    let cut = inbound(&connections, 3);
    flows.begin(&cut);
    flows.end(&cut, Some(&refusal(Reason::PlaintextOnStrictPort)));
    let seen: Vec<_> = flows.list().iter().map(|flow| (flow.key.reason, flow.counts().opened, flow.counts().failed)).collect();
    let refused = (Some(Reason::PlaintextOnStrictPort), 0, 1);
    assert_eq!(seen, [refused, (None, 1, 0), refused]);
    assert_eq!(flows.list()[0].key.peer_id.as_deref(), Some("spiffe://td/ns/a/sa/b"));
}

#[test]
fn too_many_are_counted_together_until_some_are_at_rest() {
    let flows = Flows::default();
    let key = |n: usize| FlowKey {
        direction: Direction::Inbound,
        peer: Some(std::net::Ipv4Addr::from(u32::try_from(n).expect("small")).into()),
        peer_id: None,
        service: "s".into(),
        port: 80,
        outcome: Some(Outcome::Plaintext),
        reason: None,
        protection: None,
    };
    for n in 0..MAX_FLOWS + 5 {
        flows.flow(key(n)).opened.fetch_add(1, Ordering::Relaxed);
    }
    let list = flows.list();
    let folded: Vec<_> = list.iter().filter(|flow| flow.key.peer.is_none()).collect();
    assert_eq!((list.len(), folded.len(), folded[0].counts().opened), (MAX_FLOWS + 1, 1, 5));
    let known = |n: usize| flows.list().iter().any(|flow| flow.key == key(n));
    let later = now() + REST.as_secs() + 1;
    assert!(!make_room(&mut flows.lock(), later), "all are open");
    list[0].closed.fetch_add(1, Ordering::Relaxed);
    list[1].closed.fetch_add(1, Ordering::Relaxed);
    assert!(!make_room(&mut flows.lock(), later - 2), "they ended a moment ago");
    assert!(make_room(&mut flows.lock(), later), "two have ended and rest");
    assert!(!known(0) && !known(1) && known(2), "connections of the others are open");
}

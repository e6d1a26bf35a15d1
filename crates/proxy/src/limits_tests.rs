use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn gate(connections: usize, per_source: usize, handshakes: usize) -> Gate {
    Gate::new(Limits {
        max_connections: at_least_one(connections),
        max_connections_per_source: at_least_one(per_source),
        max_handshakes: at_least_one(handshakes),
        ..Limits::default()
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn refused<T>(result: Result<T, Refusal>) -> Reason {
    result.err().expect("refused").reason
}

#[test]
fn places_are_bounded_per_source_and_in_all_and_free_again() {
    let gate = gate(4, 2, 8);
    let places: Vec<_> =
        ["10.0.0.1", "10.0.0.1", "10.0.0.2"].map(|from| gate.enter(Direction::Inbound, ip(from)).unwrap()).into();
    assert_eq!(refused(gate.enter(Direction::Inbound, ip("::ffff:10.0.0.1"))), Reason::TooManyFromSource);
    let last = gate.enter(Direction::Inbound, ip("10.0.0.3")).unwrap();
    assert_eq!(refused(gate.enter(Direction::Inbound, ip("10.0.0.4"))), Reason::TooManyConnections);
    assert!(gate.enter(Direction::Outbound, ip("10.0.0.4")).is_ok(), "a flood from outside does not keep the workload in");
    assert_eq!(gate.sources(), 3);
    drop((places, last));
    assert_eq!(gate.sources(), 0, "nothing is remembered of those who are gone");
    assert!((0..4).map(|n| gate.enter(Direction::Inbound, ip(&format!("10.0.1.{n}")))).all(|place| place.is_ok()));
}

#[test]
fn one_direction_may_have_nearly_all_places_and_never_those_kept_for_the_other() {
    let gate = Gate::new(Limits::default().fitting(Some(64), None));
    let taken: Vec<_> = (0..7).map(|n| gate.enter(Direction::Inbound, ip(&format!("10.0.0.{n}"))).unwrap()).collect();
    assert_eq!(refused(gate.enter(Direction::Inbound, ip("10.0.1.1"))), Reason::TooManyConnections);
    let last = gate.enter(Direction::Outbound, ip("10.0.0.1")).unwrap();
    assert_eq!(refused(gate.enter(Direction::Outbound, ip("10.0.0.1"))), Reason::TooManyConnections, "no descriptors left");
    drop((taken, last));
    assert!((0..7).map(|_| gate.enter(Direction::Outbound, ip("10.0.0.1"))).all(|place| place.is_ok()));
}

#[test]
fn an_ipv6_host_is_one_source_whatever_addresses_it_takes() {
    let gate = gate(10, 1, 8);
    let _first = gate.enter(Direction::Inbound, ip("2001:db8::1")).unwrap();
    assert_eq!(refused(gate.enter(Direction::Inbound, ip("2001:db8::2"))), Reason::TooManyFromSource);
    assert!(gate.enter(Direction::Inbound, ip("2001:db8:0:1::1")).is_ok());
}

#[tokio::test]
async fn one_source_has_a_quarter_of_the_turns() {
    let gate = gate(100, 100, 8);
    let _places = [0; 4].map(|_| gate.enter(Direction::Inbound, ip("10.0.0.1")).unwrap());
    let _other = gate.enter(Direction::Inbound, ip("10.0.0.2")).unwrap();
    let deadline = Instant::now() + HOUR;
    let held = [gate.turn(ip("10.0.0.1"), deadline).await.unwrap(), gate.turn(ip("10.0.0.1"), deadline).await.unwrap()];
    let third = gate.turn(ip("10.0.0.1"), Instant::now()).await;
    assert_eq!(refused(third), Reason::TooManyHandshakes);
    assert!(gate.turn(ip("10.0.0.2"), deadline).await.is_ok(), "somebody else has a turn at once");
    drop(held);
    assert!(gate.turn(ip("10.0.0.1"), deadline).await.is_ok());
    assert_eq!(gate.in_turn(), 0);
}

#[test]
fn bounds_fit_the_process() {
    let limits = Limits::default();
    assert_eq!(limits.fitting(None, None), limits);
    assert_eq!(limits.fitting(Some(1 << 20), Some(8 << 30)), limits);
    let few = limits.fitting(Some(64), None);
    assert_eq!(
        (few.places.map_or(0, NonZeroUsize::get), few.max_connections.get(), few.max_connections_per_source.get()),
        (8, 7, 7)
    );
    assert_eq!(few.max_handshakes, limits.max_handshakes);
    let small = limits.fitting(None, Some(32 << 20));
    assert_eq!(
        (small.places.map_or(0, NonZeroUsize::get), small.max_connections.get(), small.max_handshakes.get()),
        (512, 480, 64)
    );
    let many = limits.fitting(Some(20_000), None);
    assert_eq!(
        (many.places.map_or(0, NonZeroUsize::get), many.max_connections.get()),
        (9976, 9352),
        "nearly all for one direction"
    );
    let none = limits.fitting(Some(1), Some(1));
    assert_eq!((none.max_connections.get(), none.max_handshakes.get()), (1, 1), "never nothing");
}

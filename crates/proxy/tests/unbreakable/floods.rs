//! Group Floods, in small; the long forms are `make soak`'s.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;

use futures_util::future::join_all;
use mutua_proxy::limits::Limits;
use mutua_proxy::reasons::Reason;
use mutua_proxy::telemetry::MAX_SERIES;
use mutua_testbed::peers::{Secured, connect_from, mesh_client, plain_client};
use mutua_testbed::{App, Authority, CLIENT, read_to_end, wire};
use mutua_wire::mesh::{self, Mode, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bench::{Bench, EVIL, limits};

fn at_least_one(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

/// How much of a flood: little in `make test`.
fn scale(little: usize, much: usize) -> usize {
    if std::env::var_os("MUTUA_SOAK").is_some() { much } else { little }
}

#[tokio::test]
async fn connect_flood() {
    let bench = Bench::strict().await;
    let count = scale(300, 3000);
    let attack = async |bench: &Bench| {
        join_all((0..count).map(|_| bench.send(EVIL))).await;
    };
    bench.survives_many("connect_flood", count, attack).await;
}

/// One source may have 40 connections, all together 60.
#[tokio::test]
async fn idle_flood() {
    let limits = Limits {
        max_connections: at_least_one(60),
        max_connections_per_source: at_least_one(40),
        handshake_timeout: std::time::Duration::from_secs(60),
        ..limits()
    };
    let bench = Bench::over(Mode::Permissive, Protocol::Auto, App::echo().await, limits).await;
    let idle = |bench: &Bench, host: u8, count: usize| {
        let to = bench.server.address;
        join_all((0..count).map(move |_| connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), to)))
    };
    let until_open = async |bench: &Bench, count: usize| {
        mutua_testbed::plane::until("the open connections", || bench.server.sidecar.connections.count() == count).await;
    };
    bench.others_are_served().await;
    let known = bench.settled().await;
    let first = idle(&bench, 2, 100).await;
    until_open(&bench, 41).await;
    mutua_testbed::plane::until("refusals", || bench.refused_for(Reason::TooManyFromSource) == 60).await;
    bench.others_are_served().await;
    until_open(&bench, 41).await;
    let second = idle(&bench, 3, 100).await;
    until_open(&bench, 60).await;
    mutua_testbed::plane::until("refusals", || bench.refused_for(Reason::TooManyConnections) == 81).await;
    assert!(bench.server.sidecar.connections.records().iter().any(|record| record.id > known));
    drop((first, second));
    bench.settled().await;
    bench.others_are_served().await;
    assert_eq!(bench.server.sidecar.gate.sources(), 1, "the bystander's");
}

#[tokio::test]
async fn handshake_flood() {
    let bench = Bench::strict().await;
    let config = plain_client(&bench.authority);
    let count = scale(60, 2000);
    let attack = async |bench: &Bench| {
        join_all((0..count).map(async |_| {
            if let Ok(mut secured) = Secured::over(bench.connect().await, &config, None, &[b"istio"]).await {
                let _ = secured.send(EVIL).await;
                let _ = read_to_end(&mut secured.stream).await;
            }
        }))
        .await;
    };
    bench.survives_many("handshake_flood", count, attack).await;
}

#[tokio::test]
async fn untrusted_flood() {
    let bench = Bench::strict().await;
    let removed = Authority::new();
    let both: Vec<String> = bench.authority.roots().into_iter().chain(removed.roots()).collect();
    bench.server.put("default", &mesh::TrustBundle { roots: both, renew_not_before: 0, ..Default::default() });
    let config = mesh_client(&bench.authority, &removed.leaf(CLIENT));
    let mut before = Secured::over(bench.connect().await, &config, None, &[b"istio"]).await.unwrap();
    assert_eq!(before.echo(b"trusted").await.unwrap(), b"trusted");
    before.close().await.unwrap();
    bench.server.put("default", &mesh::TrustBundle { roots: bench.authority.roots(), renew_not_before: 0, ..Default::default() });
    bench.settled().await;
    let count = scale(60, 2000);
    let attack = async |bench: &Bench| {
        join_all((0..count).map(async |_| {
            if let Ok(mut secured) = Secured::over(bench.connect().await, &config, None, &[b"istio"]).await {
                let _ = secured.send(EVIL).await;
                let _ = read_to_end(&mut secured.stream).await;
            }
        }))
        .await;
    };
    bench.survives_many("untrusted_flood", count, attack).await;
}

/// Streams are opened and reset at once. The sidecar passes them on; what it watches of them is bounded.
#[tokio::test]
async fn reset_storm() {
    let bench = Bench::new(Mode::Strict, Protocol::Http2).await;
    let config = mesh_client(&bench.authority, &bench.authority.leaf(CLIENT));
    let frame = |kind: u8, flags: u8, stream: u32, content: &[u8]| {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes()[..], content].concat()
    };
    let mut storm = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    storm.extend(frame(4, 0, 0, b""));
    for n in 0..u32::try_from(scale(20_000, 1_000_000)).unwrap() {
        let stream = 2 * n + 1;
        storm.extend(frame(1, 5, stream, &[0x82, 0x84, 0x87, 0x41, 1, b'a']));
        storm.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    let attack = async |bench: &Bench| {
        let mut secured = Secured::over(bench.connect().await, &config, None, &[b"istio-h2", b"istio", b"h2"]).await.unwrap();
        for piece in storm.chunks(16 * 1024) {
            assert!(secured.echo(piece).await.unwrap() == piece, "every byte arrives as it is");
        }
        secured.close().await.unwrap();
    };
    bench.survives("reset_storm", attack).await;
}

#[tokio::test]
async fn many_identities() {
    let bench = Bench::strict().await;
    let count = scale(100, MAX_SERIES + 500);
    let attack = async |bench: &Bench| {
        for n in 0..count {
            let leaf = bench.authority.leaf(&format!("spiffe://cluster.local/ns/shop/sa/caller-{n}"));
            let config = mesh_client(&bench.authority, &leaf);
            let mut secured = Secured::over(bench.connect().await, &config, None, &[b"istio"]).await.unwrap();
            assert_eq!(secured.echo(b"me").await.unwrap(), b"me");
            secured.close().await.unwrap();
        }
    };
    bench.survives_many("many_identities", count, attack).await;
    let sidecar = &bench.server.sidecar;
    let text = sidecar.metrics.render(&sidecar.connections, &sidecar.refusals, None);
    let series = text.lines().filter(|line| line.starts_with("istio_tcp_connections_opened_total{")).count();
    assert!(series > count.min(MAX_SERIES) && series <= MAX_SERIES + 2, "{series}");
}

/// Handshakes beyond the bound wait for their turn; one source does not take the turns of another.
#[tokio::test]
async fn stalled_handshakes_of_one_source_leave_turns_to_others() {
    let limits = Limits { max_handshakes: at_least_one(8), ..limits() };
    let bench = Bench::over(Mode::Strict, Protocol::Auto, App::echo().await, limits).await;
    let hello = mutua_testbed::hello::Hello::default().records(1 << 14);
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let stalled = join_all((0..12).map(async |_| {
        let mut stream = connect_from(from, bench.server.address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }));
    let others = async {
        mutua_testbed::plane::until("two turns of eight", || bench.server.sidecar.gate.in_turn() == 2).await;
        bench.others_are_served().await;
    };
    tokio::join!(stalled, others);
    let (timeout, turns) = (bench.refused_for(Reason::HandshakeTimeout), bench.refused_for(Reason::TooManyHandshakes));
    // Those who wait and those who have a turn run out of time at the same moment.
    assert_eq!(timeout + turns, 12);
    bench.server.put("shop/it", &wire::inbound(Mode::Strict, &[]));
    bench.settled().await;
    bench.others_are_served().await;
}

/// A peer that sends more than is read of strangers.
#[tokio::test]
async fn endless_handshake() {
    let limits = Limits { max_handshake_bytes: at_least_one(8192), ..limits() };
    let bench = Bench::over(Mode::Strict, Protocol::Auto, App::echo().await, limits).await;
    let filler = vec![(0x7a7a, vec![0; 12_000])];
    let hello = mutua_testbed::hello::Hello { more: filler, ..Default::default() }.records(1 << 14);
    bench.send(&hello).await;
    bench.server.refused(Reason::HandshakeTooLarge).await;
}

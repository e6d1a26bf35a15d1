//! What a relay must keep: ends of each direction, resets, and the pace of the slower side; with and without TLS.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mutua_testbed as common;

use std::sync::Arc;
use std::time::Duration;

use common::{Authority, CLIENT, PATIENCE, Running, SERVER, read_to_end, wire};
use mutua_proxy::connections::Direction;
use mutua_wire::mesh::{ClientTlsMode, Mode, Protocol};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Path {
    _client: Running,
    _server: Running,
    near: TcpStream,
    far: TcpStream,
}

/// A connection through both sidecars, with both of its ends in hand.
async fn path(mode: ClientTlsMode) -> Path {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Running::start(Direction::Inbound, Some(authority.leaf(SERVER))).await;
    server.wanted.set(address);
    server.configure(&authority, &wire::inbound(Mode::Permissive, &[(address, Protocol::Tcp)]));
    let client = Running::start(Direction::Outbound, Some(authority.leaf(CLIENT))).await;
    client.wanted.set("192.0.2.1:80".parse().unwrap());
    client.configure(&authority, &wire::inbound(Mode::Permissive, &[]));
    client.put("shop/server", &wire::destination(Protocol::Tcp, wire::tls(mode, &[]), &[server.address]));
    let mut near = TcpStream::connect(client.address).await.unwrap();
    near.write_all(b"!").await.unwrap();
    let (mut far, _) = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'!');
    Path { _client: client, _server: server, near, far }
}

const MODES: [ClientTlsMode; 2] = [ClientTlsMode::TlsDisable, ClientTlsMode::TlsIstioMutual];

#[tokio::test]
async fn each_direction_ends_by_itself() {
    for mode in MODES {
        let Path { mut near, mut far, .. } = path(mode).await;
        near.write_all(b"request").await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut far).await.unwrap(), b"request", "{mode:?}");
        far.write_all(b"an answer after the caller's end").await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut near).await.unwrap(), b"an answer after the caller's end");

        let Path { mut near, mut far, .. } = path(mode).await;
        far.write_all(b"bye").await.unwrap();
        far.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut near).await.unwrap(), b"bye");
        near.write_all(b"still talking").await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut far).await.unwrap(), b"still talking");
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_at_the_other_end() {
    for mode in MODES {
        for from_near in [true, false] {
            let Path { near, far, .. } = path(mode).await;
            let (gone, mut left) = if from_near { (near, far) } else { (far, near) };
            SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
            drop(gone);
            let error = read_to_end(&mut left).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{mode:?} from_near={from_near}");
        }
    }
}

#[tokio::test]
async fn everything_arrives_in_order_in_both_directions_at_once() {
    const SIZE: usize = 8 * 1024 * 1024;
    for mode in MODES {
        let Path { near, far, .. } = path(mode).await;
        let data: Arc<Vec<u8>> = Arc::new((0..SIZE).map(|n| (n.wrapping_mul(31) >> 3) as u8).collect());
        let both = [near, far].map(|stream| {
            let data = Arc::clone(&data);
            tokio::spawn(async move {
                let (mut read, mut write) = stream.into_split();
                let sent = Arc::clone(&data);
                let sender = tokio::spawn(async move {
                    for piece in sent.chunks(77_777) {
                        write.write_all(piece).await.unwrap();
                    }
                    write.shutdown().await.unwrap();
                });
                let mut received = Vec::new();
                tokio::time::timeout(PATIENCE, read.read_to_end(&mut received)).await.unwrap().unwrap();
                sender.await.unwrap();
                assert!(received == *data, "{} bytes", received.len());
            })
        });
        for one in both {
            one.await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer() {
    for mode in MODES {
        let Path { mut near, mut far, .. } = path(mode).await;
        let chunk = vec![7; 64 * 1024];
        let mut sent = 0;
        while let Ok(done) = tokio::time::timeout(Duration::from_millis(500), near.write_all(&chunk)).await {
            done.unwrap();
            sent += chunk.len();
            // Kernel buffers of five sockets; a relay that reads without bound goes far beyond.
            assert!(sent < 256 << 20, "{mode:?}: {sent} bytes and no end");
        }
        let mut received = 0;
        let mut buffer = vec![0; 1 << 20];
        while received < sent {
            let count = tokio::time::timeout(PATIENCE, far.read(&mut buffer)).await.unwrap().unwrap();
            assert!(buffer[..count].iter().all(|byte| *byte == 7));
            received += count;
        }
    }
}

//! The sidecar's DNS, and connections to hosts that are known by name only.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use mutua_proxy::capture::Dialer;
use mutua_proxy::connections::Direction;
use mutua_proxy::dns::message::{Kind, Known, Query, Said, is_cut, question, said};
use mutua_proxy::dns::upstream::is_routed;
use mutua_proxy::dns::{Dns, Resolver, Upstream};
use mutua_testbed::{App, Authority, CLIENT, PATIENCE, Running, read_exactly, wire};
use mutua_wire::mesh;
use mutua_wire::mesh::{ClientTlsMode, Mode, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

const GIVEN: &str = "240.240.12.34";
const GIVEN_SIX: &str = "2001:2::f0f0:c22";

/// Two sockets of one free port.
async fn bind() -> (UdpSocket, TcpListener) {
    let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let streams = TcpListener::bind(datagrams.local_addr().unwrap()).await.unwrap();
    (datagrams, streams)
}

/// A name server: answers 127.0.0.1 to every question about an address, and nonsense to all others. What it heard is kept.
struct Server {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Server {
    async fn start() -> Self {
        let (datagrams, streams) = bind().await;
        let address = datagrams.local_addr().unwrap();
        let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (kept, kept_too) = (Arc::clone(&heard), Arc::clone(&heard));
        tokio::spawn(async move {
            let mut buffer = [0; 5000];
            while let Ok((length, from)) = datagrams.recv_from(&mut buffer).await {
                kept.lock().unwrap().push(buffer[..length].to_vec());
                datagrams.send_to(&reply(&buffer[..length]), from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = streams.accept().await {
                let query = framed(&mut stream).await;
                kept_too.lock().unwrap().push(query.clone());
                send_framed(&mut stream, &reply(&query)).await;
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().clone()
    }
}

fn reply(query: &[u8]) -> Vec<u8> {
    let known = Known { alias: None, addresses: vec![IpAddr::from([127, 0, 0, 1])] };
    Query::read(query).and_then(|query| query.answer(&known, 512)).unwrap_or_else(|| {
        let mut odd = query.to_vec();
        odd[2] |= 0x80;
        odd.extend_from_slice(b"odd but unchanged");
        odd
    })
}

async fn framed(stream: &mut TcpStream) -> Vec<u8> {
    let length = stream.read_u16().await.unwrap();
    read_exactly(stream, usize::from(length)).await
}

async fn send_framed(stream: &mut TcpStream, message: &[u8]) {
    stream.write_u16(u16::try_from(message.len()).unwrap()).await.unwrap();
    stream.write_all(message).await.unwrap();
}

/// A sidecar with its DNS.
struct Case {
    server: Server,
    authority: Authority,
    client: Running,
    dns: SocketAddr,
}

impl Case {
    async fn start() -> Self {
        let (server, authority) = (Server::start().await, Authority::new());
        let upstream = Upstream::fixed(Dialer::default(), &[server.address]);
        let resolver = Resolver::new(upstream.clone());
        let client =
            Running::with(Direction::Outbound, Some(authority.leaf(CLIENT)), |sidecar| sidecar.resolver = resolver).await;
        let dns = Arc::new(Dns::new(Arc::clone(&client.sidecar), "shop".to_owned(), upstream));
        let (datagrams, streams) = bind().await;
        let address = datagrams.local_addr().unwrap();
        tokio::spawn(Arc::clone(&dns).serve_datagrams(datagrams.into(), CancellationToken::new()));
        tokio::spawn(dns.serve_streams(streams.into(), CancellationToken::new()));
        Self { server, authority, client, dns: address }
    }

    fn configure(&self) {
        self.client.configure(&self.authority, &wire::inbound(Mode::Permissive, &[]));
    }

    async fn ask(&self, query: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(query, self.dns).await.unwrap();
        let mut buffer = vec![0; 70_000];
        let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("in time").unwrap();
        buffer.truncate(length);
        buffer
    }

    async fn ask_by_stream(&self, query: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.dns).await.unwrap();
        send_framed(&mut stream, query).await;
        framed(&mut stream).await
    }
}

/// A host without addresses, served by `endpoints`.
fn entry(endpoints: &[(&str, u16)]) -> mesh::Destination {
    let mut entry = wire::destination(Protocol::Tcp, wire::tls(ClientTlsMode::TlsDisable, &[]), &[]);
    entry.host = "api.example.com".to_owned();
    entry.name.clone_from(&entry.host);
    entry.addresses.clear();
    entry.allocated = vec![GIVEN.to_owned()];
    let endpoint = |(address, port): &(&str, u16)| mesh::Endpoint {
        address: (*address).to_owned(),
        port: u32::from(*port),
        ..mesh::Endpoint::default()
    };
    entry.ports[0].endpoints = endpoints.iter().map(endpoint).collect();
    entry
}

#[tokio::test]
async fn names_of_the_mesh_are_answered_here_and_others_pass_unchanged() {
    let case = Case::start().await;
    case.configure();
    case.client.put("shop/api", &entry(&[("api.example.com", 443)]));
    case.client.put("shop/server", &wire::destination(Protocol::Tcp, wire::tls(ClientTlsMode::TlsDisable, &[]), &[]));
    for (name, wanted) in [("API.example.com", GIVEN), ("server", "192.0.2.1"), ("server.shop.svc.cluster.local", "192.0.2.1")] {
        let query = question(7, name, Kind::A).unwrap();
        let wanted = Said::Addresses(vec![wanted.parse().unwrap()], Some(30));
        assert_eq!(said(&case.ask(&query).await, &query), wanted, "{name}");
        assert_eq!(said(&case.ask_by_stream(&query).await, &query), wanted, "{name}");
    }
    assert!(case.server.heard().is_empty(), "nobody else was asked");
    let six = question(8, "api.example.com", Kind::Aaaa).unwrap();
    assert_eq!(said(&case.ask(&six).await, &six), Said::Addresses(Vec::new(), None), "the name exists");
    // Of an IPv6 address that it was given only who can reach one is told.
    let mut both = entry(&[("api.example.com", 443)]);
    both.allocated.push(GIVEN_SIX.to_owned());
    case.client.put("shop/api", &both);
    let routed = is_routed(GIVEN_SIX.parse().unwrap());
    let told =
        if routed { Said::Addresses(vec![GIVEN_SIX.parse().unwrap()], Some(30)) } else { Said::Addresses(Vec::new(), None) };
    assert_eq!(said(&case.ask(&six).await, &six), told, "routed: {routed}");

    let mut strange = question(9, "mail.example.com", Kind::A).unwrap();
    let at = strange.len() - 11 - 4;
    strange[at + 1] = 15;
    strange.push(0xff);
    let mut odd = strange.clone();
    odd[2] |= 0x80;
    odd.extend_from_slice(b"odd but unchanged");
    assert_eq!(case.ask(&strange).await, odd);
    assert_eq!(case.ask_by_stream(&strange).await, odd);
    assert_eq!(case.server.heard(), [strange.clone(), strange]);
}

#[tokio::test]
async fn many_addresses_are_cut_to_the_askers_size_and_come_whole_by_stream() {
    let case = Case::start().await;
    case.configure();
    let endpoints: Vec<SocketAddr> = (1..=200).map(|last| SocketAddr::from(([10, 0, 0, last], 80))).collect();
    let mut headless = wire::destination(Protocol::Tcp, wire::tls(ClientTlsMode::TlsDisable, &[]), &endpoints);
    headless.addresses.clear();
    headless.by_endpoint = true;
    case.client.put("shop/server", &headless);
    let query = question(7, "server.shop", Kind::A).unwrap();
    let short = case.ask(&query).await;
    assert!(is_cut(&short) && short.len() <= 1232, "{}", short.len());
    let whole = case.ask_by_stream(&query).await;
    let Said::Addresses(all, _) = said(&whole, &query) else { panic!("{whole:?}") };
    assert_eq!((all.len(), is_cut(&whole)), (200, false));
}

#[tokio::test]
async fn no_name_is_passed_on_before_it_is_known_what_the_mesh_has() {
    let case = Case::start().await;
    let query = question(7, "api.example.com", Kind::A).unwrap();
    assert_eq!(said(&case.ask(&query).await, &query), Said::Failed);
    assert!(case.server.heard().is_empty());
    case.configure();
    assert_eq!(said(&case.ask(&query).await, &query), Said::Addresses(vec![IpAddr::from([127, 0, 0, 1])], Some(30)));
}

#[tokio::test]
async fn what_is_no_query_is_neither_answered_nor_passed_on() {
    let case = Case::start().await;
    case.configure();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let query = question(7, "api.example.com", Kind::A).unwrap();
    let mut reply = query.clone();
    reply[2] |= 0x80;
    for junk in [&b""[..], &query[..11], &reply, &[query.as_slice(), &[0; 5000]].concat()] {
        socket.send_to(junk, case.dns).await.unwrap();
    }
    let mut stream = TcpStream::connect(case.dns).await.unwrap();
    send_framed(&mut stream, &reply).await;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "closed");
    // It still serves, and has said nothing to the junk.
    socket.send_to(&query, case.dns).await.unwrap();
    let mut buffer = vec![0; 2000];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(said(&buffer[..length], &query), Said::Addresses(vec![IpAddr::from([127, 0, 0, 1])], Some(30)));
    assert_eq!(case.server.heard(), [query]);
}

#[tokio::test]
async fn the_given_address_leads_to_what_the_endpoints_name_stands_for() {
    let case = Case::start().await;
    case.configure();
    let app = App::echo().await;
    case.client.put("shop/api", &entry(&[("backend.example.com", app.address.port())]));
    case.client.wanted.set(SocketAddr::new(GIVEN.parse().unwrap(), 80));
    for _ in 0..3 {
        let mut stream = TcpStream::connect(case.client.address).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 5).await, b"hello");
    }
    assert_eq!(case.server.heard().len(), 2, "asked once for each family: {:?}", case.server.heard());
    let record = case.client.record(|record| record.endpoint.is_some()).await;
    assert_eq!(record.service.as_deref(), Some("api.example.com"));
    assert_eq!(record.endpoint, Some(app.address.to_string()));
}

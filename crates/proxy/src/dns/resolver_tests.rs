use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Packet, RCODE, ResourceRecord};
use tokio::net::UdpSocket;

use super::*;
use crate::capture::Dialer;

const PATIENCE: Duration = Duration::from_secs(30);

/// Addresses and for how many seconds, or a failure.
type Says = Option<(Vec<IpAddr>, u32)>;

/// A name server that says what the test wants.
#[derive(Clone, Default)]
struct Server {
    /// By name.
    zone: Arc<Mutex<HashMap<String, Says>>>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> (Self, Resolver) {
        let (server, socket) = (Self::default(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let serving = server.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2000];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                serving.asked.fetch_add(1, Ordering::Relaxed);
                socket.send_to(&serving.reply(&buffer[..length]), from).await.unwrap();
            }
        });
        (server, Resolver::new(Upstream::fixed(Dialer::default(), &[address])))
    }

    fn set(&self, name: &str, says: Option<(&[&str], u32)>) {
        let says = says.map(|(ips, ttl)| (ips.iter().map(|ip| ip.parse().unwrap()).collect(), ttl));
        self.zone.lock().unwrap().insert(name.to_owned(), says);
    }

    fn reply(&self, query: &[u8]) -> Vec<u8> {
        let query = Packet::parse(query).unwrap();
        let mut reply = Packet::new_reply(query.id());
        reply.questions.clone_from(&query.questions);
        let question = &query.questions[0];
        match self.zone.lock().unwrap().get(&question.qname.to_string()) {
            Some(Some((ips, ttl))) => {
                let records = ips.iter().map(|ip| match ip {
                    IpAddr::V4(ip) => RData::A((*ip).into()),
                    IpAddr::V6(ip) => RData::AAAA((*ip).into()),
                });
                let records = records.map(|data| ResourceRecord::new(question.qname.clone(), CLASS::IN, *ttl, data));
                reply.answers = records.filter(|record| record.match_qtype(question.qtype)).collect();
            }
            Some(None) => *reply.rcode_mut() = RCODE::ServerFailure,
            None => *reply.rcode_mut() = RCODE::NameError,
        }
        reply.build_bytes_vec().unwrap()
    }
}

async fn until(resolver: &Resolver, name: &Arc<str>, wanted: Result<&str, ()>) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let wanted = wanted.map(str::to_owned);
    loop {
        let found = resolver.resolve(name).await;
        let found = found.map(|ips| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")).map_err(drop);
        if found == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:?} instead of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_address_is_kept_as_long_as_it_is_good_for_and_renewed_beside_its_users() {
    let (server, resolver) = Server::start().await;
    let name: Arc<str> = "db.example.com".into();
    server.set(&name, Some((&["10.0.0.1", "10.0.0.2"], 3600)));
    for _ in 0..50 {
        assert_eq!(resolver.resolve(&name).await.unwrap().len(), 2);
    }
    assert_eq!(server.asked.load(Ordering::Relaxed), 2, "one question for each family");
    let name: Arc<str> = "short.example.com".into();
    server.set(&name, Some((&["10.0.0.1"], 1)));
    until(&resolver, &name, Ok("10.0.0.1")).await;
    server.set(&name, Some((&["10.0.0.9"], 1)));
    until(&resolver, &name, Ok("10.0.0.9")).await;
    // A server that fails takes nothing away; one that says there is nothing does.
    server.set(&name, None);
    let before = server.asked.load(Ordering::Relaxed);
    while server.asked.load(Ordering::Relaxed) < before + 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(resolver.resolve(&name).await.is_ok());
    }
    server.zone.lock().unwrap().remove(&*name);
    until(&resolver, &name, Err(())).await;
}

#[tokio::test]
async fn names_that_lead_nowhere_are_said_in_time() {
    let (server, resolver) = Server::start().await;
    let said = |error: io::Error| error.to_string();
    assert_eq!(resolver.resolve(&"none.example.com".into()).await.map_err(said).unwrap_err(), "the name has no address");
    server.set("broken.example.com", None);
    let error = resolver.resolve(&"broken.example.com".into()).await.map_err(said).unwrap_err();
    assert_eq!(error, "the name server does not know");
    // A server that never answers: a socket that nobody reads.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = Resolver::new(Upstream::fixed(Dialer::default(), &[silent.local_addr().unwrap()]));
    let error = resolver.resolve(&"db.example.com".into()).await.map_err(said).unwrap_err();
    assert!(error.contains("does not answer"), "{error}");
}

#[tokio::test]
async fn places_are_looked_up() {
    let (server, resolver) = Server::start().await;
    server.set("istiod.example.com", Some((&["10.0.0.1"], 1)));
    let found = async |place: &str| resolver.lookup(place).await.map(|all| all[0].to_string()).map_err(|error| error.kind());
    assert_eq!(found("istiod.example.com:15012").await.as_deref(), Ok("10.0.0.1:15012"));
    assert_eq!(found("192.0.2.1:1").await.as_deref(), Ok("192.0.2.1:1"));
    assert_eq!(found("[fd00::1]:1").await.as_deref(), Ok("[fd00::1]:1"));
    assert_eq!(found("localhost:80").await.as_deref(), Ok("127.0.0.1:80"));
    for wrong in ["istiod.example.com", "istiod.example.com:x", "", ":"] {
        assert_eq!(found(wrong).await, Err(io::ErrorKind::InvalidInput), "{wrong}");
    }
}

//! Names in the laboratory: true capture rules lead an application's questions to its sidecar, whichever tool carries them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/mesh.rs"]
mod mesh;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use common::{MUTUA, PATIENCE};
use mesh::{BACK, EVIL, Mesh, PORT, echo, in_lab};
use mutua_lab::{Host, privilege};
use mutua_proxy::dns::message::{Kind, Known, Query, Said, question, said};

/// A host outside the mesh, which has no addresses; its endpoint is known by another name.
const ENTRY: &str = "\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: shop}
spec:
  hosts: [api.example.com]
  resolution: DNS
  ports: [{number: 80, name: tcp, protocol: TCP, targetPort: 8080}]
  endpoints: [{address: backend.example.com}]
";

/// The name server of the network: the application's host for `backend.example.com`, another address for all else.
struct NameServer {
    heard: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    fn start(host: &Host) -> Self {
        let at = SocketAddr::from((EVIL, 53));
        let bound = host.namespace.enter(|| (UdpSocket::bind(at), TcpListener::bind(at))).expect("the namespace is entered");
        let (datagrams, streams) = (bound.0.expect("free"), bound.1.expect("free"));
        let server = Self { heard: Arc::default() };
        let (heard, heard_too) = (Arc::clone(&server.heard), Arc::clone(&server.heard));
        std::thread::spawn(move || {
            let mut buffer = [0; 2000];
            while let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
                let _ = datagrams.send_to(&reply(&buffer[..length], &heard), from);
            }
        });
        std::thread::spawn(move || {
            for mut stream in streams.incoming().map_while(Result::ok) {
                let query = read_framed(&mut stream);
                write_framed(&mut stream, &reply(&query, &heard_too));
            }
        });
        server
    }

    fn heard(&self, name: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|heard| *heard == name).count()
    }
}

fn reply(query: &[u8], heard: &Mutex<Vec<String>>) -> Vec<u8> {
    let query = Query::read(query).expect("a plain question");
    heard.lock().unwrap().push(query.name.clone());
    let address = if query.name == "backend.example.com" { BACK } else { Ipv4Addr::new(192, 0, 2, 99) };
    query.answer(&Known { alias: None, addresses: vec![address.into()] }, 512).expect("it fits")
}

fn read_framed(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

fn write_framed(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(&u16::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(message).unwrap();
}

/// What the C library of a host makes of a name.
fn getent(host: &Host, name: &str) -> Option<IpAddr> {
    let answer = host.namespace.run(Command::new("getent").args(["ahostsv4", name])).ok()?;
    answer.split_whitespace().next()?.parse().ok()
}

/// The answer of the name server as an application sees it that asks for itself.
fn ask(host: &Host, name: &str, stream: bool) -> IpAddr {
    let query = question(77, name, Kind::A).unwrap();
    let asked = host.namespace.enter(|| {
        if stream {
            let mut stream = TcpStream::connect_timeout(&(EVIL, 53).into(), PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            write_framed(&mut stream, &query);
            return read_framed(&mut stream);
        }
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // An unconnected socket would take an answer from anybody; this one takes it from the server that it asked.
        socket.connect((EVIL, 53)).unwrap();
        socket.send(&query).unwrap();
        let mut buffer = vec![0; 2000];
        let length = socket.recv(&mut buffer).expect("an answer");
        buffer.truncate(length);
        buffer
    });
    let answer = asked.expect("the namespace is entered");
    let Said::Addresses(addresses, _) = said(&answer, &query) else { panic!("{answer:?}") };
    addresses[0]
}

fn redirect(host: &Host, action: &str, tool: &str) -> String {
    let mut command = Command::new(MUTUA);
    command.args(["redirect", action, "--exempt-mark", "0x539", "--tool", tool]);
    host.namespace.run(&mut command).expect("it succeeds")
}

fn mesh_with_names(folder: &Path) -> (Mesh, NameServer) {
    let mesh = Mesh::start(folder, &[]);
    let front = mesh.network.host("shop/front").unwrap();
    let conf = folder.join("resolv.conf");
    std::fs::write(&conf, format!("nameserver {EVIL}\nsearch shop.svc.cluster.local svc.cluster.local\noptions ndots:5\n"))
        .unwrap();
    front.namespace.run(Command::new("mount").arg("--bind").arg(&conf).arg("/etc/resolv.conf")).expect("mounted");
    let server = NameServer::start(mesh.network.host("shop/evil").unwrap());
    std::fs::write(folder.join("config/entry.yaml"), ENTRY).unwrap();
    (mesh, server)
}

#[test]
fn an_application_reaches_a_host_that_has_no_address() {
    in_lab("an_application_reaches_a_host_that_has_no_address", |folder| {
        let (mesh, server) = mesh_with_names(folder);
        let front = mesh.network.host("shop/front").unwrap();
        redirect(front, "remove", "auto");
        let _back = mesh.sidecar("back", &[], &[]);
        let _front = mesh.sidecar("front", &[], &[]);
        for tool in ["nft", "iptables"].into_iter().filter(|tool| privilege::find(tool).is_some()) {
            redirect(front, "apply", tool);
            redirect(front, "check", tool);
            mesh.until_ready("front");
            let given = getent(front, "api.example.com").expect("an address");
            assert!(given.to_string().starts_with("240.240."), "{given}");
            assert_eq!((ask(front, "api.example.com", false), ask(front, "api.example.com", true)), (given, given));
            assert_eq!(getent(front, "back"), Some(IpAddr::from([10, 96, 0, 10])), "a service by its short name");
            assert_eq!(server.heard("api.example.com") + server.heard("back"), 0, "nobody else was asked");

            let other: IpAddr = [192, 0, 2, 99].into();
            let before = server.heard("other.example.net");
            assert_eq!((ask(front, "other.example.net", false), ask(front, "other.example.net", true)), (other, other));
            assert_eq!(server.heard("other.example.net"), before + 2, "by datagram and by stream");

            let mut stream = mesh.from("shop/front", SocketAddr::new(given, 80)).expect("it connects");
            echo(&mut stream, b"hello").unwrap();
            let records = mesh.admin("front", "/connections").expect("the admin socket answers");
            let record = records.as_array().unwrap().iter().rev().find(|record| record["service"] == "api.example.com");
            assert_eq!(record.expect("a record")["endpoint"], format!("{BACK}:{PORT}"), "{records:#}");
            redirect(front, "remove", tool);
            assert_eq!(ask(front, "api.example.com", false), other, "without rules the name server is asked itself");
            server.heard.lock().unwrap().clear();
        }
    });
}

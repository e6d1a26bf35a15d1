//! TPROXY in the laboratory: the application sees its callers' own addresses.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/mesh.rs"]
mod mesh;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use common::MUTUA;
use mesh::{BACK, EVIL, FRONT, Mesh, in_lab, until};
use mutua_lab::{Host, privilege};

const PORT: u16 = 8081;
const SERVICE: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 11), 81);
const CONFIG: &str = "\
---
apiVersion: v1
kind: Service
metadata: {name: who, namespace: shop}
spec: {clusterIP: 10.96.0.11, selector: {app: back}, ports: [{name: tcp, port: 81, targetPort: 8081}]}
";

/// An application that tells everybody who they are, of both families.
fn serve(host: &Host) {
    let bound = host.namespace.enter(|| TcpListener::bind(("::", PORT))).expect("the namespace is entered");
    let listener = bound.expect("a free port");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let peer = stream.peer_addr().map(|peer| peer.ip().to_canonical());
                // The caller speaks first.
                let heard = stream.read(&mut [0; 64]).is_ok_and(|count| count > 0);
                if let (true, Ok(peer)) = (heard, peer) {
                    let _ = stream.write_all(peer.to_string().as_bytes());
                }
            });
        }
    });
}

/// Who the application takes the caller for.
fn who(mesh: &Mesh, from: &str, to: impl Into<SocketAddr>) -> Option<IpAddr> {
    let mut stream: TcpStream = mesh.from(from, to).ok()?;
    stream.write_all(b"who am I?").ok()?;
    let mut told = String::new();
    stream.read_to_string(&mut told).ok()?;
    told.parse().ok()
}

fn redirect(host: &Host, action: &str, tool: &str, more: &[&str]) {
    let mut command = Command::new(MUTUA);
    command.args(["redirect", action, "--exempt-mark", "0x539", "--tool", tool]).args(more);
    host.namespace.run(&mut command).expect("it succeeds");
}

/// Sockets of the application's port whose peers the kernel asks within a minute of silence whether they live.
fn kept_alive(host: &Host) -> usize {
    let mut command = Command::new(privilege::find("ss").expect("installed"));
    let sockets = host.namespace.run(command.args(["-tnoH", "state", "established"])).expect("they are listed");
    let soon = |line: &&str| line.contains(&format!(":{PORT}")) && line.contains("(keepalive,") && !line.contains("min");
    sockets.lines().filter(soon).count()
}

#[test]
fn the_application_sees_its_callers_addresses() {
    in_lab("the_application_sees_its_callers_addresses", |folder| {
        let mesh = Mesh::start(folder, &[]);
        std::fs::write(folder.join("config/who.yaml"), CONFIG).unwrap();
        let back = mesh.network.host("shop/back").unwrap();
        serve(back);
        let transparent = ["--inbound-interception-mode", "TPROXY"];
        let sidecar = mesh.sidecar("back", &[], &[&transparent[..], &["--tcp-keepalive", "33s"]].concat());
        let _front = mesh.sidecar("front", &[], &[]);
        redirect(back, "remove", "auto", &[]);
        let told = |from: &str, to: SocketAddr| who(&mesh, from, to);
        let tools = || ["nft", "iptables"].into_iter().filter(|tool| privilege::find(tool).is_some());
        for tool in tools() {
            redirect(back, "apply", tool, &transparent);
            redirect(back, "check", tool, &transparent);
            mesh.until_ready("back");
            mesh.until_ready("front");
            // Without a sidecar, and over both families.
            assert_eq!(told("shop/evil", (BACK, PORT).into()), Some(EVIL.into()), "{tool}: {}", mesh.said("back"));
            let evil = mesh.network.host("shop/evil").unwrap();
            assert_eq!(told("shop/evil", (back.ipv6(), PORT).into()), Some(evil.ipv6().into()), "{tool}: IPv6");
            let _silent = mesh.from("shop/evil", (BACK, PORT)).expect("accepted");
            until("both sockets of the sidecar", || kept_alive(back) == 2);
            // By mutual TLS, from the caller's sidecar.
            until("the new service", || told("shop/front", SERVICE.into()) == Some(FRONT.into()));
            let records = mesh.admin("back", "/connections").expect("the admin socket answers");
            let last = records.as_array().unwrap().iter().rev().find(|record| record["outcome"] == "mtls").expect("by mTLS");
            assert_eq!(last["original_destination"], format!("{BACK}:{PORT}"), "{records:#}");
            // The workload itself is no caller of its sidecar.
            assert_eq!(told("shop/back", (BACK, PORT).into()), Some(BACK.into()), "{tool}: itself");
            // Many at once, so that ports meet.
            std::thread::scope(|scope| {
                let callers: Vec<_> = (0..64).map(|_| scope.spawn(|| told("shop/evil", (BACK, PORT).into()))).collect();
                assert!(callers.into_iter().all(|caller| caller.join().unwrap() == Some(EVIL.into())), "{tool}: at once");
            });
            redirect(back, "remove", tool, &transparent);
            assert_eq!(told("shop/evil", (BACK, PORT).into()), Some(EVIL.into()), "{tool}: without rules");
        }
        // Without a sidecar nobody reaches the application past the rules.
        drop(sidecar);
        for tool in tools() {
            redirect(back, "apply", tool, &transparent);
            let evil = mesh.network.host("shop/evil").unwrap();
            let dial = || TcpStream::connect_timeout(&(BACK, PORT).into(), Duration::from_secs(2));
            assert!(evil.namespace.enter(dial).unwrap().is_err(), "{tool}: closed");
            redirect(back, "remove", tool, &transparent);
        }
    });
}

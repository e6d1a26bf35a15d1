//! TPROXY in the laboratory: the application sees its callers' own addresses.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says what it lacks")]

mod common;
#[path = "common/mesh.rs"]
mod mesh;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
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

/// As a pod has it: no root, the user that the rules exempt, and of all capabilities the one that TPROXY takes.
#[test]
fn a_user_with_one_capability_is_enough() {
    if !privilege::may_make_namespaces() {
        // In a user namespace of one user there is no other to become; the test above runs there.
        eprintln!("only root can become user 1337: run the tests as root for this one");
        return;
    }
    in_lab("a_user_with_one_capability_is_enough", |folder| {
        let mesh = Mesh::start(folder, &[]);
        std::fs::write(folder.join("config/who.yaml"), CONFIG).unwrap();
        for open in ["", "control"] {
            std::fs::set_permissions(folder.join(open), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let state = mesh.state("back");
        std::fs::create_dir(&state).unwrap();
        std::os::unix::fs::chown(&state, Some(1337), Some(1337)).unwrap();
        let back = mesh.network.host("shop/back").unwrap();
        serve(back);
        redirect(back, "remove", "auto", &[]);
        let mut command = Command::new(MUTUA);
        command.args(["redirect", "apply", "--inbound-interception-mode", "TPROXY"]);
        back.namespace.run(&mut command).expect("the rules that exempt user 1337");
        let sidecar = mesh.sidecar_as("back", &user("+net_admin"), &["--inbound-interception-mode", "TPROXY"]);
        mesh.until_ready("back");
        let _front = mesh.sidecar("front", &[], &[]);
        mesh.until_ready("front");
        let status = std::fs::read_to_string(format!("/proc/{}/status", sidecar.id())).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(field("Uid:"), "1337\t1337\t1337\t1337");
        // CAP_NET_ADMIN is the twelfth of them.
        assert_eq!((field("CapEff:"), field("CapPrm:")), (format!("{:016x}", 1 << 12), format!("{:016x}", 1 << 12)));
        assert_eq!(who(&mesh, "shop/evil", (BACK, PORT)), Some(EVIL.into()), "{}", mesh.said("back"));
        until("the new service", || who(&mesh, "shop/front", SERVICE) == Some(FRONT.into()));
        drop(sidecar);
        // Without it nothing is half done: the sidecar does not start, and says what it lacks.
        let bare = mesh.sidecar_as("back", &user("-all"), &["--inbound-interception-mode", "TPROXY"]);
        let bare = std::cell::RefCell::new(bare);
        until("its end", || bare.borrow_mut().ended().is_some_and(|status| status.code() == Some(2)));
        assert!(mesh.said("back").contains("CAP_NET_ADMIN"), "{}", mesh.said("back"));
    });
}

/// What runs a program as user 1337 with these capabilities and no way to more.
fn user(capabilities: &str) -> Vec<String> {
    let drop = ["setpriv", "--reuid", "1337", "--regid", "1337", "--clear-groups", "--bounding-set", "-all,+net_admin"];
    let keep = ["--inh-caps", capabilities, "--ambient-caps", capabilities];
    drop.into_iter().chain(keep).map(str::to_owned).collect()
}

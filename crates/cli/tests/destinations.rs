//! Where a sidecar takes its application's connections, over the true capture rules: headless services, addresses of
//! workloads, ServiceEntries with static endpoints, unknown destinations, and IPv6 beside IPv4.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/mesh.rs"]
mod mesh;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use mesh::{BACK, EVIL, Mesh, PORT, SERVICE, echo, in_lab, peer_authentication, until};
use serde_json::Value;

/// The port of the headless service, at the application.
const HEADLESS: u16 = 9090;
/// A port of the host outside the mesh that a ServiceEntry names, and one that nothing names.
const NAMED: u16 = 7000;
const UNNAMED: u16 = 7001;
/// The ServiceEntry's address and port.
const PARTNER: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 96, 0, 40), 443);
const CONFIG: &str = "\
apiVersion: v1
kind: Service
metadata: {name: head, namespace: shop}
spec: {clusterIP: None, selector: {app: back}, ports: [{name: tcp, port: 9090}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: partner, namespace: shop}
spec:
  hosts: [partner.example]
  addresses: [10.96.0.40]
  ports: [{number: 443, name: tcp, protocol: TCP, targetPort: 7000}]
  resolution: STATIC
  endpoints: [{address: 10.91.0.13}]
";

/// A headless service selects pods only, as in Istio: the application as the mesh has it, and as a pod.
const ENTRY: &str = "\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: back, namespace: shop}
spec: {address: 10.91.0.12, labels: {app: back}, serviceAccount: back}
";
const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: back, namespace: shop, labels: {app: back, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: back}
status: {podIP: 10.91.0.12}
";

/// What a case should end as: an outcome, or a reason and what its message says.
enum Ends {
    As(&'static str, Option<&'static str>),
    Refused(&'static str, String),
}

/// Serves an echo on a host, over both families.
fn serve(mesh: &Mesh, host: &str, port: u16) {
    let bound = mesh.network.host(host).unwrap().namespace.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
    let listener = bound.unwrap().expect("a free port");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    let _ = stream.write_all(&buffer[..count]);
                }
            });
        }
    });
}

/// Records of a sidecar's connections to `to`, the oldest first.
fn records(mesh: &Mesh, name: &str, to: SocketAddr) -> Vec<Value> {
    let all = mesh.admin(name, "/connections").expect("the admin socket answers");
    let records = all.as_array().unwrap().iter();
    records.filter(|record| record["original_destination"] == to.to_string()).cloned().collect()
}

/// Calls, and looks what it was for the caller's sidecar.
fn case(mesh: &Mesh, to: impl Into<SocketAddr>, ends: &Ends) {
    let to = to.into();
    let before = records(mesh, "front", to).len();
    let answered = mesh.from("shop/front", to).is_ok_and(|mut stream| echo(&mut stream, b"hello").is_ok());
    until(&format!("the record of {to}"), || records(mesh, "front", to).len() > before);
    let last = || records(mesh, "front", to).pop().unwrap();
    match ends {
        Ends::As(outcome, service) => {
            let record = last();
            assert!(answered && record["outcome"] == *outcome && record["service"] == serde_json::json!(service), "{record:#}");
        }
        Ends::Refused(reason, message) => {
            assert!(!answered, "{to} answers");
            until(&format!("{reason} of {to}: {:#}", last()), || {
                let record = last();
                record["reason"] == *reason && record["message"].as_str().unwrap().contains(message.as_str())
            });
        }
    }
}

/// Waits until the caller's sidecar knows a host.
fn knows(mesh: &Mesh, host: &str) {
    until(host, || mesh.admin("front", "/config").is_some_and(|config| config["destinations"].to_string().contains(host)));
}

fn registry_only(mesh: &Mesh) {
    let text = "apiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {name: default}\nspec: {version: v1.27.0, \
        namespace: istio-system, values: {meshConfig: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}}}\n";
    std::fs::write(mesh.folder.join("config/istio.yaml"), text).unwrap();
    until("REGISTRY_ONLY", || mesh.admin("front", "/config").is_some_and(|config| config["registryOnly"] == true));
}

#[test]
fn each_kind_of_destination_is_reached_as_istio_does() {
    in_lab("each_kind_of_destination_is_reached_as_istio_does", |folder| {
        let (mesh, _front, _back) = Mesh::whole(folder, &[]);
        let shop = std::fs::read_to_string(folder.join("config/shop.yaml")).unwrap();
        assert!(shop.contains(ENTRY));
        // In one step: for a moment without it the workload would be nobody's.
        std::fs::write(folder.join("config/.shop"), shop.replace(ENTRY, POD)).unwrap();
        std::fs::rename(folder.join("config/.shop"), folder.join("config/shop.yaml")).unwrap();
        std::fs::write(folder.join("config/destinations.yaml"), CONFIG).unwrap();
        knows(&mesh, "partner.example");
        knows(&mesh, "head.shop");
        serve(&mesh, "shop/back", HEADLESS);
        serve(&mesh, "shop/evil", NAMED);
        serve(&mesh, "shop/evil", UNNAMED);
        let headless = Ends::As("mtls", Some("head.shop.svc.cluster.local"));
        let service = Ends::As("mtls", Some("back.shop.svc.cluster.local"));
        let partner = Ends::As("plaintext", Some("partner.example"));
        let unknown = Ends::As("plaintext", None);
        // The address of a workload with the port of a headless service is the service; with any other it is nobody's.
        case(&mesh, SERVICE, &service);
        case(&mesh, (BACK, HEADLESS), &headless);
        case(&mesh, (BACK, PORT), &unknown);
        case(&mesh, PARTNER, &partner);
        case(&mesh, (EVIL, UNNAMED), &unknown);

        mesh.policy("STRICT");
        until("STRICT", || mesh.admin("back", "/policy").is_some_and(|policy| policy["mode"] == "STRICT"));
        case(&mesh, (BACK, HEADLESS), &headless);
        let direct = mesh.from("shop/front", (BACK, PORT)).and_then(|mut stream| echo(&mut stream, b"hello"));
        assert!(direct.is_err(), "in clear to a STRICT port");
        until("the reason at the other end", || mesh.refusals("back", "PLAINTEXT_ON_STRICT_PORT") > 0);

        registry_only(&mesh);
        case(&mesh, SERVICE, &service);
        case(&mesh, (BACK, HEADLESS), &headless);
        case(&mesh, PARTNER, &partner);
        for to in [(BACK, PORT), (EVIL, UNNAMED), (EVIL, NAMED)] {
            let said = format!("{}:{} is in no service, and outboundTrafficPolicy is REGISTRY_ONLY", to.0, to.1);
            case(&mesh, to, &Ends::Refused("UNKNOWN_DESTINATION", said));
        }
        assert_eq!(mesh.refusals("front", "UNKNOWN_DESTINATION"), 3);
    });
}

/// An address of a service in the other family.
const SIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x10);

/// A service that has an address of each family, and endpoints in both.
fn both_families(back: Ipv6Addr) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: four, namespace: shop}}\n\
         spec: {{clusterIP: 10.96.0.50, clusterIPs: [10.96.0.50, '{SIX}'], selector: {{app: back}}, \
         ports: [{{name: tcp, port: 81, targetPort: {PORT}}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: six, namespace: shop}}\n\
         spec: {{hosts: [six.shop], addresses: ['fd00:96::11'], location: MESH_INTERNAL, resolution: STATIC, \
         ports: [{{number: 82, name: tcp, protocol: TCP, targetPort: {HEADLESS}}}], \
         endpoints: [{{address: '{back}', serviceAccount: back, labels: {{app: back}}}}]}}\n"
    )
}

#[test]
fn both_families_are_served_alike() {
    in_lab("both_families_are_served_alike", |folder| {
        let (mesh, _front, _back) = Mesh::whole(folder, &[]);
        let back = mesh.network.host("shop/back").unwrap().ipv6();
        std::fs::write(folder.join("config/families.yaml"), both_families(back)).unwrap();
        knows(&mesh, "four.shop");
        knows(&mesh, "six.shop");
        serve(&mesh, "shop/back", HEADLESS);
        let four = Ends::As("mtls", Some("four.shop.svc.cluster.local"));
        case(&mesh, (Ipv4Addr::new(10, 96, 0, 50), 81), &four);
        // Captured over IPv6, and led to an endpoint that has IPv4.
        case(&mesh, (SIX, 81), &four);
        case(&mesh, (Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 0x11), 82), &Ends::As("mtls", Some("six.shop")));
        let arrived = records(&mesh, "back", (back, HEADLESS).into()).pop().expect("by IPv6");
        assert_eq!((&arrived["outcome"], arrived["peer_id"].as_str().is_some()), (&"mtls".into(), true), "{arrived:#}");
        // A caller without a sidecar, over each family, under each mode.
        let addresses: [IpAddr; 2] = [BACK.into(), back.into()];
        for (mode, served) in [("PERMISSIVE", true), ("STRICT", false), ("DISABLE", true)] {
            mesh.rules(&peer_authentication(mode));
            until(mode, || mesh.admin("back", "/policy").is_some_and(|policy| policy["mode"] == mode));
            for address in addresses {
                let called = mesh.from("shop/evil", (address, HEADLESS)).and_then(|mut stream| echo(&mut stream, b"hello"));
                assert_eq!(called.is_ok(), served, "{mode} {address}");
                let refused = || {
                    let last = records(&mesh, "back", (address, HEADLESS).into()).pop();
                    last.is_some_and(|record| record["reason"] == "PLAINTEXT_ON_STRICT_PORT")
                };
                if !served {
                    until(&format!("the reason, {address}"), refused);
                }
            }
        }
    });
}

/// Keepalive probes that a host's kernel has sent.
fn probes(mesh: &Mesh, host: &str) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let text = mesh.network.host(host).unwrap().namespace.enter(read).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("TcpExt:")).collect();
    let [names, values] = lines[..] else { panic!("{text}") };
    let at = names.split(' ').position(|name| name == "TCPKeepAlive").expect("a counter");
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// A connection may be idle as long as it likes: both kernels ask each other every second whether they live. When the other
/// host is gone without a word, it ends, at both of its ends.
#[test]
fn idle_connections_last_as_long_as_their_peers() {
    in_lab("idle_connections_last_as_long_as_their_peers", |folder| {
        let mesh = Mesh::start(folder, &[]);
        let keepalive = ["--tcp-keepalive", "1s"];
        let (_back, _front) = (mesh.sidecar("back", &[], &keepalive), mesh.sidecar("front", &[], &keepalive));
        mesh.until_ready("back");
        mesh.until_ready("front");
        mesh.is_served();
        let mut idle = mesh.call().expect("served");
        echo(&mut idle, b"hello").unwrap();
        let before = ["shop/front", "shop/back"].map(|host| probes(&mesh, host));
        until("probes from both ends", || {
            let now = ["shop/front", "shop/back"].map(|host| probes(&mesh, host));
            now.iter().zip(before).all(|(now, before)| *now >= before + 4)
        });
        echo(&mut idle, b"still there").expect("silence ends nothing");
        let open = |name: &str| {
            let records = mesh.admin(name, "/connections").expect("the admin socket answers");
            records.as_array().unwrap().iter().filter(|record| record["state"] == "open").count()
        };
        assert_eq!((open("front"), open("back")), (1, 1));
        let cut = |host: &str| {
            let mut command = std::process::Command::new(mutua_lab::privilege::find("ip").expect("installed"));
            mesh.network.host(host).unwrap().namespace.run(command.args(["link", "set", "eth0", "down"])).expect("cut");
        };
        cut("shop/back");
        until("the end at both", || open("front") == 0 && open("back") == 0);
        assert!(matches!(idle.read(&mut [0]), Ok(0) | Err(_)), "the application is told");
    });
}

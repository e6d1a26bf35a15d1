//! The pairs that are measured, their configuration, and the network they stand in.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mutua_lab::{Host, LabError, Network, Process};
use mutua_proxy::redirect;
use mutua_testbed::{Authority, CLIENT, SERVER};
use serde_json::{Value, json};

/// The port of the server application that is captured at both ends.
pub const PORT: u16 = 8080;
/// Its port without any proxy.
pub const DIRECT_PORT: u16 = 9080;
const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 20);
const START_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 30);
const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 10);
/// The mark of the proxies' own sockets, which the capture rules leave alone.
const MARK: u32 = 1337;
const WORKERS: &str = "2";
const PATIENCE: Duration = Duration::from_secs(20);
/// For every peer alike: no pacing of whole streams by timers (BBR), and ports enough for many short connections.
const TUNING: [(&str, &str); 4] = [
    ("tcp_congestion_control", "reno"),
    ("ip_local_port_range", "16000 65000"),
    ("tcp_tw_reuse", "1"),
    ("tcp_max_syn_backlog", "16384"),
];

/// What stands between the two applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// Nothing.
    Direct,
    /// `mutua-proxy --static` at both ends.
    Mutua,
    /// Envoy's TCP proxy at both ends.
    EnvoyTcp,
    /// Envoy's HTTP connection manager at both ends, with the filters that Istio puts into a sidecar.
    EnvoyHttp,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Mutua => "mutua",
            Self::EnvoyTcp => "envoy-tcp",
            Self::EnvoyHttp => "envoy-http",
        }
    }
}

/// Two hosts with the true capture rules and the server application.
pub struct Ground {
    network: Network,
    folder: PathBuf,
    envoy: PathBuf,
    app: Process,
}

/// A running pair.
pub struct Pair {
    pub client: Process,
    pub server: Process,
}

impl Ground {
    pub fn new(folder: &Path, envoy: PathBuf) -> Result<Self, LabError> {
        let mut network = Network::new(folder)?;
        for (name, address) in [("client", CLIENT_ADDRESS), ("server", SERVER_ADDRESS)] {
            let host = network.add(name, address, "")?;
            host.namespace.enter(|| {
                for (name, value) in TUNING {
                    std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap_or_else(|error| panic!("{name}: {error}"));
                }
                let settings = redirect::Settings {
                    exempt: redirect::Exempt::Mark(MARK),
                    exclude_inbound_ports: vec![DIRECT_PORT],
                    exclude_outbound_ports: vec![DIRECT_PORT],
                    ipv6: redirect::machine_has_ipv6(),
                    ..redirect::Settings::default()
                };
                let backend = redirect::Backend::detect().expect("nft or iptables");
                redirect::apply(&settings, backend).expect("the capture rules");
            })?;
        }
        network.add("start", START_ADDRESS, "")?;
        certificates(folder);
        let mut serve = Command::new(std::env::current_exe().expect("our own path"));
        let app = network.host("server")?.namespace.spawn("app", serve.arg("--serve"))?;
        Ok(Self { network, folder: folder.to_owned(), envoy, app })
    }

    pub fn app(&self) -> u32 {
        self.app.id()
    }

    /// Where the client application calls.
    pub fn target(peer: Peer) -> SocketAddr {
        (SERVER_ADDRESS, if peer == Peer::Direct { DIRECT_PORT } else { PORT }).into()
    }

    /// Runs a function as the client application.
    pub fn as_client<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        self.host("client").namespace.enter(function).expect("the client's namespace")
    }

    fn host(&self, name: &str) -> &Host {
        self.network.host(name).expect("a host")
    }

    /// Starts a pair; nothing has passed through it yet.
    pub fn launch(&self, peer: Peer) -> Option<Pair> {
        (peer != Peer::Direct).then(|| Pair { server: self.spawn(peer, "server"), client: self.spawn(peer, "client") })
    }

    /// Starts a pair and waits until an application behind it has answered.
    pub fn start(&self, peer: Peer) -> Option<Pair> {
        let pair = self.launch(peer);
        self.wait_until_it_serves(peer);
        pair
    }

    /// Waits until the application behind a pair answers.
    pub fn wait_until_it_serves(&self, peer: Peer) {
        let deadline = Instant::now() + PATIENCE;
        while !self.as_client(|| answers(Self::target(peer))) {
            assert!(Instant::now() < deadline, "{} does not serve: see the logs in {}", peer.name(), self.folder.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn spawn(&self, peer: Peer, side: &str) -> Process {
        let mut command = self.command(peer, side);
        self.host(side).namespace.spawn(peer.name(), &mut command).expect("a proxy that starts")
    }

    /// What starts one side, with its configuration written.
    fn command(&self, peer: Peer, side: &str) -> Command {
        let place = |name: &str| self.folder.join(format!("{}-{side}{name}", peer.name()));
        let file = place(".json");
        let envoy = |http| if side == "client" { envoy_client(&self.folder, http) } else { envoy_server(&self.folder, http) };
        let config = match peer {
            Peer::EnvoyTcp => envoy(false),
            Peer::EnvoyHttp => envoy(true),
            Peer::Mutua | Peer::Direct => mutua(&self.folder, side),
        };
        let mut config = config;
        if peer != Peer::Mutua {
            config["admin"] = json!({"address": {"pipe": {"path": place(".sock")}}});
        }
        std::fs::write(&file, config.to_string()).expect("a file in our folder");
        let mut command = if peer == Peer::Mutua {
            let mut command = Command::new(env!("CARGO_BIN_EXE_mutua-proxy"));
            command.arg("--static").arg(&file).arg("--state").arg(place("")).args(["--mark", &MARK.to_string()]);
            command
        } else {
            let mut command = Command::new(&self.envoy);
            command.arg("-c").arg(&file).args(["--concurrency", WORKERS, "--disable-hot-restart", "--log-level", "error"]);
            command
        };
        let log = std::fs::File::create(place(".log")).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        command
    }

    /// How long one side takes from its start until it accepts connections, in milliseconds, on a host without capture
    /// rules: those reset who dials a sidecar's port directly.
    pub fn startup(&self, peer: Peer, side: &str, port: u16) -> f64 {
        let host = self.host("start");
        let mut command = self.command(peer, side);
        let start = Instant::now();
        let process = host.namespace.spawn(peer.name(), &mut command).expect("a proxy that starts");
        let took = host.namespace.enter(|| {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                assert!(start.elapsed() < PATIENCE, "{} does not listen", peer.name());
                std::thread::sleep(Duration::from_micros(100));
            }
            start.elapsed()
        });
        drop(process);
        took.expect("its namespace").as_secs_f64() * 1e3
    }

    /// What the client's side says of the TLS of its open connections: version, suite, group.
    pub fn negotiated(&self, peer: Peer) -> Option<String> {
        if peer == Peer::Mutua {
            let answer = ask(&self.folder.join("mutua-client/admin.sock"), "/connections")?;
            let records: Value = serde_json::from_str(answer.trim()).ok()?;
            let open = records
                .pointer("/connections")
                .unwrap_or(&records)
                .as_array()?
                .iter()
                .rfind(|one| one["tls_version"].is_string());
            let open = open?;
            return Some(format!("{} {} {}", open["tls_version"], open["cipher"], open["group"]).replace('"', ""));
        }
        let answer =
            ask(&self.folder.join(format!("{}-client.sock", peer.name())), "/stats?filter=ssl.(versions|ciphers|curves)")?;
        let used = answer.lines().filter_map(|line| line.split_once(": ").filter(|(_, count)| *count != "0"));
        let mut names: Vec<&str> = used.filter_map(|(name, _)| Some(name.split_once("ssl.")?.1.split_once('.')?.1)).collect();
        names.sort_by_key(|name| (!name.starts_with("TLSv"), !name.starts_with("TLS_")));
        Some(names.join(" "))
    }
}

/// Whether the server application answers.
fn answers(to: SocketAddr) -> bool {
    let exchange = || {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(&[&[3][..], &[0; 1024]].concat())?;
        stream.read_exact(&mut [0; 1024])
    };
    exchange().is_ok() || http_answers(to)
}

/// As [`answers`], of a pair that takes HTTP only.
fn http_answers(to: SocketAddr) -> bool {
    let exchange = || {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(&[crate::load::REQUEST.as_bytes(), &[0; 1024]].concat())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok::<_, std::io::Error>(&status == b"HTTP/1.1 200")
    };
    exchange().unwrap_or(false)
}

/// Asks an admin socket.
fn ask(socket: &Path, what: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    write!(stream, "GET {what} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

fn certificates(folder: &Path) {
    let authority = Authority::new();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file in our folder");
    write("ca.crt", &authority.roots().concat());
    for (name, id) in [("client", CLIENT), ("server", SERVER)] {
        let leaf = authority.leaf(id);
        write(&format!("{name}.crt"), &leaf.chain_pem());
        write(&format!("{name}.key"), leaf.key_pem());
    }
}

fn mutua(folder: &Path, side: &str) -> Value {
    let file = |name: String| folder.join(name);
    json!({
        "workload": format!("shop/{side}"),
        "certificate": {"chain": file(format!("{side}.crt")), "key": file(format!("{side}.key"))},
        "trustBundle": [file("ca.crt".to_owned())],
        "inbound": {"mode": "STRICT", "minTlsVersion": "TLSV1_3", "ports": [{"port": PORT, "mode": "STRICT"}]},
        "destinations": [{
            "host": "server.shop.svc.cluster.local", "name": "server", "namespace": "shop",
            "addresses": [SERVER_ADDRESS],
            "ports": [{
                "port": PORT,
                "tls": {"mode": "ISTIO_MUTUAL", "sni": "server.shop", "subjectAltNames": [SERVER]},
                "endpoints": [{"address": SERVER_ADDRESS, "port": PORT}]
            }]
        }]
    })
}

const TYPE: &str = "type.googleapis.com/envoy.extensions";

fn envoy_client(folder: &Path, http: bool) -> Value {
    let mut context = tls(folder, "client");
    context["validation_context"]["match_typed_subject_alt_names"] = json!([{"san_type": "URI", "matcher": {"exact": SERVER}}]);
    let socket = json!({"name": "tls", "typed_config": {
        "@type": format!("{TYPE}.transport_sockets.tls.v3.UpstreamTlsContext"),
        "sni": "server.shop",
        "common_tls_context": context,
    }});
    envoy((redirect::OUTBOUND_PORT, SERVER_ADDRESS), http, ("upstream", socket))
}

fn envoy_server(folder: &Path, http: bool) -> Value {
    let socket = json!({"name": "tls", "typed_config": {
        "@type": format!("{TYPE}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": true,
        "common_tls_context": tls(folder, "server"),
    }});
    envoy((redirect::INBOUND_PORT, Ipv4Addr::LOCALHOST), http, ("downstream", socket))
}

fn tls(folder: &Path, side: &str) -> Value {
    let file = |name: String| json!({"filename": folder.join(name)});
    json!({
        "alpn_protocols": ["istio"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": file(format!("{side}.crt")), "private_key": file(format!("{side}.key"))}],
        "validation_context": {"trusted_ca": file("ca.crt".to_owned())},
    })
}

/// One listener and one cluster; `tls` belongs to the listener (`downstream`) or to the cluster.
fn envoy((port, to): (u16, Ipv4Addr), http: bool, (side, tls): (&str, Value)) -> Value {
    let listener_filter = |name: &str, kind: &str| {
        json!({"name": format!("envoy.filters.listener.{name}"),
               "typed_config": {"@type": format!("{TYPE}.filters.listener.{name}.v3.{kind}")}})
    };
    let mut listener_filters = vec![listener_filter("original_dst", "OriginalDst")];
    let mut chain = json!({"filters": [if http { http_filter(side == "downstream") } else { tcp_filter() }]});
    let mut cluster = json!({
        "name": "next", "type": "STATIC", "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [{"max_connections": u32::MAX, "max_pending_requests": u32::MAX, "max_requests": u32::MAX}]},
        // The mark that the capture rules leave alone: SOL_SOCKET, SO_MARK.
        "upstream_bind_config": {"socket_options": [{"level": 1, "name": 36, "int_value": MARK, "state": "STATE_PREBIND"}]},
        "load_assignment": {"cluster_name": "next", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"socket_address": {"address": to, "port_value": PORT}}}}]}]},
    });
    if side == "downstream" {
        listener_filters.push(listener_filter("tls_inspector", "TlsInspector"));
        chain["filter_chain_match"] = json!({"transport_protocol": "tls"});
        chain["transport_socket"] = tls;
    } else {
        if http {
            listener_filters.push(listener_filter("http_inspector", "HttpInspector"));
        }
        cluster["transport_socket"] = tls;
    }
    json!({"static_resources": {
        "listeners": [{
            "name": "captured",
            "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
            "listener_filters": listener_filters,
            "filter_chains": [chain],
        }],
        "clusters": [cluster],
    }})
}

fn tcp_filter() -> Value {
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": format!("{TYPE}.filters.network.tcp_proxy.v3.TcpProxy"), "stat_prefix": "tcp", "cluster": "next"}})
}

fn http_filter(inbound: bool) -> Value {
    let filter = |name: &str, kind: &str| json!({"name": format!("envoy.filters.http.{name}"), "typed_config": {"@type": format!("{TYPE}.filters.http.{name}.v3.{kind}")}});
    let mut config = json!({
        "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "http", "codec_type": "AUTO", "use_remote_address": false, "normalize_path": true,
        "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "next", "timeout": "0s"}}]}]},
        // What Istio puts into every sidecar and stock Envoy has; Istio's own stats filter is not in it.
        "http_filters": [filter("grpc_stats", "FilterConfig"), filter("fault", "HTTPFault"), filter("cors", "Cors"), filter("router", "Router")],
    });
    if inbound {
        config["forward_client_cert_details"] = json!("APPEND_FORWARD");
        config["set_current_client_cert_details"] = json!({"subject": true, "dns": true, "uri": true});
    }
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": config})
}

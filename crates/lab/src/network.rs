//! Hosts on a bridge.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::error::doing;
use crate::privilege::find;
use crate::process::feed;
use crate::{LabError, Namespace, Sniffer};

/// The bridge's own address: every host's way out, and where callers send what ends a listening.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);
/// Where a caller sends a datagram with a marker, which proves that the listener heard everything before it.
pub const SENTINEL: SocketAddr = SocketAddr::new(IpAddr::V4(GATEWAY), 9);
const PREFIX_LENGTH: u8 = 24;
const BRIDGE: &str = "br0";
/// The subfolder that every host sees as `/run`.
pub const RUN: &str = "run";

/// One host.
#[derive(Debug)]
pub struct Host {
    /// `namespace/name`.
    pub name: String,
    /// Its address on the bridge.
    pub address: Ipv4Addr,
    /// Where its programs run.
    pub namespace: Arc<Namespace>,
}

impl Host {
    /// Its IPv6 address, where this machine has IPv6.
    #[must_use]
    pub fn ipv6(&self) -> Ipv6Addr {
        ipv6(self.address)
    }
}

/// The IPv6 address that goes with an IPv4 address of the bridge.
fn ipv6(address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x91, 0, 0, 0, 0, 0, u16::from(address.octets()[3]))
}

fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// A service address and who answers behind it, for hosts without a sidecar (what kube-proxy does on a node).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The service's address and port.
    pub frontend: (Ipv4Addr, u16),
    /// An endpoint's.
    pub backend: (Ipv4Addr, u16),
}

/// Hosts, each in a network namespace of its own, on a bridge in another one.
#[derive(Debug)]
pub struct Network {
    bridge: Namespace,
    hosts: BTreeMap<String, Host>,
    ip: PathBuf,
    folder: PathBuf,
}

impl Network {
    /// Makes the bridge. Hosts keep their files in `folder`; what stands in its subfolder [`RUN`] stands in `/run` of every
    /// host, as secrets do in a container.
    ///
    /// # Errors
    /// The kernel does not allow it, or `ip` is missing.
    pub fn new(folder: &Path) -> Result<Self, LabError> {
        let run = folder.join(RUN);
        std::fs::create_dir_all(&run).map_err(doing(format!("making {}", run.display())))?;
        let remedy = "sudo apt-get install -y iproute2".to_owned();
        let ip = find("ip").ok_or(LabError::Missing { tool: "ip".to_owned(), remedy })?;
        let bridge = Namespace::new("bridge", &[])?;
        let network = Self { bridge, hosts: BTreeMap::new(), ip, folder: folder.to_owned() };
        let mut lines = vec![
            "link set lo up".to_owned(),
            format!("link add {BRIDGE} type bridge forward_delay 0"),
            format!("addr add {GATEWAY}/{PREFIX_LENGTH} dev {BRIDGE}"),
        ];
        if has_ipv6() {
            lines.push(format!("addr add {}/64 dev {BRIDGE} nodad", ipv6(GATEWAY)));
        }
        lines.push(format!("link set {BRIDGE} up"));
        network.batch(&network.bridge, &lines)?;
        Ok(network)
    }

    /// Adds a host; names in `hosts` are what it can resolve.
    ///
    /// # Errors
    /// The kernel does not allow it, or the hosts file cannot be written.
    pub fn add(&mut self, name: &str, address: Ipv4Addr, hosts: &str) -> Result<&Host, LabError> {
        let file = self.folder.join(format!("hosts-{}", name.replace('/', "-")));
        std::fs::write(&file, format!("127.0.0.1 localhost\n::1 localhost\n{hosts}"))
            .map_err(doing(format!("writing {}", file.display())))?;
        let namespace = Namespace::new(name, &[(&file, "/etc/hosts"), (&self.folder.join(RUN), "/run")])?;
        let port = format!("p{}", self.hosts.len() + 1);
        let lines = [
            format!("link add {port} type veth peer name eth0 netns {}", namespace.network_path()),
            format!("link set {port} master {BRIDGE} up"),
        ];
        self.batch(&self.bridge, &lines)?;
        let mut lines = vec![
            "link set lo up".to_owned(),
            format!("addr add {address}/{PREFIX_LENGTH} dev eth0"),
            "link set eth0 up".to_owned(),
            format!("route add default via {GATEWAY}"),
        ];
        if has_ipv6() {
            lines.push(format!("addr add {}/64 dev eth0 nodad", ipv6(address)));
            lines.push(format!("route add default via {}", ipv6(GATEWAY)));
        }
        self.batch(&namespace, &lines)?;
        let host = Host { name: name.to_owned(), address, namespace: Arc::new(namespace) };
        Ok(self.hosts.entry(name.to_owned()).or_insert(host))
    }

    /// One host by its name.
    ///
    /// # Errors
    /// There is none.
    pub fn host(&self, name: &str) -> Result<&Host, LabError> {
        self.hosts.get(name).ok_or_else(|| LabError::NoHost(name.to_owned()))
    }

    /// All hosts, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// Starts to listen on the bridge.
    ///
    /// # Errors
    /// No packet socket can be opened there.
    pub fn listen(&self) -> Result<Sniffer, LabError> {
        Sniffer::start(&self.bridge)
    }

    /// Makes service addresses work on a host without a sidecar, as kube-proxy does on a node.
    ///
    /// # Errors
    /// `nft` is missing or refuses.
    pub fn route_services(&self, host: &str, services: &[Service]) -> Result<(), LabError> {
        let remedy = "sudo apt-get install -y nftables".to_owned();
        let nft = find("nft").ok_or(LabError::Missing { tool: "nft".to_owned(), remedy })?;
        let rule = |service: &Service| {
            let ((frontend, port), (backend, target)) = (service.frontend, service.backend);
            format!("add rule ip services output ip daddr {frontend} tcp dport {port} dnat to {backend}:{target}\n")
        };
        let script = format!(
            "add table ip services\nadd chain ip services output {{ type nat hook output priority -100; }}\n{}",
            services.iter().map(rule).collect::<String>()
        );
        let mut command = Command::new(nft);
        self.host(host)?.namespace.run_with(command.args(["-f", "-"]), &script)
    }

    fn batch(&self, namespace: &Namespace, lines: &[String]) -> Result<(), LabError> {
        let mut command = Command::new(&self.ip);
        namespace.run_with(command.args(["-batch", "-"]), &(lines.join("\n") + "\n"))
    }
}

impl Namespace {
    /// Runs a program inside to its end, with text on its standard input.
    ///
    /// # Errors
    /// As [`Namespace::run`].
    pub fn run_with(&self, command: &mut Command, text: &str) -> Result<(), LabError> {
        self.inside(command, None);
        feed(command, text)
    }
}

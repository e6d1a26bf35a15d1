//! The capture rules of one network namespace: every TCP connection that leaves goes to the sidecar's outbound
//! port, every one that arrives to its inbound port.
//!
//! [`Settings`] in, rules out: [`nft::script`] and [`iptables::restore`] are pure. [`apply`], [`check`] and [`remove`] carry
//! them to the kernel, with nftables where it exists, else iptables. The rules are Istio's for REDIRECT mode
//! (`istio-iptables`), for IPv4 and IPv6, and one more: a connection that reaches the sidecar's two ports without
//! having been captured is reset, so that nobody can use the sidecar as a relay to itself.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;

mod apply;
pub mod iptables;
pub mod nft;
mod open;
mod routes;
mod tool;

pub use apply::{Backend, State, apply, check, plan, remove};
pub use open::{Open, close, escaped, open_before};
pub use tool::RedirectError;

/// Where captured outbound connections go (Istio's port).
pub const OUTBOUND_PORT: u16 = 15001;
/// Where captured inbound connections go (Istio's port).
pub const INBOUND_PORT: u16 = 15006;
/// Where captured questions to name servers go (Istio's port).
pub const DNS_PORT: u16 = 15053;
/// The port of name servers.
const NAME_SERVICE_PORT: u16 = 53;
/// The uid and gid of the sidecar (Istio's).
pub const PROXY_ID: u32 = 1337;
/// Inbound ports that are never captured: HBONE, metrics, readiness, Envoy's metrics.
pub const NEVER_CAPTURED: [u16; 4] = [HBONE_PORT, 15020, 15021, 15090];
/// HBONE; the sidecar's connections to it are left alone also on loopback.
pub(crate) const HBONE_PORT: u16 = 15008;

/// Whose connections are the sidecar's own and therefore not captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exempt {
    /// Sockets of processes with this uid or this gid.
    Owner {
        /// The uid the sidecar runs as.
        uid: u32,
        /// The gid the sidecar runs as.
        gid: u32,
    },
    /// Sockets that carry this mark (`SO_MARK`): for a user namespace with one uid, where owners cannot tell apart.
    Mark(u32),
}

/// How inbound connections are captured (Istio's `sidecar.istio.io/interceptionMode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Interception {
    /// The application sees 127.0.0.6 as every caller's address
    #[default]
    Redirect,
    /// The application sees the callers' own addresses
    Tproxy,
}

/// The mark of the sidecar's connections to the application in TPROXY mode, and of the answers on them.
pub const TPROXY_MARK: u32 = 0x53b;

/// All of a kind, or these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Captured<T> {
    /// All (`*`).
    All,
    /// These; none when the list is empty.
    These(Vec<T>),
}

/// What the rules are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The sidecar's own connections.
    pub exempt: Exempt,
    /// The sidecar's port for outbound connections.
    pub outbound_port: u16,
    /// The sidecar's port for inbound connections.
    pub inbound_port: u16,
    /// How inbound connections are captured.
    pub interception: Interception,
    /// Name servers, questions to which go to the sidecar's DNS; an empty list captures none.
    pub dns: Captured<IpAddr>,
    /// Inbound ports that are captured (Istio's `includeInboundPorts`).
    pub include_inbound_ports: Captured<u16>,
    /// Where all inbound ports are captured: further ports that are not, beside [`NEVER_CAPTURED`].
    pub exclude_inbound_ports: Vec<u16>,
    /// Destinations that are captured (`includeOutboundIPRanges`).
    pub include_outbound_ranges: Captured<IpNet>,
    /// Destinations that are not captured (`excludeOutboundIPRanges`).
    pub exclude_outbound_ranges: Vec<IpNet>,
    /// Outbound ports that are captured whatever the destinations (`includeOutboundPorts`).
    pub include_outbound_ports: Vec<u16>,
    /// Outbound ports that are not captured.
    pub exclude_outbound_ports: Vec<u16>,
    /// Network interfaces on which nothing is captured (`excludeInterfaces`).
    pub exclude_interfaces: Vec<String>,
    /// Whether IPv6 is captured too; only a machine without IPv6 goes without.
    pub ipv6: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            exempt: Exempt::Owner { uid: PROXY_ID, gid: PROXY_ID },
            outbound_port: OUTBOUND_PORT,
            inbound_port: INBOUND_PORT,
            interception: Interception::default(),
            dns: Captured::These(Vec::new()),
            include_inbound_ports: Captured::All,
            exclude_inbound_ports: Vec::new(),
            include_outbound_ranges: Captured::All,
            exclude_outbound_ranges: Vec::new(),
            include_outbound_ports: Vec::new(),
            exclude_outbound_ports: Vec::new(),
            exclude_interfaces: Vec::new(),
            ipv6: true,
        }
    }
}

impl Settings {
    /// Inbound ports that are left alone, sorted: the sidecar's own two are guarded instead of captured.
    fn uncaptured_inbound(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = NEVER_CAPTURED.to_vec();
        ports.extend([self.outbound_port, self.inbound_port]);
        if self.include_inbound_ports == Captured::All {
            ports.extend(&self.exclude_inbound_ports);
        }
        sorted(ports)
    }

    /// Outbound ports that are left alone, sorted.
    fn uncaptured_outbound(&self) -> Vec<u16> {
        sorted(self.exclude_outbound_ports.clone())
    }

    /// The sidecar's two ports, sorted.
    fn own_ports(&self) -> [u16; 2] {
        let mut ports = [self.outbound_port, self.inbound_port];
        ports.sort_unstable();
        ports
    }

    /// Whether an inbound connection to `port` is captured.
    fn captures_inbound(&self, port: u16) -> bool {
        let included = match &self.include_inbound_ports {
            Captured::All => true,
            Captured::These(ports) => ports.contains(&port),
        };
        included && !self.uncaptured_inbound().contains(&port)
    }

    /// Whether an outbound connection to `peer` is captured.
    fn captures_outbound(&self, peer: SocketAddr) -> bool {
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&peer.ip()));
        if self.exclude_outbound_ports.contains(&peer.port()) || within(&self.exclude_outbound_ranges) {
            return false;
        }
        let included = match &self.include_outbound_ranges {
            Captured::All => true,
            Captured::These(nets) => within(nets),
        };
        (self.ipv6 || peer.is_ipv4()) && (included || self.include_outbound_ports.contains(&peer.port()))
    }

    /// Whether questions to name servers of a family are captured, and which servers' (`None`: all).
    fn dns_of(&self, family: Family) -> Option<Option<Vec<String>>> {
        match &self.dns {
            Captured::All => Some(None),
            Captured::These(servers) => {
                let own = servers.iter().filter(|ip| family.holds(ip)).map(ToString::to_string);
                Some(own.collect::<Vec<_>>()).filter(|own| !own.is_empty()).map(Some)
            }
        }
    }

    /// Whether any question to a name server is captured.
    fn captures_dns(&self) -> bool {
        self.dns != Captured::These(Vec::new())
    }
}

fn sorted(mut ports: Vec<u16>) -> Vec<u16> {
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Prefixes of a family, as the kernel prints them, in order.
fn ranges(nets: &[IpNet], family: Family) -> Vec<IpNet> {
    let mut own: Vec<IpNet> = nets.iter().map(IpNet::trunc).filter(|net| family.holds(&net.addr())).collect();
    own = IpNet::aggregate(&own);
    own.sort_unstable();
    own
}

/// Whether this machine has IPv6 at all.
#[must_use]
pub fn machine_has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// An address family with its two addresses of Istio's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// `ip` or `ip6`, as nft writes it.
    pub nft: &'static str,
    /// The loopback address, for which capture never happens.
    pub loopback: &'static str,
    /// The source from which the sidecar reaches the application.
    pub inbound_source: &'static str,
    /// Length of a host's prefix.
    pub host_prefix: u8,
}

impl Family {
    /// Whether an address is of this family.
    fn holds(self, ip: &IpAddr) -> bool {
        ip.is_ipv4() == (self == IPV4)
    }
}

pub(crate) const IPV4: Family = Family { nft: "ip", loopback: "127.0.0.1", inbound_source: "127.0.0.6", host_prefix: 32 };
pub(crate) const IPV6: Family = Family { nft: "ip6", loopback: "::1", inbound_source: "::6", host_prefix: 128 };

#[cfg(test)]
mod tests;

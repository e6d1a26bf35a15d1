//! What `mutua proxy` is told on its command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::access_log::AccessLogSettings;
use crate::limits::Limits;
use crate::probes::Probers;
use crate::redirect::{DNS_PORT, INBOUND_PORT, Interception, OUTBOUND_PORT, PROXY_ID};

/// The port of metrics (Istio's).
pub const METRICS_PORT: u16 = 15020;
/// The port of readiness (Istio's).
pub const READINESS_PORT: u16 = 15021;

/// The arguments of a sidecar.
#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    /// The workload that this sidecar stands for
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = workload, required_unless_present = "static_file")]
    pub workload: Option<Workload>,
    /// Run without a control plane: policy, destinations and the names of certificate files come from FILE
    /// (docs/static.md); SIGHUP reads it anew
    #[arg(long = "static", value_name = "FILE", conflicts_with_all = ["workload", "control_plane", "ca_root", "token_file"])]
    pub static_file: Option<PathBuf>,
    /// The control plane's address
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15012")]
    pub control_plane: String,
    /// The root certificates by which the control plane is trusted, PEM
    #[arg(long, value_name = "FILE", required_unless_present = "static_file")]
    pub ca_root: Option<PathBuf>,
    /// The join token: a one-time token, or on Kubernetes that of the service account, which is read anew whenever it is
    /// needed; not needed while the state folder holds a valid certificate
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The folder for the admin socket, key, certificate and last configuration, by which a restart serves while the control
    /// plane is away; made with mode 0700 [default: /run/mutua/NAMESPACE/NAME]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The trust domain of the control plane
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub trust_domain: String,
    /// The root namespace: the control plane must prove the identity of its account istiod there
    #[arg(long, value_name = "NAME", default_value = "istio-system")]
    pub root_namespace: String,
    /// A mark for the sidecar's own sockets, for capture rules that exempt by mark; the user is then not changed
    #[arg(long, value_name = "N", value_parser = mark)]
    pub mark: Option<u32>,
    /// The user to become when started as root, which the capture rules exempt
    #[arg(long, value_name = "ID", default_value_t = PROXY_ID)]
    pub uid: u32,
    /// The group to become when started as root, which the capture rules exempt
    #[arg(long, value_name = "ID", default_value_t = PROXY_ID)]
    pub gid: u32,
    /// A folder below which files named by a DestinationRule may be read
    #[arg(long, value_name = "DIR")]
    pub tls_dir: Vec<PathBuf>,
    /// The access log
    #[command(flatten)]
    pub access_log: AccessLogSettings,
    /// How long open connections may go on after SIGTERM, such as 5s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub drain: Duration,
    /// Silence after which the kernel asks whether the peer of a connection still lives, on both of its sockets, such as 3m
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = duration)]
    pub tcp_keepalive: Duration,
    /// Take over from the sidecar that runs over this state folder: its listening sockets, without refusing a connection,
    /// once this one has its configuration; that one then lets its open connections go on for drainDuration and ends. When
    /// this one cannot start, that one goes on. Without one this starts as ever
    #[arg(long)]
    pub take_over: bool,
    /// The address on which metrics and readiness are served
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub status_address: IpAddr,
    /// The port on which metrics are served and rewritten probes are answered
    #[arg(long, value_name = "PORT", default_value_t = METRICS_PORT)]
    pub status_port: u16,
    /// The workload's own address, at which its probes are asked for
    #[arg(long, value_name = "ADDRESS", env = "INSTANCE_IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub instance_ip: IpAddr,
    /// The workload's probes by path, as `mutua inject` finds them: what /app-health/CONTAINER/KIND on the status port asks of
    /// the workload
    #[arg(
        long,
        value_name = "JSON",
        env = "ISTIO_KUBE_APP_PROBERS",
        default_value = "",
        hide_default_value = true,
        hide_env_values = true
    )]
    pub app_probers: Probers,
    /// Threads that serve connections; 0 for one on each processor [default: 2, or 1 where there is one processor]
    #[arg(long, value_name = "N")]
    pub concurrency: Option<usize>,
    /// How the capture rules lead inbound connections here; TPROXY needs CAP_NET_ADMIN, which is kept when the user changes
    #[arg(long, value_enum, ignore_case = true, default_value_t, value_name = "MODE", env = "ISTIO_META_INTERCEPTION_MODE")]
    pub inbound_interception_mode: Interception,
    /// Whether names are answered on port 15053, where `mutua redirect` leads the workload's questions to: those of the
    /// mesh here, others by the name servers of /etc/resolv.conf
    #[arg(long, value_name = "BOOL", env = "ISTIO_META_DNS_CAPTURE", default_value_t = true, action = clap::ArgAction::Set)]
    pub dns_capture: bool,
    /// What holds on a hostile network
    #[command(flatten)]
    pub limits: Limits,
}

/// Which connections are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AccessLog {
    /// Every connection, when it ends
    All,
    /// Refused and cut connections
    Refused,
    /// None
    Off,
}

/// A workload's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where a sidecar listens. Tests and other embedders choose; [`Listen::standard`] is what the capture rules expect.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Captured outbound connections.
    pub outbound: Vec<SocketAddr>,
    /// Captured inbound connections.
    pub inbound: Vec<SocketAddr>,
    /// How they are led there.
    pub interception: Interception,
    /// Captured questions to name servers, on loopback.
    pub dns: Vec<SocketAddr>,
    /// `/stats/prometheus`.
    pub metrics: SocketAddr,
    /// `/healthz/ready`.
    pub readiness: SocketAddr,
}

impl Listen {
    /// Istio's ports, on both families where the machine has them.
    #[must_use]
    pub fn standard(status: IpAddr, status_port: u16) -> Self {
        let mut any: Vec<IpAddr> = vec![Ipv4Addr::UNSPECIFIED.into()];
        if crate::redirect::machine_has_ipv6() {
            any.push(std::net::Ipv6Addr::UNSPECIFIED.into());
        }
        let at = |port| any.iter().map(|address| SocketAddr::new(*address, port)).collect();
        Self {
            outbound: at(OUTBOUND_PORT),
            inbound: at(INBOUND_PORT),
            interception: Interception::default(),
            dns: any.iter().map(|any| SocketAddr::new(loopback(*any), DNS_PORT)).collect(),
            metrics: SocketAddr::new(status, status_port),
            readiness: SocketAddr::new(status, READINESS_PORT),
        }
    }
}

fn loopback(any: IpAddr) -> IpAddr {
    if any.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() }
}

impl Settings {
    /// Whether the process becomes another user: started as root, and no mark exempts it from the capture rules.
    pub(crate) fn becomes_user(&self) -> bool {
        self.mark.is_none() && rustix::process::geteuid().is_root()
    }

    /// The state folder: the given one, else below `/run`.
    #[must_use]
    pub fn state_folder(&self, workload: &Workload) -> PathBuf {
        self.state.clone().unwrap_or_else(|| Path::new("/run/mutua").join(&workload.namespace).join(&workload.name))
    }
}

/// Reads `NAMESPACE/NAME`.
pub(crate) fn workload(text: &str) -> Result<Workload, String> {
    let fits = |part: &str| {
        !part.is_empty()
            && part.len() <= 253
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    };
    match text.split_once('/') {
        Some((namespace, name)) if fits(namespace) && fits(name) && !namespace.contains('.') => {
            Ok(Workload { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err(format!("{text:?} is no workload; write it as NAMESPACE/NAME")),
    }
}

/// Reads a mark, decimal or hexadecimal with `0x`, as `mutua redirect --exempt-mark` does.
fn mark(text: &str) -> Result<u32, String> {
    let read = text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u32::from_str_radix(digits, 16));
    match read {
        Ok(mark) if mark != 0 => Ok(mark),
        _ => Err(format!("{text:?} is no mark; write a number such as 1337 or 0x539")),
    }
}

/// Reads a duration of one number and a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write it like 45s, 500ms or 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let milliseconds = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_namespace_and_name() {
        assert_eq!(workload("shop/front.v1").unwrap().to_string(), "shop/front.v1");
        for wrong in ["", "shop", "shop/", "/front", "shop/front/x", "shop/../x/", "Shop/front", "a.b/c"] {
            assert!(workload(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mark_is_decimal_or_hexadecimal() {
        assert_eq!((mark("1337"), mark("0x539")), (Ok(1337), Ok(1337)));
        for wrong in ["", "0", "0x", "x", "-1", "0x1ffffffff"] {
            assert!(mark(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_duration_has_a_unit() {
        assert_eq!(duration("45s"), Ok(Duration::from_secs(45)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "s", "5", "1d", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}

//! The scenarios with their targets, and the tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::load::Work;
use crate::measure::median;
use crate::peers::Peer;

/// What one round gave; what a scenario does not measure stays zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Exchanges or connections per second.
    pub rate: f64,
    /// Latencies in microseconds.
    pub p50: f64,
    pub p99: f64,
    /// Per second.
    pub gigabytes: f64,
    /// Of both proxies: microseconds per exchange or connection, or seconds per GB.
    pub cpu: f64,
    /// Cores that other programs used meanwhile.
    pub other: f64,
    pub errors: f64,
    /// MiB of the larger proxy before, and with connections at rest.
    pub idle: f64,
    pub holding: f64,
    pub held: f64,
    /// KiB.
    pub per_connection: f64,
    /// Milliseconds of the slower side.
    pub start: f64,
}

type Figure = fn(&Figures) -> f64;

/// What is measured.
pub enum Kind {
    /// Under so many connections.
    Load(Work, usize),
    /// Memory with so many connections at rest.
    Hold(usize),
    /// From the start to listening.
    Start,
}

/// A bound that Mutua's figure is held to.
pub struct Target {
    what: &'static str,
    figure: Figure,
    bound: Bound,
}

enum Bound {
    /// At most this much.
    Absolute(f64),
    /// At most this share of the peer's.
    Of(Peer, f64),
    /// As `Of`, after what it takes without proxies is taken off both.
    Added(Peer, f64),
}

pub struct Scenario {
    pub name: &'static str,
    title: &'static str,
    pub kind: Kind,
    pub peers: &'static [Peer],
    columns: &'static [(&'static str, Figure)],
    targets: &'static [Target],
}

const EXCHANGES: &[(&str, Figure)] = &[
    ("per second", |f| f.rate),
    ("p50 µs", |f| f.p50),
    ("p99 µs", |f| f.p99),
    ("CPU µs each (= ms per 1000), both proxies", |f| f.cpu),
];
const TRANSFERS: &[(&str, Figure)] = &[("GB/s", |f| f.gigabytes), ("CPU s/GB, both proxies", |f| f.cpu)];
const MEMORY: &[(&str, Figure)] = &[
    ("connections", |f| f.held),
    ("idle MiB", |f| f.idle),
    ("with connections MiB", |f| f.holding),
    ("KiB/connection", |f| f.per_connection),
];
const TCP: &[Peer] = &[Peer::Mutua, Peer::EnvoyTcp];
const HTTP: &[Peer] = &[Peer::Mutua, Peer::EnvoyTcp, Peer::EnvoyHttp];

const TCP_CPU: &[Target] = &[Target { what: "CPU", figure: |f| f.cpu, bound: Bound::Of(Peer::EnvoyTcp, 0.75) }];
const HTTP_CPU: &[Target] = &[Target { what: "CPU", figure: |f| f.cpu, bound: Bound::Of(Peer::EnvoyHttp, 0.30) }];
const BULK: &[Target] = &[Target { what: "CPU", figure: |f| f.cpu, bound: Bound::Of(Peer::EnvoyTcp, 0.70) }];
const REST: &[Target] =
    &[Target { what: "memory of a connection, KiB", figure: |f| f.per_connection, bound: Bound::Absolute(6.0) }];

const fn ping(http: bool, connections: usize) -> Kind {
    Kind::Load(Work::Ping { http, rate: None }, connections)
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "tcp-1",
        title: "1 KiB to and fro, 1 connection",
        kind: ping(false, 1),
        peers: TCP,
        columns: EXCHANGES,
        targets: &[],
    },
    Scenario {
        name: "tcp-8",
        title: "1 KiB to and fro, 8 connections",
        kind: ping(false, 8),
        peers: TCP,
        columns: EXCHANGES,
        targets: TCP_CPU,
    },
    Scenario {
        name: "tcp-64",
        title: "1 KiB to and fro, 64 connections",
        kind: ping(false, 64),
        peers: TCP,
        columns: EXCHANGES,
        targets: TCP_CPU,
    },
    Scenario {
        name: "http-1",
        title: "HTTP/1.1, 1 KiB each way, 1 connection",
        kind: ping(true, 1),
        peers: HTTP,
        columns: EXCHANGES,
        targets: &[],
    },
    Scenario {
        name: "http-8",
        title: "HTTP/1.1, 1 KiB each way, 8 connections",
        kind: ping(true, 8),
        peers: HTTP,
        columns: EXCHANGES,
        targets: HTTP_CPU,
    },
    Scenario {
        name: "http-64",
        title: "HTTP/1.1, 1 KiB each way, 64 connections",
        kind: ping(true, 64),
        peers: HTTP,
        columns: EXCHANGES,
        targets: HTTP_CPU,
    },
    Scenario {
        name: "rate",
        title: "HTTP/1.1, 2,000 requests a second over 32 connections",
        kind: Kind::Load(Work::Ping { http: true, rate: Some(2000.0) }, 32),
        peers: &[Peer::Direct, Peer::Mutua, Peer::EnvoyHttp],
        columns: EXCHANGES,
        targets: &[
            Target { what: "p50 added", figure: |f| f.p50, bound: Bound::Added(Peer::EnvoyHttp, 0.35) },
            Target { what: "p99 added", figure: |f| f.p99, bound: Bound::Added(Peer::EnvoyHttp, 0.35) },
        ],
    },
    Scenario {
        name: "bulk-up",
        title: "4 streams to the server",
        kind: Kind::Load(Work::Up, 4),
        peers: TCP,
        columns: TRANSFERS,
        targets: BULK,
    },
    Scenario {
        name: "bulk-down",
        title: "4 streams from the server",
        kind: Kind::Load(Work::Down, 4),
        peers: TCP,
        columns: TRANSFERS,
        targets: BULK,
    },
    Scenario {
        name: "connect",
        title: "connect, one exchange, close; 16 at once (Mutua: full handshakes; Envoy resumes as it does by default)",
        kind: Kind::Load(Work::Connect, 16),
        peers: TCP,
        columns: EXCHANGES,
        targets: &[Target { what: "CPU", figure: |f| f.cpu, bound: Bound::Of(Peer::EnvoyTcp, 0.55) }],
    },
    Scenario {
        name: "memory-1000",
        title: "resident memory with 1,000 connections at rest",
        kind: Kind::Hold(1000),
        peers: TCP,
        columns: MEMORY,
        targets: &[Target { what: "idle, MiB", figure: |f| f.idle, bound: Bound::Absolute(10.0) }],
    },
    Scenario {
        name: "memory-10000",
        title: "resident memory with 10,000 connections at rest, or as many as open files allow",
        kind: Kind::Hold(10_000),
        peers: TCP,
        columns: MEMORY,
        targets: REST,
    },
    Scenario {
        name: "start",
        title: "from the start to listening, the slower side",
        kind: Kind::Start,
        peers: TCP,
        columns: &[("ms", |f| f.start)],
        targets: &[Target { what: "start, ms", figure: |f| f.start, bound: Bound::Absolute(6.0) }],
    },
];

/// A table of medians with ratios to Envoy, and what became of the targets.
pub fn table(scenario: &Scenario, rounds: &BTreeMap<Peer, Vec<Figures>>, negotiated: &BTreeMap<Peer, String>) -> String {
    let middle = |peer: Peer, figure: Figure| median(rounds.get(&peer).into_iter().flatten().map(figure).collect());
    let loaded = matches!(scenario.kind, Kind::Load(..));
    let mut columns = scenario.columns.to_vec();
    if loaded {
        columns.push(("other work, cores", |f| f.other));
    }
    columns.push(("errors", |f| f.errors));
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let base = *scenario.peers.last().unwrap_or(&Peer::EnvoyTcp);
    let mut text = format!("\n### {}: {}\n\n| | {} | / {} |\n", scenario.name, scenario.title, titles.join(" | "), base.name());
    let _ = writeln!(text, "|{}", "---|".repeat(columns.len() + 2));
    for peer in scenario.peers {
        let cells: Vec<String> = columns.iter().map(|(_, figure)| cell(middle(*peer, *figure))).collect();
        let last = scenario.columns.last().map_or(f64::NAN, |(_, figure)| middle(*peer, *figure) / middle(base, *figure));
        let _ = writeln!(text, "| {} | {} | {} |", peer.name(), cells.join(" | "), cell(last));
    }
    text.push('\n');
    for Target { what, figure, bound } in scenario.targets {
        let ours = middle(Peer::Mutua, *figure);
        let (value, most, of) = match bound {
            Bound::Absolute(most) => (ours, *most, String::new()),
            Bound::Of(peer, most) => (ours / middle(*peer, *figure), *most, format!(" × {}", peer.name())),
            Bound::Added(peer, most) => {
                let bare = middle(Peer::Direct, *figure);
                ((ours - bare) / (middle(*peer, *figure) - bare), *most, format!(" × {}", peer.name()))
            }
        };
        let verdict = if value <= most { "holds" } else { "MISSED" };
        let _ = writeln!(text, "{what}: {}{of}, target ≤ {most}{of}: **{verdict}**  ", cell(value));
    }
    for (peer, tls) in negotiated {
        let _ = writeln!(text, "TLS of {}: {tls}  ", peer.name());
    }
    text
}

fn cell(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "–".to_owned(),
        0.0 => "0".to_owned(),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Where and with what it was measured.
pub fn machine(envoy: &Path) -> String {
    let line = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let says = |program: &Path, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    };
    let flags = line("/proc/cpuinfo", "flags");
    let wanted: Vec<&str> =
        ["aes", "vaes", "avx2", "avx512f"].into_iter().filter(|wanted| flags.split(' ').any(|flag| flag == *wanted)).collect();
    format!(
        "{} × {} ({}), {}, Linux {}\n{}\n{}\n",
        std::thread::available_parallelism().map_or(1, usize::from),
        line("/proc/cpuinfo", "model name"),
        wanted.join(", "),
        line("/proc/meminfo", "MemTotal"),
        std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        says(Path::new(env!("CARGO_BIN_EXE_mutua-proxy")), "--version"),
        says(envoy, "--version").lines().find(|line| line.contains("version")).unwrap_or_default().trim(),
    )
}

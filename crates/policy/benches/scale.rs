//! How fast a large mesh is decided on, and how the time grows with it: `cargo bench -p mutua-policy`.
//!
//! Each size is measured in a process of its own, so that the greatest resident memory is its own. The generated mesh is
//! that of `generated.rs`; with 1,000 namespaces it has 100,000 workloads, 10,000 services, 2,001 PeerAuthentications and
//! 5,000 DestinationRules. Times are the best of several runs; the machine's load adds to the others.

#![allow(clippy::print_stdout, reason = "the report")]

mod generated;

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mutua_model::{Labels, Mesh, MtlsMode};
use mutua_policy::{ConnectionQuery, Decisions, Engine, findings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Namespaces of each size.
const SIZES: [usize; 3] = [10, 100, 1000];
const RUNS: usize = 3;
/// How often one policy changes.
const CHANGES: u32 = 20;
/// The argument with which the program measures one size.
const ONE: &str = "--namespaces";
/// What stands before the figures of one size, which are not shown.
const FIGURES: &str = "figures: ";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == ONE) {
        let namespaces = arguments.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or(10);
        return measure(namespaces);
    }
    print!("{}", machine());
    let measured = SIZES.map(|namespaces| {
        let program = std::env::current_exe().unwrap_or_default();
        let output = Command::new(&program).args([ONE, &namespaces.to_string()]).stderr(Stdio::inherit()).output();
        let output = output.ok().filter(|output| output.status.success());
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let (shown, figures) = text.rsplit_once(FIGURES).unwrap_or((&text, ""));
        print!("{shown}");
        Figures::read(figures).unwrap_or_else(|| panic!("the measurement of {namespaces} namespaces failed"))
    });
    verdicts(&measured[0], &measured[SIZES.len() - 1]);
}

/// What is asked for, of one size: times in nanoseconds.
struct Figures {
    workloads: u64,
    decisions: u64,
    full: u64,
    megabytes: u64,
    change: u64,
    decision: u64,
}

impl Figures {
    fn write(&self) -> String {
        let Self { workloads, decisions, full, megabytes, change, decision } = self;
        format!("{FIGURES}{workloads} {decisions} {full} {megabytes} {change} {decision}")
    }

    fn read(text: &str) -> Option<Self> {
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [workloads, decisions, full, megabytes, change, decision] = numbers[..] else { return None };
        Some(Self { workloads, decisions, full, megabytes, change, decision })
    }
}

/// Each figure with what is asked for, and whether it holds.
fn verdicts(small: &Figures, large: &Figures) {
    println!("\nasked for, at {} workloads", large.workloads);
    let line = |what: &str, measured: String, asked: &str, holds: bool| {
        let verdict = if holds { "holds" } else { "MISSED" };
        println!("  {what:<44} {measured:>12}  {asked:<8} {verdict}");
    };
    let time = |nanoseconds: u64| shown(Duration::from_nanos(nanoseconds));
    line("full computation, on the processor", time(large.full), "< 2 s", large.full < 2_000_000_000);
    line("greatest resident memory", format!("{} MB", large.megabytes), "< 1 GB", large.megabytes < 1000);
    line("one changed PeerAuthentication, on it", time(large.change), "< 10 ms", large.change < 10_000_000);
    line("one decision of a client", time(large.decision), "< 2 µs", large.decision < 2000);
    let ratio = |large: u64, small: u64| large as f64 / small.max(1) as f64;
    let (size, work) = (ratio(large.workloads, small.workloads), ratio(large.decisions, small.decisions));
    line(&format!("decisions made, for {size:.0} × the workloads"), format!("{work:.1} ×"), "linear", work <= size * 1.01);
    let growth = ratio(large.full, small.full);
    println!("  {:<44} {growth:>10.1} ×  of time: workloads to the power of {:.2}", "", growth.ln() / size.ln());
}

fn measure(namespaces: usize) {
    let mesh = Arc::new(generated::mesh(namespaces));
    let before = resident("VmRSS");
    println!(
        "\n{} workloads, {} services, {} PeerAuthentications, {} DestinationRules; the objects take {before} MB",
        mesh.pods.len(),
        mesh.services.len(),
        mesh.peer_authentications.len(),
        mesh.destination_rules.len()
    );
    let (mut best, mut megabytes) = (None::<Full>, 0);
    for round in 0..RUNS {
        let full = full(&mesh);
        if round == 0 {
            megabytes = resident("VmHWM");
        }
        if best.as_ref().is_none_or(|best| full.total() < best.total()) {
            best = Some(full);
        }
    }
    let Some(best) = best else { return };
    row("index", best.index);
    row("every inbound mode and client decision", best.decide);
    row("findings", best.find);
    row("full computation", best.total());
    row("  of this on the processor", best.on_processor);
    println!("  {:<44} {megabytes:>9} MB", "greatest resident memory, objects included");
    let (full, work) = (nanoseconds(best.cost()), best.decisions.work());
    let (workloads, decisions) = (work.workloads as u64, (work.workloads + work.decisions) as u64);
    let (change, decision) = changed(best.decisions);
    let figures = Figures { workloads, decisions, full, megabytes, change: nanoseconds(change), decision: nanoseconds(decision) };
    println!("{}", figures.write());
}

/// One full computation, with the time of its parts.
struct Full {
    index: Duration,
    decide: Duration,
    find: Duration,
    /// Without the time in which other programs ran; exact to a tick of the scheduler.
    on_processor: Duration,
    decisions: Decisions,
}

impl Full {
    /// What it costs: the time on the processor, which other programs do not add to; a short one's is told more exactly by
    /// the clock.
    fn cost(&self) -> Duration {
        if self.on_processor > Duration::from_millis(100) { self.on_processor } else { self.total() }
    }

    fn total(&self) -> Duration {
        self.index + self.decide + self.find
    }
}

fn full(mesh: &Arc<Mesh>) -> Full {
    let start = on_processor();
    let (engine, index) = timed(|| Engine::new(Arc::clone(mesh)));
    let (decisions, decide) = timed(|| Decisions::new(engine));
    let (_, find) = timed(|| findings::analyze(decisions.engine(), &findings::Asked::default()).len());
    Full { index, decide, find, on_processor: on_processor() - start, decisions }
}

/// One changed PeerAuthentication of a namespace of 100 workloads, and single questions. Returns the time of a change and
/// that of a client's decision.
fn changed(mut decisions: Decisions) -> (Duration, Duration) {
    let mut times = Vec::new();
    let start = on_processor();
    for round in 0..CHANGES {
        let mode = if round % 2 == 0 { MtlsMode::Strict } else { MtlsMode::Disable };
        let policy = generated::policy(&generated::namespace(3), "default", Labels::new(), Some(mode));
        let ((), time) = timed(|| {
            let mut next = Mesh::clone(decisions.engine().mesh());
            let at = next.peer_authentications.iter().position(|one| one.meta.object == policy.meta.object);
            next.peer_authentications[at.unwrap_or(0)] = policy;
            decisions = decisions.next(Arc::new(next));
        });
        times.push(time);
    }
    times.sort();
    let change = (on_processor() - start) / CHANGES;
    row("one changed PeerAuthentication, median", times[times.len() / 2]);
    row("  on the processor, mean", change);
    let work = decisions.work();
    println!("  {:<44} {} workloads, {} client decisions", "  decided anew", work.workloads, work.decisions);
    let engine = decisions.engine();
    let client = engine.workload("team-0005/app-0-00").expect("generated");
    let hosts: Vec<String> = (0..10).flat_map(|team| (0..9).map(move |app| generated::host(team, app))).collect();
    let decision = per_question("one decision of a client", hosts.len(), || {
        hosts.iter().for_each(|host| drop(black_box(engine.client_decision(client, host, 80))));
    });
    per_question("one kept decision looked up", hosts.len(), || {
        hosts.iter().for_each(|host| {
            black_box(decisions.client("team-0005", host, 80));
        });
    });
    let queries: Vec<ConnectionQuery> = hosts
        .iter()
        .map(|host| ConnectionQuery { from: "team-0005/app-0-00".to_owned(), to: format!("{host}:80"), subset: None })
        .collect();
    per_question("one connection explained (10 endpoints)", hosts.len(), || {
        queries.iter().for_each(|query| drop(black_box(engine.explain_connection(query))));
    });
    (change, decision)
}

fn per_question(what: &str, number: usize, mut all: impl FnMut()) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..50 {
        best = best.min(timed(&mut all).1);
    }
    let each = best / u32::try_from(number).unwrap_or(1);
    row(what, each);
    each
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn row(what: &str, time: Duration) {
    println!("  {what:<44} {:>12}", shown(time));
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn shown(time: Duration) -> String {
    match time.as_nanos() {
        nanoseconds @ 0..10_000 => format!("{nanoseconds} ns"),
        nanoseconds @ 10_000..10_000_000 => format!("{} µs", nanoseconds / 1000),
        nanoseconds => format!("{} ms", nanoseconds / 1_000_000),
    }
}

/// The time that this thread has run.
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0))
}

/// Megabytes of this process, by the kernel's name for them.
fn resident(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn machine() -> String {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let number = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{number} × {}, load {}\n", model.unwrap_or("unknown processor"), load.split(' ').next().unwrap_or_default())
}

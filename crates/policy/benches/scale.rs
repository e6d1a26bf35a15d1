//! How fast a large mesh is decided on, and how the time grows with it: `cargo bench -p mutua-policy`.
//!
//! Each size is measured in a process of its own, so that the greatest resident memory is its own. The generated mesh is
//! that of `generated.rs`; with 1,000 namespaces it has 100,000 workloads, 10,000 services, 2,001 PeerAuthentications and
//! 5,000 DestinationRules. Times are the best of several runs; the machine's load adds to the others.

#![allow(clippy::print_stdout, reason = "the report")]

mod generated;

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mutua_model::{Labels, Mesh, MtlsMode};
use mutua_policy::{ConnectionQuery, Decisions, Engine, findings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Namespaces of each size.
const SIZES: [usize; 3] = [10, 100, 1000];
const RUNS: usize = 3;
/// The argument with which the program measures one size.
const ONE: &str = "--namespaces";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == ONE) {
        let namespaces = arguments.get(at + 1).and_then(|text| text.parse().ok()).unwrap_or(10);
        return measure(namespaces);
    }
    print!("{}", machine());
    let program = std::env::current_exe().unwrap_or_default();
    for namespaces in SIZES {
        let status = Command::new(&program).args([ONE, &namespaces.to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "the measurement of {namespaces} namespaces failed");
    }
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
    let (mut best, mut memory) = (None::<Full>, 0);
    for round in 0..RUNS {
        let full = full(&mesh);
        if round == 0 {
            memory = resident("VmHWM");
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
    println!("  {:<44} {memory:>9} MB", "greatest resident memory, objects included");
    changed(best.decisions);
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

/// One changed PeerAuthentication of a namespace of 100 workloads, and single questions.
fn changed(mut decisions: Decisions) {
    let mut times = Vec::new();
    for round in 0..20 {
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
    row("one changed PeerAuthentication, median", times[times.len() / 2]);
    let work = decisions.work();
    println!("  {:<44} {} workloads, {} client decisions", "  decided anew", work.workloads, work.decisions);
    let engine = decisions.engine();
    let client = engine.workload("team-0005/app-0-00").expect("generated");
    let hosts: Vec<String> = (0..10).flat_map(|team| (0..9).map(move |app| generated::host(team, app))).collect();
    per_question("one decision of a client", hosts.len(), || {
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
}

fn per_question(what: &str, number: usize, mut all: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..50 {
        best = best.min(timed(&mut all).1);
    }
    row(what, best / u32::try_from(number).unwrap_or(1));
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn row(what: &str, time: Duration) {
    let nanoseconds = time.as_nanos();
    let shown = match nanoseconds {
        0..10_000 => format!("{nanoseconds} ns"),
        10_000..10_000_000 => format!("{} µs", nanoseconds / 1000),
        _ => format!("{} ms", nanoseconds / 1_000_000),
    };
    println!("  {what:<44} {shown:>12}");
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

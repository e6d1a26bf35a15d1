//! How fast changes reach many proxies, and what each costs: `cargo bench -p mutua-control --bench distribution`.
//!
//! The control plane runs in a process of its own, the proxies are simulated in this one, each over a connection of its
//! own with mutual TLS (`mutua_testbed::swarm`); both share the machine. Certificates of the proxies are signed in
//! advance. `MUTUA_SCALE=1000,10000` chooses the numbers of proxies, `MUTUA_VIEWS=narrowed,all` what they see.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "the report of a measurement, which fails by panicking")]

mod plane;
mod process;

use std::time::{Duration, Instant};

use mutua_identity::{Ca, TrustDomain};
use mutua_testbed::swarm::{Layout, Pace, Spread, State, Swarm, policy};
use mutua_wire::mesh::Mode;

use plane::Plane;
use process::Usage;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The argument with which the program is the control plane.
const PLANE: &str = "--control-plane";
const PATIENCE: Duration = Duration::from_secs(300);
/// Joining, and leaving, per second.
const CHURN: usize = 100;
/// How many leave before the first comes back, at most.
const AWAY: usize = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == PLANE) {
        return plane::serve(&arguments[at + 1..]);
    }
    process::raise_open_files();
    let (sizes, views) = (wanted("MUTUA_SCALE", "1000,10000"), wanted("MUTUA_VIEWS", "narrowed"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for view in views.split(',') {
        for size in sizes.split(',').map(|size| size.parse().unwrap()) {
            println!("## {size} proxies, each sees {}", if view == "all" { "every service" } else { "its namespace" });
            runtime.block_on(measure(Layout { workloads: size, narrowed: view != "all" }));
        }
    }
}

fn wanted(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

async fn measure(layout: Layout) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    std::fs::create_dir(&config).unwrap();
    for (name, text) in layout.files() {
        std::fs::write(config.join(name), text).unwrap();
    }
    std::fs::write(config.join("policy.yaml"), policy("istio-system", "PERMISSIVE")).unwrap();
    let mut plane = Plane::start(folder.path(), None).await;
    let ca = Ca::load_or_create(&folder.path().join("state/ca"), &TrustDomain::new("cluster.local").unwrap()).unwrap();
    let pace = Pace { reports: true, ..Pace::default() };
    let swarm = Swarm::new(&ca, plane.listen, layout.workloads, pace);
    let empty = plane.usage().resident;
    first_join(&plane, &swarm).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let resident = plane.usage().resident;
    let each = resident.saturating_sub(empty) / layout.workloads as u64;
    println!("memory: {} MiB without proxies, {} MiB with all: {each} KiB each", empty >> 10, resident >> 10);
    for (from, mode) in
        [("PERMISSIVE", Mode::Strict), ("STRICT", Mode::Permissive), ("PERMISSIVE", Mode::Disable), ("DISABLE", Mode::Strict)]
    {
        change(&plane, &swarm, &config, (from, mode)).await;
    }
    one_namespace(&plane, &swarm, &config).await;
    churn(&plane, &swarm, wanted("MUTUA_CHURN_SECONDS", "60").parse().unwrap()).await;
    cold_start(&mut plane, &swarm, folder.path()).await;
}

async fn first_join(plane: &Plane, swarm: &Swarm) {
    let meter = Meter::start(plane, swarm);
    (0..swarm.proxies().len()).for_each(|number| swarm.join(number));
    let spread = swarm.all(0..swarm.proxies().len(), meter.began, PATIENCE, State::is_complete).await;
    meter.tell("first join of all at once", &spread);
}

async fn change(plane: &Plane, swarm: &Swarm, config: &std::path::Path, (from, mode): (&str, Mode)) {
    let meter = Meter::start(plane, swarm);
    plane::write(config, "policy.yaml", &policy("istio-system", mode.as_str_name()));
    let spread = swarm.all(0..swarm.proxies().len(), meter.began, PATIENCE, |state| state.mode() == Some(mode)).await;
    meter.tell(&format!("{from} to {}", mode.as_str_name()), &spread);
    plane.enforced(PATIENCE).await;
    println!("  in force everywhere, says the control plane, after {:.2?}", meter.began.elapsed());
}

async fn one_namespace(plane: &Plane, swarm: &Swarm, config: &std::path::Path) {
    let meter = Meter::start(plane, swarm);
    plane::write(config, "own.yaml", &policy("n0", "PERMISSIVE"));
    let own = swarm.proxies().len().min(100);
    let spread = swarm.all(0..own, meter.began, PATIENCE, |state| state.mode() == Some(Mode::Permissive)).await;
    meter.tell("STRICT to PERMISSIVE of one namespace", &spread);
    plane.enforced(PATIENCE).await;
}

/// As many leave as join, in turn; how long joining takes at the beginning and at the end.
async fn churn(plane: &Plane, swarm: &Swarm, seconds: usize) {
    let (meter, count) = (Meter::start(plane, swarm), swarm.proxies().len());
    let away = AWAY.min(count / 4);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / CHURN as u32);
    let (mut came, mut took) = (Vec::new(), Vec::new());
    for step in 0..CHURN * seconds {
        ticks.tick().await;
        swarm.leave(step % count);
        if let Some(number) = step.checked_sub(away) {
            swarm.join(number % count);
            came.push(number % count);
            // Long after it came, and before it leaves again.
            took.extend(came.len().checked_sub(count / 2).map(|earlier| joined(swarm, came[earlier])));
        }
    }
    let remaining = came.iter().skip(took.len()).map(|number| joined(swarm, *number));
    took.extend(remaining.collect::<Vec<_>>());
    let missing = took.iter().filter(|took| took.is_none()).count();
    let part = |sixth: usize| {
        let times = &took[took.len() * sixth / 6..took.len() * (sixth + 1) / 6];
        Spread::of(times.iter().flatten().copied().collect())
    };
    meter.tell(&format!("{CHURN} join and {CHURN} leave per second for {seconds} s, the first sixth"), &part(0));
    println!("  the last sixth: {}; not there at the end: {missing} of {}", part(5), took.len());
    (0..count).filter(|number| !swarm.is_running(*number)).for_each(|number| swarm.join(number));
    swarm.all(0..count, Instant::now(), PATIENCE, State::is_complete).await;
}

fn joined(swarm: &Swarm, number: usize) -> Option<Duration> {
    swarm.proxies()[number].look(|state| state.is_complete().then(|| state.completed.saturating_duration_since(state.began)))
}

/// The control plane is killed and started again.
async fn cold_start(plane: &mut Plane, swarm: &Swarm, folder: &std::path::Path) {
    plane.kill();
    swarm.all(0..swarm.proxies().len(), Instant::now(), PATIENCE, |state| !state.is_complete()).await;
    let (listen, before) = (plane.listen, swarm.received());
    let began = Instant::now();
    *plane = Plane::start(folder, Some(listen)).await;
    let meter = Meter { received: before, began, ..Meter::start(plane, swarm) };
    println!("cold start: listening after {:.2?}", began.elapsed());
    let spread = swarm.all(0..swarm.proxies().len(), meter.began, PATIENCE, State::is_complete).await;
    meter.tell("cold start, all reconnecting", &spread);
    plane.current(swarm.proxies().len(), PATIENCE).await;
    println!("  all current, says the control plane, after {:.2?}", meter.began.elapsed());
}

/// What something costs both sides.
struct Meter<'a> {
    plane: &'a Plane,
    swarm: &'a Swarm,
    began: Instant,
    used: (Usage, Usage),
    received: u64,
}

impl<'a> Meter<'a> {
    fn start(plane: &'a Plane, swarm: &'a Swarm) -> Self {
        let used = (plane.usage(), Usage::of_this());
        Self { plane, swarm, used, received: swarm.received(), began: Instant::now() }
    }

    fn tell(&self, what: &str, spread: &Spread) {
        let (plane, own) = (self.plane.usage(), Usage::of_this());
        let bytes = self.swarm.received().saturating_sub(self.received);
        println!(
            "{what}: {spread}\n  CPU: control plane {:.2} s, simulation {:.2} s; {} KiB of resources; resident {} MiB",
            (plane.cpu - self.used.0.cpu).as_secs_f64(),
            (own.cpu - self.used.1.cpu).as_secs_f64(),
            bytes >> 10,
            plane.resident >> 10,
        );
    }
}

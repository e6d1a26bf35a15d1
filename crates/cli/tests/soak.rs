//! The long run of `make soak`: a mesh of processes under mixed traffic, with leaves of 60 s, a change of policy every 10 s,
//! callers that die, a control plane that is killed now and then, and sidecars that are replaced one after the other in the
//! first half. Memory has to be flat in the second, and every failure explained.
//!
//! `MUTUA_SOAK_MINUTES` says how long (60 unless given). Run by itself:
//! `MUTUA_SOAK_MINUTES=20 cargo test --release -p mutua-cli --test soak -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that tells how it goes")]

mod common;
#[path = "common/mesh.rs"]
mod mesh;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mesh::{BACK, Mesh, PORT, SERVICE, echo, in_lab, memory_of};
use socket2::SockRef;

const FLIP: Duration = Duration::from_secs(10);
const SAMPLE: Duration = Duration::from_secs(5);
const TELL: Duration = Duration::from_secs(30);
const KILL_CALLER: Duration = Duration::from_secs(30);
const KILL_CONTROL_PLANE: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(60);
/// Sidecars are replaced one by one, in the first half: in the second their memory is watched.
const TAKE_OVER: Duration = Duration::from_secs(45);
/// How long after a replacement a cut is one of its: what is open may go on for two seconds, and is then noticed.
const REPLACED: Duration = Duration::from_secs(20);
const LONG_LIVED: usize = 40;
const TRANSFER: usize = 4 << 20;

/// What happened so far.
#[derive(Default)]
struct Tally {
    over: Arc<AtomicBool>,
    calls: AtomicU64,
    aborted: AtomicU64,
    transfers: AtomicU64,
    pings: AtomicU64,
    in_clear: AtomicU64,
    in_clear_refused: AtomicU64,
    attacks: AtomicU64,
    /// Connections that lived long and were cut: allowed to a change of policy, and to nothing else.
    cut: AtomicU64,
    /// Those that were open when a sidecar was replaced, and lived longer than it waits for them.
    cut_by_take_over: AtomicU64,
    take_overs: AtomicU64,
    /// When a sidecar was replaced last.
    replaced: Mutex<Option<Instant>>,
    flips: AtomicU64,
    kills: AtomicU64,
    /// Failures that nothing explains.
    unexplained: Mutex<Vec<String>>,
}

impl Tally {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Counts a connection that was cut.
    fn cut(&self) {
        let replaced = self.replaced.lock().unwrap().is_some_and(|when| when.elapsed() < REPLACED);
        count(if replaced { &self.cut_by_take_over } else { &self.cut });
    }

    fn complain(&self, what: &str, error: &std::io::Error) {
        let mut unexplained = self.unexplained.lock().unwrap();
        if unexplained.len() < 100 {
            unexplained.push(format!("{what}: {error}"));
        }
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}

fn connect(to: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to.into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One call each; every hundredth caller dies in the middle of it.
fn short_calls(tally: &Tally) {
    let body = [b'x'; 200];
    while tally.goes_on() {
        let called = connect(SERVICE).and_then(|mut stream| {
            if count(&tally.calls) % 100 == 99 {
                count(&tally.aborted);
                stream.write_all(&body)?;
                return SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            echo(&mut stream, &body)
        });
        if let Err(error) = called {
            tally.complain("a call", &error);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Megabytes both ways at once.
fn transfers(tally: &Tally) {
    let data: Vec<u8> = (0..TRANSFER).map(|n| (n.wrapping_mul(31) >> 5) as u8).collect();
    while tally.goes_on() {
        let moved = connect(SERVICE).and_then(|mut stream| {
            let mut writer = stream.try_clone()?;
            let mut back = vec![0; TRANSFER];
            std::thread::scope(|scope| {
                let sent = scope.spawn(|| writer.write_all(&data));
                stream.read_exact(&mut back)?;
                sent.join().unwrap()
            })?;
            assert!(back == data, "not one byte is changed");
            Ok(())
        });
        match moved {
            Ok(()) => drop(count(&tally.transfers)),
            Err(_) => tally.cut(),
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Connections that live as long as they can.
fn long_lived(tally: &Tally) {
    let mut open: Vec<TcpStream> = Vec::new();
    while tally.goes_on() {
        open.retain_mut(|stream| match echo(stream, b"ping") {
            Ok(()) => {
                count(&tally.pings);
                true
            }
            Err(_) => {
                tally.cut();
                false
            }
        });
        while open.len() < LONG_LIVED {
            match connect(SERVICE) {
                Ok(stream) => open.push(stream),
                Err(error) => tally.complain("a long-lived connection", &error),
            }
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Somebody without a sidecar: plaintext, half of a handshake, nonsense, nothing.
fn strangers(tally: &Tally) {
    let hello: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    while tally.goes_on() {
        let in_clear = connect((BACK, PORT)).and_then(|mut stream| echo(&mut stream, b"in clear"));
        count(if in_clear.is_ok() { &tally.in_clear } else { &tally.in_clear_refused });
        for bytes in [hello, b"\x16\x03\x01\0\0", b"\x16\x03\x01\0\x05\x01\0\0\x01\0", b""] {
            if let Ok(mut stream) = connect((BACK, PORT)) {
                count(&tally.attacks);
                let _ = stream.write_all(bytes);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The rest of a run: changes of policy, kills, samples of memory.
struct Conductor<'a> {
    mesh: &'a Mesh,
    front: mutua_lab::Process,
    back: mutua_lab::Process,
    caller: Option<mutua_lab::Process>,
    samples: Vec<[u64; 2]>,
    /// Sidecars with a successor, until they have ended.
    replaced: Vec<mutua_lab::Process>,
    /// Of sidecars that were replaced: connections cut by policy, renewals of each.
    cut_before: u64,
    renewals_before: [u64; 2],
}

impl Conductor<'_> {
    fn conduct(&mut self, tally: &Tally, length: Duration) {
        let start = Instant::now();
        let (mut flip, mut sample, mut tell) = (FLIP, SAMPLE, TELL);
        let (mut kill, mut kill_plane, mut take_over) = (KILL_CALLER, KILL_CONTROL_PLANE, TAKE_OVER);
        while start.elapsed() < length {
            let now = start.elapsed();
            if due(&mut flip, now, FLIP) {
                let modes = ["STRICT", "PERMISSIVE", "STRICT", "DISABLE"];
                let at = usize::try_from(count(&tally.flips)).unwrap();
                self.mesh.policy(modes[at % modes.len()]);
            }
            if due(&mut sample, now, SAMPLE) {
                self.samples.push([memory_of(self.front.id()), memory_of(self.back.id())]);
            }
            if due(&mut kill, now, KILL_CALLER) {
                count(&tally.kills);
                // The old one dies with its connections before the new one begins.
                self.caller = None;
                self.caller = Some(self.mesh.sidecar("side", &[], &[]));
            }
            if due(&mut kill_plane, now, KILL_CONTROL_PLANE) {
                self.mesh.kill_control_plane();
                self.mesh.start_control_plane();
            }
            if due(&mut take_over, now, TAKE_OVER) && now < length / 2 {
                self.replace(tally);
            }
            self.replaced.retain_mut(|old| {
                let ended = old.ended();
                assert!(ended.is_none_or(|status| status.success()), "a sidecar with a successor ends in order: {ended:?}");
                ended.is_none()
            });
            if due(&mut tell, now, TELL) {
                println!("{}", self.line(tally, now));
            }
            assert_eq!(self.front.ended(), None, "{}", self.mesh.said("front"));
            assert_eq!(self.back.ended(), None, "{}", self.mesh.said("back"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Replaces one sidecar by another process, the two by turns.
    fn replace(&mut self, tally: &Tally) {
        let at = usize::try_from(count(&tally.take_overs)).unwrap() % 2;
        let name = ["front", "back"][at];
        self.cut_before += self.mesh.refusals(name, "POLICY_CHANGED");
        self.renewals_before[at] += self.renewals(name);
        *tally.replaced.lock().unwrap() = Some(Instant::now());
        let new = self.mesh.sidecar(name, &[], &["--take-over"]);
        mesh::until(&format!("the successor of {name}"), || {
            self.mesh.admin(name, "/config").is_some_and(|config| config["pid"] == new.id() && config["ready"] == true)
        });
        *tally.replaced.lock().unwrap() = Some(Instant::now());
        self.replaced.push(std::mem::replace(if at == 0 { &mut self.front } else { &mut self.back }, new));
    }

    fn renewals(&self, name: &str) -> u64 {
        self.mesh.admin(name, "/certs").and_then(|certs| certs["renewals"].as_u64()).unwrap_or_default()
    }

    fn line(&self, tally: &Tally, now: Duration) -> String {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let certs = |name: &str| self.mesh.admin(name, "/certs").unwrap_or_default();
        let [front, back] = self.samples.last().copied().unwrap_or_default();
        format!(
            "{:>5}s calls {} ({} aborted), transfers {}, pings {}, in clear {} (refused {}), attacks {}, flips {}, kills {}, \
             cut {} ({} by policy) and {} at {} take-overs, renewals {}/{} (failed {}/{}), memory {} KiB / {} KiB, unexplained {}",
            now.as_secs(),
            number(&tally.calls),
            number(&tally.aborted),
            number(&tally.transfers),
            number(&tally.pings),
            number(&tally.in_clear),
            number(&tally.in_clear_refused),
            number(&tally.attacks),
            number(&tally.flips),
            number(&tally.kills),
            number(&tally.cut),
            self.by_policy(),
            number(&tally.cut_by_take_over),
            number(&tally.take_overs),
            self.renewals_before[0] + self.renewals("front"),
            self.renewals_before[1] + self.renewals("back"),
            certs("front")["failedRenewals"],
            certs("back")["failedRenewals"],
            front / 1024,
            back / 1024,
            tally.unexplained.lock().unwrap().len(),
        )
    }

    /// Connections that the sidecars cut for a change of policy, at either end.
    fn by_policy(&self) -> u64 {
        self.cut_before + ["front", "back"].map(|name| self.mesh.refusals(name, "POLICY_CHANGED")).iter().sum::<u64>()
    }

    /// Memory of the third quarter of the run against that of the last.
    fn memory_is_flat(&self) {
        let quarter = self.samples.len() / 4;
        for (at, name) in ["front", "back"].iter().enumerate() {
            let median = |samples: &[[u64; 2]]| {
                let mut all: Vec<u64> = samples.iter().map(|sample| sample[at]).collect();
                all.sort_unstable();
                all[all.len() / 2]
            };
            let (before, after) = (median(&self.samples[2 * quarter..3 * quarter]), median(&self.samples[3 * quarter..]));
            println!("memory of {name}: {} KiB in the third quarter, {} KiB in the last", before / 1024, after / 1024);
            assert!(after <= before + before / 20, "{name}: {before} bytes became {after}");
        }
    }
}

/// Whether `next` has come; it is then put on by `period`.
fn due(next: &mut Duration, now: Duration, period: Duration) -> bool {
    let is_due = now >= *next;
    if is_due {
        *next += period;
    }
    is_due
}

/// What one thread does until the tally says that it is over.
type Work = fn(&Tally);

#[test]
#[ignore = "takes an hour; run by make soak"]
fn soak() {
    let minutes = std::env::var("MUTUA_SOAK_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    in_lab("soak", |folder| {
        let options = ["--leaf-ttl", "60s", "--drain-duration", "2s"];
        let (mesh, front, back) = Mesh::whole(folder, &options);
        let caller = Some(mesh.sidecar("side", &[], &[]));
        mesh.until_ready("side");
        let tally = Tally::default();
        // Its sidecar dies again and again, which explains whatever fails there.
        let beside = Tally { over: Arc::clone(&tally.over), ..Tally::default() };
        let (samples, replaced) = (Vec::new(), Vec::new());
        let mut conductor =
            Conductor { mesh: &mesh, front, back, caller, samples, replaced, cut_before: 0, renewals_before: [0; 2] };
        std::thread::scope(|scope| {
            let works: [(&str, Work, &Tally); 5] = [
                ("shop/front", short_calls, &tally),
                ("shop/front", transfers, &tally),
                ("shop/front", long_lived, &tally),
                ("shop/evil", strangers, &tally),
                ("shop/side", short_calls, &beside),
            ];
            for (host, work, tally) in works {
                let host = &mesh.network.host(host).unwrap().namespace;
                scope.spawn(move || host.enter(|| work(tally)).expect("the namespace is entered"));
            }
            conductor.conduct(&tally, Duration::from_secs(60 * minutes));
            tally.over.store(true, Ordering::Relaxed);
        });
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        println!("{}", conductor.line(&tally, Duration::from_secs(60 * minutes)));
        println!(
            "beside, where the sidecar died: {} calls, {} failed",
            number(&beside.calls),
            beside.unexplained.lock().unwrap().len()
        );
        let unexplained = tally.unexplained.lock().unwrap();
        assert!(unexplained.is_empty(), "{unexplained:#?}");
        let (cut, by_policy) = (number(&tally.cut), conductor.by_policy());
        assert!(cut <= by_policy, "{cut} were cut, {by_policy} by policy");
        assert!(number(&tally.calls) > 500 * minutes && number(&tally.transfers) > minutes, "there was traffic");
        assert!(number(&tally.take_overs) >= minutes / 2, "sidecars were replaced");
        for (at, name) in ["front", "back"].into_iter().enumerate() {
            let renewals = conductor.renewals_before[at] + conductor.renewals(name);
            assert!(renewals >= minutes, "{name} renewed {renewals} times in {minutes} minutes");
        }
        conductor.memory_is_flat();
    });
}

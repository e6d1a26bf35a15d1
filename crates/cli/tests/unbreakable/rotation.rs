//! Certificates change under load: leaves of ten seconds, the root twice, a sidecar that is away, a control plane that is
//! killed in the middle of it; no request fails. A minute here, five in `make soak`.
#![allow(clippy::print_stdout, reason = "a test that tells how it goes")]

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::MUTUA;
use crate::mesh::{Mesh, echo, in_lab, until};

const NAME: &str = "rotation::no_request_fails_while_leaves_and_roots_change";

/// What callers saw.
#[derive(Default)]
struct Tally {
    over: AtomicBool,
    served: AtomicU64,
    failed: Mutex<Vec<String>>,
}

impl Tally {
    fn note(&self, what: &str, done: std::io::Result<()>) {
        match done {
            Ok(()) => drop(self.served.fetch_add(1, Ordering::Relaxed)),
            Err(error) => self.failed.lock().unwrap().push(format!("{what}: {error}")),
        }
    }

    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

/// A new connection for each request.
fn short(mesh: &Mesh, tally: &Tally) {
    while tally.goes_on() {
        tally.note("a call", mesh.call().and_then(|mut stream| echo(&mut stream, b"short")));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One connection from before all changes to after them.
fn long(mesh: &Mesh, tally: &Tally) {
    let mut stream = mesh.call().unwrap();
    while tally.goes_on() {
        let done = echo(&mut stream, b"long");
        let ended = done.is_err();
        tally.note("the long connection", done);
        if ended {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn mutua(mesh: &Mesh, arguments: &[&str]) -> Command {
    let mut command = Command::new(MUTUA);
    command.args(arguments).arg("--state").arg(mesh.folder.join("control")).env("NO_COLOR", "1").env_remove("MUTUA_API");
    command
}

/// `mutua ca rotate`, which waits for its end.
fn rotate(mesh: &Mesh) -> Child {
    mutua(mesh, &["ca", "rotate"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn said(mut child: Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {text}");
    text
}

/// The roots that a sidecar trusts.
fn roots(mesh: &Mesh, name: &str) -> Vec<String> {
    let certs = mesh.admin(name, "/certs").expect("the admin socket answers");
    certs["roots"].as_array().unwrap().iter().map(|root| root["serial"].as_str().unwrap().to_owned()).collect()
}

fn renewals(mesh: &Mesh, name: &str) -> u64 {
    mesh.admin(name, "/certs").and_then(|certs| certs["renewals"].as_u64()).expect("a number")
}

fn status(mesh: &Mesh) -> String {
    String::from_utf8(mutua(mesh, &["ca", "rotate", "--status"]).output().unwrap().stdout).unwrap()
}

#[test]
fn no_request_fails_while_leaves_and_roots_change() {
    in_lab(NAME, |folder| {
        let (mesh, _front, _back) = Mesh::whole(folder, &["--leaf-ttl", "10s"]);
        let side = mesh.sidecar("side", &[], &[]);
        mesh.until_ready("side");
        let minutes = if std::env::var_os("MUTUA_SOAK").is_some() { 5 } else { 1 };
        let end = Instant::now() + Duration::from_secs(60 * minutes);
        let (tally, before) = (Tally::default(), roots(&mesh, "front"));
        std::thread::scope(|scope| {
            // Whatever goes wrong here, the callers stop.
            let _over = Over(&tally);
            scope.spawn(|| short(&mesh, &tally));
            scope.spawn(|| long(&mesh, &tally));
            until("load", || tally.served.load(Ordering::Relaxed) > 20);
            until("a report of side", || mutua(&mesh, &["certs"]).output().is_ok_and(|all| told(&all.stdout, "shop/side")));
            drop(side);
            let first = rotate(&mesh);
            until("the one that is away, by name", || status(&mesh).contains("shop/side (it is not connected)"));
            let said = said(first);
            assert!(said.contains("shop/side (it is not connected)"), "the command names it: {said}");
            until("the new root alone", || roots(&mesh, "front").iter().all(|root| !before.contains(root)));
            let (second, between) = (rotate(&mesh), roots(&mesh, "front"));
            until("both roots", || roots(&mesh, "back").len() == 2);
            mesh.kill_control_plane();
            // It asks a control plane that is gone; what it asked for goes on.
            drop(second.wait_with_output());
            mesh.start_control_plane();
            until("the third root alone", || roots(&mesh, "back").iter().all(|root| !between.contains(root)));
            assert!(status(&mesh).contains("No change of root is under way"), "{}", status(&mesh));
            while Instant::now() < end {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let (front, back) = (renewals(&mesh, "front"), renewals(&mesh, "back"));
        let served = tally.served.load(Ordering::Relaxed);
        println!("{minutes} min: {served} requests, {front} and {back} rotations of leaves, 2 of the root");
        assert_eq!(*tally.failed.lock().unwrap(), Vec::<String>::new());
        // A leaf is renewed after five seconds; on a busy machine later, but before its end.
        assert!(front >= 6 * minutes && back >= 6 * minutes && served > 100, "{served} requests, {front} and {back} rotations");
        mesh.is_served();
    });
}

const HELD: &str = "rotation::the_old_root_stays_while_a_connection_hangs_on_it";

/// Leaves live for a day here: a connection from before the change was verified by leaves that are good long after it.
#[test]
fn the_old_root_stays_while_a_connection_hangs_on_it() {
    in_lab(HELD, |folder| {
        let (mesh, _front, _back) = Mesh::whole(folder, &[]);
        let mut held = mesh.call().unwrap();
        echo(&mut held, b"from before").unwrap();
        let before = roots(&mesh, "front");
        let change = rotate(&mesh);
        let hangs = |name: &str| format!("shop/{name} (1 live connection was verified by the root that goes)");
        until("both ends of the connection by name", || {
            let status = status(&mesh);
            status.contains(&hangs("front")) && status.contains(&hangs("back"))
        });
        // Connections with renewed leaves are not waited for.
        let mut later = mesh.call().unwrap();
        echo(&mut later, b"from after").unwrap();
        std::thread::sleep(Duration::from_secs(13));
        assert!(status(&mesh).contains(&hangs("front")) && status(&mesh).contains(&hangs("back")), "{}", status(&mesh));
        assert!(roots(&mesh, "front").len() == 2 && roots(&mesh, "back").len() == 2);
        echo(&mut held, b"still there").unwrap();
        drop(held);
        let said = said(change);
        assert!(said.contains(&hangs("front")), "the command names it: {said}");
        until("the new root alone", || roots(&mesh, "front").iter().all(|root| !before.contains(root)));
        echo(&mut later, b"not waited for").unwrap();
    });
}

fn told(output: &[u8], what: &str) -> bool {
    String::from_utf8_lossy(output).contains(what)
}

struct Over<'a>(&'a Tally);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

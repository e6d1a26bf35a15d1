//! Group Process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mutua_lab::Ending;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{MUTUA, PATIENCE};
use crate::mesh::{BACK, Mesh, PORT, Seen, echo, in_lab, until};

fn signal(process: &mutua_lab::Process, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap(), signal).expect("it runs");
}

/// Writes until the connection breaks; tells how it broke.
fn pour(mut stream: TcpStream) -> std::thread::JoinHandle<std::io::Error> {
    let mut reader = stream.try_clone().unwrap();
    std::thread::spawn(move || while reader.read(&mut [0; 65536]).is_ok_and(|count| count > 0) {});
    std::thread::spawn(move || {
        let chunk = [7; 65536];
        loop {
            if let Err(error) = stream.write_all(&chunk) {
                return error;
            }
        }
    })
}

#[test]
fn killed_mid_transfer() {
    in_lab("process::killed_mid_transfer", |folder| {
        let (mesh, front, back) = Mesh::whole(folder, &[]);
        for (victim, other) in [(front, "back"), (back, "front")] {
            let name = victim.name().to_owned();
            let pouring = pour(mesh.call().expect("served"));
            let moved = || {
                mesh.admin(other, "/connections").is_some_and(|all| {
                    all.as_array()
                        .unwrap()
                        .iter()
                        .any(|record| record["state"] == "open" && record["received_bytes"].as_u64() > Some(1 << 20))
                })
            };
            until("a megabyte", moved);
            let before = mesh.seen.lock().unwrap().len();
            signal(&victim, Signal::KILL);
            pouring.join().unwrap();
            drop(victim);
            until("the end at the application", || mesh.seen.lock().unwrap().len() > before);
            let seen = mesh.seen.lock().unwrap().last().cloned().unwrap();
            // When its own sidecar dies, the kernel closes the socket to the application; only the other one can tell a
            // broken stream from a whole one.
            assert!(name == "back" || matches!(seen, Seen::Broken(_)), "{seen:?}");
            let again = mesh.sidecar(&name, &[], &[]);
            mesh.until_ready(&name);
            mesh.is_served();
            std::mem::forget(again);
            if other == "back" {
                continue;
            }
            return;
        }
    });
}

#[test]
fn control_plane_killed() {
    in_lab("process::control_plane_killed", |folder| {
        let (mesh, _front, _back) = Mesh::whole(folder, &[]);
        let mut bystander = mesh.call().unwrap();
        echo(&mut bystander, b"before").unwrap();
        mesh.kill_control_plane();
        mesh.policy("STRICT");
        for _ in 0..5 {
            mesh.is_served();
        }
        let mut clear = mesh.from("shop/evil", (BACK, PORT)).unwrap();
        echo(&mut clear, b"in clear").expect("the last policy stays in force");
        echo(&mut bystander, b"during").expect("the bystander goes on");
        mesh.start_control_plane();
        until("the new policy", || mesh.admin("back", "/policy?port=8080").is_some_and(|policy| policy["mode"] == "STRICT"));
        let mut clear = mesh.from("shop/evil", (BACK, PORT)).unwrap();
        assert!(echo(&mut clear, b"in clear").is_err(), "and is kept");
        until("the record", || mesh.refusals("back", "PLAINTEXT_ON_STRICT_PORT") == 1);
        echo(&mut bystander, b"after").expect("the bystander goes on");
        mesh.is_served();
    });
}

#[test]
fn stopped_with_live_connections() {
    in_lab("process::stopped_with_live_connections", |folder| {
        let mesh = Mesh::start(folder, &[]);
        let back = mesh.sidecar("back", &[], &["--drain", "3s", "--access-log", "refused"]);
        let _front = mesh.sidecar("front", &[], &[]);
        mesh.until_ready("back");
        mesh.until_ready("front");
        let (mut stays, mut leaves) = (mesh.call().unwrap(), mesh.call().unwrap());
        echo(&mut stays, b"one").unwrap();
        echo(&mut leaves, b"two").unwrap();
        back.ask_to_end();
        until("the stop", || mesh.said("back").contains("stopping: open connections go on"));
        echo(&mut stays, b"goes on").expect("for a while");
        echo(&mut leaves, b"goes on").expect("for a while");
        drop(leaves);
        assert!(stays.read(&mut [0; 16]).is_err(), "then it is reset");
        let Ending::Asked(status) = back.end(PATIENCE) else { panic!("it did not end: {}", mesh.said("back")) };
        assert_eq!(status.code(), Some(0));
        let said = mesh.said("back");
        assert_eq!(said.matches("\"reason\":\"SHUTDOWN\"").count(), 1, "one record, of the one that stayed: {said}");
        let again = mesh.sidecar("back", &[], &[]);
        mesh.until_ready("back");
        mesh.is_served();
        drop(again);
    });
}

#[test]
fn restart_without_control_plane() {
    in_lab("process::restart_without_control_plane", |folder| {
        let (mesh, front, back) = Mesh::whole(folder, &[]);
        mesh.policy("STRICT");
        until("the policy", || mesh.admin("back", "/policy?port=8080").is_some_and(|policy| policy["mode"] == "STRICT"));
        assert_eq!(mesh.admin("back", "/config").unwrap()["source"], "control-plane");
        mesh.kill_control_plane();
        for victim in [&front, &back] {
            signal(victim, Signal::KILL);
        }
        drop((front, back));
        let _sidecars = ["front", "back"].map(|name| mesh.sidecar(name, &[], &[]));
        for name in ["front", "back"] {
            mesh.until_ready(name);
            let (config, certs) = (mesh.admin(name, "/config").unwrap(), mesh.admin(name, "/certs").unwrap());
            assert_eq!((&config["source"], &certs["source"]), (&"state".into(), &"state".into()), "{config:#}");
            assert!(config["keptSince"].is_u64() && certs["leaf"]["serial"].is_string(), "{config:#} {certs:#}");
        }
        mesh.is_served();
        let mut clear = mesh.from("shop/evil", (BACK, PORT)).unwrap();
        assert!(echo(&mut clear, b"in clear").is_err(), "the last policy holds");
        until("the record", || mesh.refusals("back", "PLAINTEXT_ON_STRICT_PORT") == 1);
        let mut open = mesh.call().unwrap();
        echo(&mut open, b"before").unwrap();
        let (over, served, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| load(&mesh, &over, &served, &failed));
            mesh.start_control_plane();
            for name in ["front", "back"] {
                until("the control plane's word", || mesh.admin(name, "/config").unwrap()["source"] == "control-plane");
            }
            let before = served.load(Ordering::Relaxed);
            until("load after it", || served.load(Ordering::Relaxed) > before + 10);
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(failed.load(Ordering::Relaxed), 0, "there is no gap");
        echo(&mut open, b"after").expect("it goes on");
        mesh.policy("PERMISSIVE");
        until("the new policy", || mesh.admin("back", "/policy?port=8080").unwrap()["mode"] == "PERMISSIVE");
    });
}

/// What was kept and cannot be believed is refused with a reason; the sidecar starts as a new one.
#[test]
fn kept_state_that_cannot_be_believed() {
    in_lab("process::kept_state_that_cannot_be_believed", |folder| {
        let (mesh, _front, mut back) = Mesh::whole(folder, &[]);
        for (damage, told) in [("content", "a digest does not fit its content"), ("mode", "others may write it")] {
            mesh.kill_control_plane();
            signal(&back, Signal::KILL);
            drop(back);
            let path = mesh.state("back").join("kept-InboundPolicy");
            if damage == "content" {
                let mut content = std::fs::read(&path).unwrap();
                let middle = content.len() / 2;
                content[middle] ^= 1;
                std::fs::write(&path, content).unwrap();
            } else {
                let writable = std::os::unix::fs::PermissionsExt::from_mode(0o666);
                std::fs::set_permissions(&path, writable).unwrap();
            }
            back = mesh.sidecar("back", &[], &[]);
            until("its admin socket", || mesh.admin("back", "/certs").is_some_and(|certs| certs["leaf"]["serial"].is_string()));
            assert!(mesh.said("back").contains(told), "{}", mesh.said("back"));
            assert_eq!(mesh.admin("back", "/config").unwrap()["source"], "nowhere");
            let mut clear = mesh.from("shop/evil", (BACK, PORT)).unwrap();
            assert!(echo(&mut clear, b"in clear").is_err(), "nothing is served without a policy");
            until("the record", || mesh.refusals("back", "NOT_READY") >= 1);
            assert!(mesh.seen.lock().unwrap().is_empty(), "the application heard nothing");
            assert_eq!(back.ended(), None);
            mesh.start_control_plane();
            mesh.until_ready("back");
            assert!(path.exists(), "and kept anew");
        }
        mesh.is_served();
    });
}

#[test]
fn two_on_one_port() {
    in_lab("process::two_on_one_port", |folder| {
        let (mesh, _front, mut back) = Mesh::whole(folder, &[]);
        let mut bystander = mesh.call().unwrap();
        echo(&mut bystander, b"before").unwrap();
        let state = folder.join("state-second");
        std::fs::create_dir(&state).unwrap();
        for file in ["key.pem", "cert-chain.pem"] {
            std::fs::copy(mesh.state("back").join(file), state.join(file)).unwrap();
        }
        let second = mesh.sidecar_at("back", &state, &[], &[]);
        let Ending::Asked(status) = wait(second) else { panic!("it still runs") };
        assert_eq!(status.code(), Some(2));
        let said = mesh.said("back");
        // The first port that workers do not share: taken before any of the shared ones is listened on.
        assert!(said.contains("cannot listen on 0.0.0.0:15020: Address already in use"), "{said}");
        let same = mesh.sidecar("back", &[], &[]);
        let Ending::Asked(status) = wait(same) else { panic!("it still runs") };
        assert_eq!(status.code(), Some(2), "the same state folder");
        echo(&mut bystander, b"after").expect("the bystander goes on");
        mesh.is_served();
        assert_eq!(back.ended(), None);
    });
}

/// Waits for a process that ends by itself.
pub fn wait(mut process: mutua_lab::Process) -> Ending {
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        if let Some(status) = process.ended() {
            return Ending::Asked(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ending::Killed
}

/// Calls without pause; counts what is answered and what fails.
fn load(mesh: &Mesh, over: &AtomicBool, served: &AtomicU64, failed: &AtomicU64) {
    while !over.load(Ordering::Relaxed) {
        let done = mesh.call().and_then(|mut stream| echo(&mut stream, b"under load"));
        if let Err(error) = &done {
            eprintln!("a call failed: {error}");
        }
        let count = if done.is_ok() { served } else { failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Calls over and over from four threads while `body` runs; then not one may have failed.
fn under_load(mesh: &Mesh, body: impl FnOnce()) {
    let (over, served, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let more = |what: &str| {
        let before = served.load(Ordering::Relaxed);
        until(what, || served.load(Ordering::Relaxed) > before + 50);
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| load(mesh, &over, &served, &failed));
        }
        // Also when the body panics, the threads have to end.
        let _over = Over(&over);
        more("load");
        body();
        more("load after it");
    });
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {}", served.load(Ordering::Relaxed));
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Replaces a sidecar by another process, of the binary at `path`; the old one ends by itself.
fn replace(mesh: &Mesh, name: &str, running: &mut Option<mutua_lab::Process>, path: &str) {
    let old = running.take().unwrap();
    let wrapper = ["sh", "-c", &format!("exec {path} \"$@\"")];
    let new = mesh.sidecar(name, &wrapper, &["--take-over"]);
    until(&format!("the new process: {}", mesh.said(name)), || {
        mesh.admin(name, "/config").is_some_and(|config| config["pid"] == new.id() && config["ready"] == true)
    });
    let Ending::Asked(status) = wait(old) else { panic!("the old process still runs: {}", mesh.said(name)) };
    assert_eq!(status.code(), Some(0), "{}", mesh.said(name));
    *running = Some(new);
}

#[test]
fn upgrade_under_load() {
    in_lab("process::upgrade_under_load", |folder| {
        let (mesh, front, back) = Mesh::whole(folder, &["--drain-duration", "2s"]);
        let (mut front, mut back) = (Some(front), Some(back));
        let other = folder.join("other-mutua");
        std::fs::hard_link(MUTUA, &other).or_else(|_| std::fs::copy(MUTUA, &other).map(drop)).expect("another binary");
        let mut stays = mesh.call().unwrap();
        echo(&mut stays, b"before").unwrap();
        under_load(&mesh, || {
            for path in [other.to_str().unwrap(), MUTUA] {
                replace(&mesh, "back", &mut back, path);
                replace(&mesh, "front", &mut front, path);
            }
        });
        assert!(echo(&mut stays, b"after").is_err(), "what lives longer than drainDuration is cut");
        let said = mesh.said("back");
        assert_eq!(said.matches("\"reason\":\"SHUTDOWN\"").count(), 1, "with one record: {said}");
        mesh.is_served();
        drop((front, back));
        assert!(mesh.call().is_err(), "nobody listens when the last one is gone");
    });
}

#[test]
fn upgrade_that_fails() {
    in_lab("process::upgrade_that_fails", |folder| {
        let (mesh, _front, mut back) = Mesh::whole(folder, &["--drain-duration", "2s"]);
        let mut stays = mesh.call().unwrap();
        under_load(&mesh, || {
            // Arguments that it does not know, before it asks.
            let new = mesh.sidecar("back", &[], &["--take-over", "--new-argument"]);
            assert!(matches!(wait(new), Ending::Asked(status) if status.code() == Some(2)));
            // Killed when it has the sockets and waits for its configuration, of which nothing is kept.
            mesh.kill_control_plane();
            std::fs::remove_file(mesh.state("back").join("kept-InboundPolicy")).expect("it was kept");
            let new = mesh.sidecar("back", &[], &["--take-over"]);
            until("its question", || mesh.said("back").contains("a successor has the listening sockets"));
            signal(&new, Signal::KILL);
            drop(new);
            until(&format!("the old one's word: {}", mesh.said("back")), || {
                mesh.said("back").contains("a successor asked for the sockets and failed")
            });
            mesh.start_control_plane();
        });
        assert_eq!(mesh.admin("back", "/config").unwrap()["pid"], back.id());
        assert_eq!(back.ended(), None);
        echo(&mut stays, b"goes on").expect("nothing was drained");
        mesh.policy("STRICT");
        until("a new policy", || mesh.admin("back", "/policy?port=8080").is_some_and(|policy| policy["mode"] == "STRICT"));
        drop(stays);
        let mut back = Some(back);
        under_load(&mesh, || replace(&mesh, "back", &mut back, MUTUA));
        mesh.is_served();
    });
}

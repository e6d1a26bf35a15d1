//! Group Resources.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::mesh::{BACK, Mesh, PORT, echo, in_lab, memory_of, until};
use crate::survives;

const MIB: u64 = 1 << 20;

/// A bystander's connection, and a few calls so that tables and buffers are there.
fn settled(mesh: &Mesh) -> TcpStream {
    let mut bystander = mesh.call().expect("served");
    echo(&mut bystander, b"first").expect("served");
    for _ in 0..20 {
        mesh.is_served();
    }
    bystander
}

/// Connections from the host of nobody, each with its first bytes.
fn flood(mesh: &Mesh, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        let Ok(mut stream) = mesh.from("shop/evil", (BACK, PORT)) else { continue };
        let _ = stream.set_nonblocking(true);
        let _ = stream.write(bytes);
        all.push(stream);
    }
    all
}

#[test]
fn few_descriptors() {
    in_lab("resources::few_descriptors", |folder| {
        let mesh = Mesh::start(folder, &[]);
        let mut back = mesh.sidecar("back", &["prlimit", "--nofile=64:64"], &[]);
        let _front = mesh.sidecar("front", &[], &[]);
        mesh.until_ready("back");
        mesh.until_ready("front");
        let mut bystander = settled(&mesh);
        survives(&mesh, &mut back, &mut bystander, |bystander| {
            let refused = mesh.refusals("back", "TOO_MANY_CONNECTIONS");
            let open = flood(&mesh, 200, b"GET / HTTP/1.1\r\n\r\n");
            until("refusals", || mesh.refusals("back", "TOO_MANY_CONNECTIONS") >= refused + 100);
            assert!(mesh.admin("back", "/connections").is_some(), "the admin socket answers");
            echo(bystander, b"still here").expect("the bystander goes on");
            drop(open);
        });
    });
}

/// A control group, gone with this.
struct Group(PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        // It is busy while a killed process is still leaving.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A control group with this much memory, and the script that enters it. `None` where none can be made.
fn group(bytes: u64) -> Option<(Group, String)> {
    let name = format!("mutua-test-{}", std::process::id());
    for (top, limit) in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")] {
        let group = Path::new(top).join(&name);
        if std::fs::create_dir_all(&group).is_ok() && std::fs::write(group.join(limit), bytes.to_string()).is_ok() {
            let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", group.display());
            return Some((Group(group), script));
        }
        let _ = std::fs::remove_dir(&group);
    }
    None
}

#[test]
fn little_memory() {
    in_lab("resources::little_memory", |folder| {
        let mesh = Mesh::start(folder, &[]);
        let group = group(32 * MIB);
        let enter: Vec<&str> = group.iter().flat_map(|(_, script)| ["sh", "-c", script.as_str(), "sh"]).collect();
        // Without a control group the bounds are given by hand, and memory is watched all the same.
        let by_hand: &[&str] = if group.is_some() { &[] } else { &["--max-connections", "480", "--max-handshakes", "64"] };
        if group.is_none() {
            eprintln!("no control group can be made here: only the bounds are tried, not the kernel's");
        }
        let mut back = mesh.sidecar("back", &enter, by_hand);
        let _front = mesh.sidecar("front", &[], &[]);
        mesh.until_ready("back");
        mesh.until_ready("front");
        let bounds = mesh.page("back", "/stats/prometheus").unwrap();
        assert!(bounds.contains("mutua_limit{bound=\"connections\"} 480"), "{bounds}");
        let mut bystander = settled(&mesh);
        // Most of a large ClientHello, and no more.
        let mut hello = vec![22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xf0];
        hello.resize(15_000, 0);
        let pid = back.id();
        survives(&mesh, &mut back, &mut bystander, |_| {
            let refused = mesh.refusals("back", "TOO_MANY_CONNECTIONS");
            let open = flood(&mesh, 1000, &hello);
            until("refusals", || mesh.refusals("back", "TOO_MANY_CONNECTIONS") >= refused + 500);
            mesh.is_served();
            let now = memory_of(pid);
            assert!(now < 32 * MIB, "{now} bytes");
            drop(open);
            let open = || mesh.admin("back", "/connections").map(|all| all.to_string().matches("\"open\"").count());
            until("their end", || open() <= Some(1));
        });
    });
}

/// A wrapper in whose view of the files the state folder is a small disk of its own, to which `then` happens once the file
/// `go` is there; `back` once it is gone.
fn own_disk(mesh: &Mesh, then: &str, back: &str) -> String {
    let (state, folder) = (mesh.state("back").display().to_string(), mesh.folder.display().to_string());
    std::fs::create_dir_all(&state).unwrap();
    format!(
        "mount -t tmpfs -o size=256k,mode=0700 tmpfs {state} || exit 1; \
         ( while [ ! -e {folder}/go ]; do sleep 0.05; done; cd /; {then}; touch {folder}/done; \
           while [ -e {folder}/go ]; do sleep 0.05; done; {back}; touch {folder}/undone ) & exec \"$@\""
    )
    .replace("STATE", &state)
}

/// The leaf's serial, by the other end: the admin socket of a disk of its own is not seen from here.
fn serial(mesh: &Mesh) -> String {
    mesh.is_called();
    let records = mesh.admin("front", "/connections").expect("answers");
    let last = records.as_array().unwrap().iter().rev().find(|record| !record["peer_serial"].is_null()).cloned();
    last.map(|record| record["peer_serial"].as_str().unwrap().to_owned()).unwrap_or_default()
}

impl Mesh {
    /// A call that is answered.
    pub fn is_called(&self) {
        until(&format!("a served call; back: {}", self.said("back")), || {
            self.call().is_ok_and(|mut stream| echo(&mut stream, b"hello").is_ok())
        });
    }
}

fn renewed_on(disk: &str, then: &str, back: &str, test: &str) {
    in_lab(test, |folder| {
        let mesh = Mesh::start(folder, &["--leaf-ttl", "8s"]);
        let script = own_disk(&mesh, then, back);
        let mut sidecar = mesh.sidecar("back", &["unshare", "--mount", "sh", "-c", &script, "sh"], &["--access-log", "all"]);
        let _front = mesh.sidecar("front", &[], &[]);
        mesh.until_ready("front");
        let (first, mut bystander) = (serial(&mesh), mesh.call().expect("served"));
        std::fs::write(folder.join("go"), "").unwrap();
        until(disk, || folder.join("done").exists());
        let spoiled = serial(&mesh);
        until("a renewal", || ![&first, &spoiled].contains(&&serial(&mesh)));
        until("a complaint", || mesh.said("back").contains("the certificate could not be kept on disk"));
        echo(&mut bystander, b"going on").expect("the bystander goes on");
        std::fs::remove_file(folder.join("go")).unwrap();
        until("the disk as it was", || folder.join("undone").exists());
        let complaints = mesh.said("back").matches("could not be kept").count();
        let then = serial(&mesh);
        until("a renewal", || serial(&mesh) != then);
        assert!(mesh.said("back").matches("could not be kept").count() <= complaints + 1, "kept again");
        assert_eq!(sidecar.ended(), None);
        mesh.is_called();
    });
}

#[test]
fn full_disk() {
    renewed_on("a full disk", "dd if=/dev/zero of=STATE/filler bs=1k 2>/dev/null", "rm STATE/filler", "resources::full_disk");
    in_lab("resources::full_disk", |folder| {
        // A log that cannot be written ends nothing.
        let mesh = Mesh::start(folder, &["--leaf-ttl", "8s"]);
        let nowhere = ["sh", "-c", "exec \"$@\" >/dev/full 2>/dev/full", "sh"];
        let mut back = mesh.sidecar("back", &nowhere, &["--access-log", "all"]);
        let _front = mesh.sidecar("front", &[], &[]);
        mesh.until_ready("back");
        mesh.until_ready("front");
        let mut bystander = settled(&mesh);
        survives(&mesh, &mut back, &mut bystander, |_| {
            let then = serial(&mesh);
            until("a renewal", || serial(&mesh) != then);
        });
        let lost = mesh.page("back", "/stats/prometheus").unwrap();
        let lost = lost.lines().find(|line| line.starts_with("mutua_access_log_lines_lost_total ")).unwrap().to_owned();
        assert!(!lost.ends_with(" 0"), "lines that are lost are counted: {lost}");
    });
}

#[test]
fn read_only_disk() {
    let (then, back) = ("mount -o remount,ro STATE", "mount -o remount,rw STATE");
    renewed_on("a read-only disk", then, back, "resources::read_only_disk");
    in_lab("resources::read_only_disk", |folder| {
        let mesh = Mesh::start(folder, &[]);
        let state = mesh.state("back");
        std::fs::create_dir_all(&state).unwrap();
        let script = format!("mount -t tmpfs -o ro tmpfs {} && exec \"$@\"", state.display());
        let mut sidecar = mesh.sidecar("back", &["unshare", "--mount", "sh", "-c", &script, "sh"], &[]);
        let status = std::cell::Cell::new(None);
        let ended = std::cell::RefCell::new(&mut sidecar);
        until("its end", || {
            status.set(ended.borrow_mut().ended());
            status.get().is_some()
        });
        assert_eq!(status.get().unwrap().code(), Some(2));
        let said = mesh.said("back");
        assert!(said.contains(state.to_str().unwrap()) && said.contains("Read-only file system"), "{said}");
    });
}

/// As if by a scheduler that gives it ten milliseconds of every second.
#[test]
fn little_cpu() {
    in_lab("resources::little_cpu", |folder| {
        let (mesh, _front, mut back) = Mesh::whole(folder, &[]);
        let mut bystander = settled(&mesh);
        let pid = Pid::from_raw(i32::try_from(back.id()).unwrap()).unwrap();
        survives(&mesh, &mut back, &mut bystander, |bystander| {
            let over = AtomicBool::new(false);
            let done = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        kill_process(pid, Signal::STOP).unwrap();
                        std::thread::sleep(Duration::from_millis(990));
                        kill_process(pid, Signal::CONT).unwrap();
                        std::thread::sleep(Duration::from_millis(10));
                    }
                });
                let mut slow = mesh.call().expect("accepted");
                let done = echo(&mut slow, b"slow").and_then(|()| echo(bystander, b"slow too"));
                over.store(true, Ordering::Relaxed);
                done
            });
            done.expect("slow, and right");
        });
    });
}

#[test]
fn no_ephemeral_ports() {
    in_lab("resources::no_ephemeral_ports", |folder| {
        let (mesh, _front, mut back) = Mesh::whole(folder, &[]);
        let mut bystander = settled(&mesh);
        let range = |range: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("echo '{range}' > /proc/sys/net/ipv4/ip_local_port_range")]);
            mesh.network.host("shop/back").unwrap().namespace.run(&mut command).expect("a range");
        };
        survives(&mesh, &mut back, &mut bystander, |bystander| {
            let refused = mesh.refusals("back", "APPLICATION_UNREACHABLE");
            range("40000 40009");
            let open = flood(&mesh, 30, b"x");
            until("refusals", || mesh.refusals("back", "APPLICATION_UNREACHABLE") >= refused + 20);
            echo(bystander, b"still here").expect("the bystander goes on");
            drop(open);
            range("32768 60999");
        });
    });
}

/// What the kernel does when its table is full: it drops the packet that would make a new entry. The table itself is one for
/// all namespaces of the machine, so it is left alone.
#[test]
fn full_conntrack() {
    in_lab("resources::full_conntrack", |folder| {
        let (mesh, _front, mut back) = Mesh::whole(folder, &[]);
        let mut bystander = settled(&mesh);
        let host = &mesh.network.host("shop/back").unwrap().namespace;
        let nft = mutua_lab::privilege::find("nft").expect("nftables is installed");
        let full = "add table inet full\n\
                    add chain inet full in { type filter hook prerouting priority -150; }\n\
                    add rule inet full in ct state new drop\n";
        survives(&mesh, &mut back, &mut bystander, |bystander| {
            host.run_with(Command::new(&nft).args(["-f", "-"]), full).expect("a full table");
            let late = || TcpStream::connect_timeout(&(BACK, PORT).into(), Duration::from_secs(2));
            let late = mesh.network.host("shop/evil").unwrap().namespace.enter(late).unwrap();
            assert!(late.is_err(), "nothing new comes in");
            echo(bystander, b"still here").expect("the bystander goes on");
            host.run_with(Command::new(&nft).args(["-f", "-"]), "delete table inet full\n").expect("room again");
        });
    });
}

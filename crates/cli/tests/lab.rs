//! The laboratory itself: true capture rules, the listener on the bridge, and that nothing remains of it.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mutua_lab::{Host, Marker, Network, SENTINEL, Sniffer, privilege};
use socket2::{Domain, SockRef, Socket, Type};

const MUTUA: &str = env!("CARGO_BIN_EXE_mutua");
const MARK: u32 = 0x539;
const PATIENCE: Duration = Duration::from_secs(20);
const A: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 11);
const B: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 12);

/// Runs a test where network namespaces may be made: here as root, else the same test again in a user namespace.
fn in_lab(test: &str, body: impl FnOnce(&Path)) {
    if privilege::may_make_namespaces() {
        let folder = tempfile::tempdir().expect("a folder");
        body(folder.path());
        return;
    }
    let myself = std::env::current_exe().expect("the test's own path");
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(myself)
        .args(["--exact", test, "--nocapture"])
        .status()
        .expect("unshare runs");
    assert!(status.success(), "{test} failed in a user namespace");
}

fn network(folder: &Path) -> Network {
    let mut network = Network::new(folder).expect("a bridge");
    network.add("lab/a", A, "10.96.0.10 service\n").expect("a host");
    network.add("lab/b", B, "").expect("a host");
    network
}

fn redirect(host: &Host, arguments: &[&str]) -> bool {
    let mut command = Command::new(MUTUA);
    command.arg("redirect").args(arguments).args(["--exempt-mark", "0x539"]);
    let done = host.namespace.run(&mut command);
    if let Err(error) = &done {
        eprintln!("{error}");
    }
    done.is_ok()
}

/// Listens in a host's namespace.
fn listen(host: &Host, address: &str) -> TcpListener {
    let listener = host.namespace.enter(|| TcpListener::bind(address)).expect("the namespace is entered");
    let listener = listener.expect("a free port");
    // It holds for accept too.
    SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).expect("a limit");
    listener
}

/// Connects from a host's namespace, with a mark when given.
fn connect(host: &Host, to: impl Into<SocketAddr>, mark: Option<u32>) -> std::io::Result<TcpStream> {
    let to = to.into();
    let connect = || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        if let Some(mark) = mark {
            socket.set_mark(mark)?;
        }
        socket.connect_timeout(&to.into(), PATIENCE)?;
        let stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    };
    host.namespace.enter(connect).expect("the namespace is entered")
}

/// The next connection and where it wanted to go.
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, _) = listener.accept().expect("a connection");
    let socket = SockRef::from(&stream);
    let original =
        if stream.local_addr().expect("an address").is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    let original = original.expect("a captured connection").as_socket().expect("an address");
    (stream, original)
}

/// Both tools carry the same rules.
fn with_each_tool(body: impl Fn(&str)) {
    for (tool, command) in [("nft", "nft"), ("iptables", "iptables-restore")] {
        match privilege::find(command) {
            Some(_) => body(tool),
            None => eprintln!("{tool} is not installed here"),
        }
    }
}

#[test]
fn outbound_connections_are_captured_with_their_destination() {
    in_lab("outbound_connections_are_captured_with_their_destination", |folder| {
        let network = network(folder);
        let (a, b) = (network.host("lab/a").unwrap(), network.host("lab/b").unwrap());
        let sidecar = listen(a, "127.0.0.1:15001");
        let sidecar6 = listen(a, "[::1]:15001");
        let application = listen(b, "[::]:8080");
        with_each_tool(|tool| {
            let tool = ["--tool", tool];
            assert!(redirect(a, &[&["apply"][..], &tool].concat()));
            let service: SocketAddr = ([10, 96, 0, 10], 80).into();
            let _caller = connect(a, service, None).expect("captured");
            assert_eq!(accept(&sidecar).1, service);
            let v6 = SocketAddr::new(IpAddr::V6(b.ipv6()), 8080);
            let _caller = connect(a, v6, None).expect("captured");
            assert_eq!(accept(&sidecar6).1, v6, "IPv6 is captured too");
            // The sidecar's own connections go where they want to.
            let caller = connect(a, (B, 8080), Some(MARK)).expect("not captured");
            let (_, peer) = application.accept().expect("it arrives");
            assert_eq!(peer.port(), caller.local_addr().unwrap().port());
            // Loopback stays loopback.
            let local = listen(a, "127.0.0.1:0");
            let _caller = connect(a, local.local_addr().unwrap(), None).expect("not captured");
            local.accept().expect("it arrives");
            assert!(redirect(a, &[&["remove"][..], &tool].concat()));
            assert!(!redirect(a, &[&["check"][..], &tool].concat()), "the rules are gone");
            let _caller = connect(a, (B, 8080), None).expect("not captured any more");
            application.accept().expect("it arrives");
        });
    });
}

#[test]
fn inbound_connections_are_captured_but_for_the_sidecars_own_ports() {
    in_lab("inbound_connections_are_captured_but_for_the_sidecars_own_ports", |folder| {
        let network = network(folder);
        let (a, b) = (network.host("lab/a").unwrap(), network.host("lab/b").unwrap());
        let sidecar = listen(a, "0.0.0.0:15006");
        let _outbound = listen(a, "0.0.0.0:15001");
        let readiness = listen(a, "0.0.0.0:15021");
        let application = listen(a, "0.0.0.0:8080");
        with_each_tool(|tool| {
            let tool = ["--tool", tool];
            assert!(redirect(a, &[&["apply"][..], &tool].concat()));
            assert!(redirect(a, &[&["check"][..], &tool].concat()));
            let _caller = connect(b, (A, 8080), None).expect("captured");
            assert_eq!(accept(&sidecar).1, SocketAddr::from((A, 8080)));
            let _caller = connect(b, (A, 15021), None).expect("not captured");
            readiness.accept().expect("it arrives");
            for own in [15001, 15006] {
                let refused = connect(b, (A, own), None).expect_err("nobody reaches the sidecar's ports directly");
                assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            }
            // From 127.0.0.6 the sidecar reaches the application.
            let to_application = || {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                socket.set_mark(MARK)?;
                socket.bind(&SocketAddr::from(([127, 0, 0, 6], 0)).into())?;
                socket.connect(&SocketAddr::from((A, 8080)).into())
            };
            a.namespace.enter(to_application).unwrap().expect("it connects");
            assert_eq!(application.accept().expect("it arrives").1.ip(), IpAddr::from([127, 0, 0, 6]));
            // Its calls to itself come in like those of others.
            let _caller = connect(a, (A, 8080), Some(MARK)).expect("captured");
            assert_eq!(accept(&sidecar).1, SocketAddr::from((A, 8080)));
            assert!(redirect(a, &[&["remove"][..], &tool].concat()));
        });
    });
}

#[test]
fn a_check_tells_a_changed_rule() {
    in_lab("a_check_tells_a_changed_rule", |folder| {
        let network = network(folder);
        let a = network.host("lab/a").unwrap();
        assert!(!redirect(a, &["check"]), "absent");
        assert!(redirect(a, &["apply"]));
        assert!(redirect(a, &["apply"]), "a second time changes nothing");
        assert!(redirect(a, &["check"]));
        assert!(!redirect(a, &["check", "--exclude-inbound-ports", "22"]), "other settings");
        if let Some(nft) = privilege::find("nft") {
            let hole = ["insert", "rule", "inet", "mutua", "outbound", "tcp", "dport", "80", "accept"];
            a.namespace.run(Command::new(nft).args(hole)).expect("nft runs");
            assert!(!redirect(a, &["check"]), "somebody made a hole");
        }
    });
}

/// What `redirect check` says, whatever its exit code.
fn checked(host: &Host, arguments: &[&str]) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$@\" || true", "sh", MUTUA, "redirect", "check", "--exempt-mark", "0x539"]).args(arguments);
    host.namespace.run(&mut shell).expect("it says something")
}

#[test]
fn lists_ranges_and_interfaces_decide_what_is_captured() {
    in_lab("lists_ranges_and_interfaces_decide_what_is_captured", |folder| {
        let network = network(folder);
        let (a, b) = (network.host("lab/a").unwrap(), network.host("lab/b").unwrap());
        let sidecar = [listen(a, "127.0.0.1:15001"), listen(a, "[::1]:15001"), listen(a, "0.0.0.0:15006")];
        let (own, other) = (listen(a, "0.0.0.0:8080"), listen(b, "[::]:8080"));
        let v6 = SocketAddr::new(IpAddr::V6(b.ipv6()), 8080);
        let captured = |listener: &TcpListener, to: SocketAddr| assert_eq!(accept(listener).1, to);
        with_each_tool(|tool| {
            let apply = |more: &[&str]| {
                let all = [&["--tool", tool][..], more].concat();
                assert!(redirect(a, &[&["apply"][..], &all].concat()), "{more:?}");
                assert!(redirect(a, &[&["check"][..], &all].concat()), "{tool} {more:?}: {}", checked(a, &all));
            };
            apply(&["--exclude-outbound-ip-ranges", "10.91.0.12,fd00:91::/64"]);
            for to in [(B, 8080).into(), v6] {
                let _caller = connect(a, to, None).expect("not captured");
                other.accept().expect("it arrives");
            }
            let service: SocketAddr = ([10, 96, 0, 10], 80).into();
            let _caller = connect(a, service, None).expect("captured");
            captured(&sidecar[0], service);

            apply(&["--include-outbound-ip-ranges", "fd00:91::/64", "--include-outbound-ports", "81"]);
            let _caller = connect(a, (B, 8080), None).expect("not captured");
            other.accept().expect("it arrives");
            let _caller = connect(a, v6, None).expect("captured");
            captured(&sidecar[1], v6);
            let _caller = connect(a, (B, 81), None).expect("captured by its port");
            captured(&sidecar[0], (B, 81).into());

            apply(&["--include-inbound-ports", "8081"]);
            let _caller = connect(b, (A, 8080), None).expect("not captured");
            own.accept().expect("it arrives");
            let _caller = connect(b, (A, 8081), None).expect("captured");
            captured(&sidecar[2], (A, 8081).into());

            apply(&["--exclude-interfaces", "eth0"]);
            let _caller = connect(b, (A, 8080), None).expect("not captured");
            own.accept().expect("it arrives");
            let _caller = connect(a, (B, 8080), None).expect("not captured");
            other.accept().expect("it arrives");
            assert!(redirect(a, &["remove", "--tool", tool]));
        });
    });
}

#[test]
fn a_check_names_each_rule_that_is_missing_or_not_ours() {
    in_lab("a_check_names_each_rule_that_is_missing_or_not_ours", |folder| {
        let network = network(folder);
        let a = network.host("lab/a").unwrap();
        let change = |tool: &str, arguments: &str| {
            let program = privilege::find(tool).expect("installed");
            a.namespace.run(Command::new(program).args(arguments.split(' '))).expect("it changes the rules");
        };
        with_each_tool(|tool| {
            let tool = ["--tool", tool];
            assert!(redirect(a, &[&["apply"][..], &tool].concat()));
            if tool[1] == "nft" {
                change("nft", "insert rule inet mutua outbound tcp dport 80 accept");
                change("nft", "add rule inet mutua inbound tcp dport 81 accept");
                change("nft", "flush chain inet mutua guard");
                let said = checked(a, &tool);
                for wanted in
                    ["not ours: tcp dport 80 accept", "not ours: tcp dport 81 accept", "missing: tcp dport { 15001, 15006 }"]
                {
                    assert!(said.contains(wanted), "{said}");
                }
            } else {
                change("iptables", "-t nat -I OUTPUT -p tcp --dport 80 -j ACCEPT");
                change("iptables", "-t nat -A MUTUA_INBOUND -p tcp -m tcp --dport 15020 -j RETURN");
                change("ip6tables", "-t nat -D MUTUA_OUTPUT -o lo -j RETURN");
                let said = checked(a, &tool);
                for wanted in [
                    "ip: before ours: nat -A OUTPUT -p tcp -m tcp --dport 80 -j ACCEPT",
                    "ip: stands more than once: nat -A MUTUA_INBOUND -p tcp -m tcp --dport 15020 -j RETURN",
                    "ip6: missing: nat -A MUTUA_OUTPUT -o lo -j RETURN",
                ] {
                    assert!(said.contains(wanted), "{said}");
                }
                change("iptables", "-t nat -D OUTPUT -p tcp --dport 80 -j ACCEPT");
            }
            assert!(redirect(a, &[&["apply"][..], &tool].concat()));
            assert!(redirect(a, &[&["check"][..], &tool].concat()), "{}", checked(a, &tool));
            let transparent = ["--tool", tool[1], "--inbound-interception-mode", "TPROXY"];
            assert!(redirect(a, &[&["apply"][..], &transparent].concat()));
            assert!(checked(a, &tool).contains("not ours: ip -4 rule fwmark 0x53b lookup 133"), "{}", checked(a, &tool));
            change("ip", "-4 rule del fwmark 0x53b lookup 133");
            change("ip", "-6 route flush table 133");
            let said = checked(a, &transparent);
            for wanted in ["missing: ip -4 rule fwmark 0x53b lookup 133", "missing: ip -6 route local default dev lo table 133"] {
                assert!(said.contains(wanted), "{said}");
            }
            assert_eq!(said.matches("missing: ").count(), 2, "{said}");
            assert!(redirect(a, &[&["apply"][..], &transparent].concat()));
            assert!(redirect(a, &[&["check"][..], &transparent].concat()), "{}", checked(a, &transparent));
            assert!(redirect(a, &[&["remove"][..], &transparent].concat()));
        });
    });
}

#[test]
fn connections_that_were_open_before_are_named_and_closed() {
    in_lab("connections_that_were_open_before_are_named_and_closed", |folder| {
        let network = network(folder);
        let (a, b) = (network.host("lab/a").unwrap(), network.host("lab/b").unwrap());
        let (at_a, at_b) = (listen(a, "0.0.0.0:8080"), listen(b, "0.0.0.0:9000"));
        let mut outbound = connect(a, (B, 9000), None).unwrap();
        let (own, mut inbound) = (connect(a, (B, 9000), Some(MARK)).unwrap(), connect(b, (A, 8080), None).unwrap());
        let _accepted = (at_b.accept().unwrap(), at_b.accept().unwrap(), at_a.accept().unwrap());
        let apply = |more: &[&str]| {
            let mut command = Command::new(MUTUA);
            command.args(["redirect", "apply", "--exempt-mark", "0x539"]).args(more);
            // What it says stands on stderr.
            let mut shell = Command::new("sh");
            shell.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(MUTUA).args(command.get_args());
            a.namespace.run(&mut shell).expect("it succeeds")
        };
        let (leaving, arriving) = (outbound.local_addr().unwrap(), inbound.local_addr().unwrap());
        let lines = [format!("{leaving} to {B}:9000: "), format!("{arriving} to {A}:8080: ")];
        let says = |said: &str, what: &str| lines.iter().all(|line| said.contains(&format!("{line}{what}")));
        let said = apply(&[]);
        assert!(says(&said, "was open before the rules and is not captured"), "{said}");
        assert!(!said.contains(&own.local_addr().unwrap().to_string()), "the sidecar's own: {said}");
        let said = apply(&["--exclude-inbound-ports", "8080"]);
        assert!(said.contains(&lines[0]) && !said.contains(&lines[1]), "excluded: {said}");

        // A connection that the rules captured is no concern.
        let sidecar = listen(a, "0.0.0.0:15001");
        let captured = connect(a, (Ipv4Addr::new(10, 96, 0, 10), 80), None).unwrap();
        let (mut relayed, _) = accept(&sidecar);
        let said = apply(&["--close-existing"]);
        assert!(says(&said, "closed") && said.matches(" to ").count() == 2, "{said}");
        assert!(outbound.read(&mut [0]).is_err() && inbound.read(&mut [0]).is_err(), "both ends see a reset");
        (&captured).write_all(b"x").unwrap();
        relayed.read_exact(&mut [0]).unwrap();
        assert_eq!(apply(&["--close-existing"]), "", "nothing is left");
        drop(own);
    });
}

#[test]
fn the_listener_hears_what_passes_in_clear_and_nothing_else() {
    in_lab("the_listener_hears_what_passes_in_clear_and_nothing_else", |folder| {
        let network = network(folder);
        let (a, b) = (network.host("lab/a").unwrap(), network.host("lab/b").unwrap());
        let sniffer = network.listen().expect("a packet socket");
        let mut service = Command::new(MUTUA);
        service.args(["lab", "shop", "--name", "b", "--listen", "0.0.0.0:8080"]);
        let _service = b.namespace.spawn("b", &mut service).expect("it starts");
        wait_until_open(a, (B, 8080).into());

        let (sent, sentinel) = (Marker::random(), Marker::random());
        let answer = lab_call(a, &sent, &sentinel);
        assert!(answer.contains("\"ok\":true"), "{answer}");
        assert!(sniffer.wait_for(&sentinel, PATIENCE), "the datagram after the call was heard");
        assert_heard_once_each_way(&sniffer, &sent);
        assert!(sniffer.sightings(&Marker::random()).is_empty());
        assert_eq!(sniffer.lost(), 0);

        // Inside large frames, at any place of the stream.
        let receiver = listen(b, "0.0.0.0:9000");
        let hidden = Marker::random();
        send_among_noise(a, &receiver, &hidden);
        assert!(sniffer.wait_for(&hidden, PATIENCE));
        assert_heard_once_each_way(&sniffer, &sent);
    });
}

fn assert_heard_once_each_way(sniffer: &Sniffer, marker: &Marker) {
    let sightings = sniffer.sightings(marker);
    let service = SocketAddr::from((B, 8080));
    let there = sightings.iter().find(|(flow, _)| flow.to == service).expect("in the request's header");
    let back = sightings.iter().find(|(flow, _)| flow.from == service).expect("in the answer's body");
    assert_eq!((*there.1, *back.1, sightings.len()), (1, 1, 2), "{sightings:?}");
}

fn lab_call(from: &Host, marker: &Marker, sentinel: &Marker) -> String {
    let mut command = Command::new(MUTUA);
    command.args(["lab", "call", "http://10.91.0.12:8080/", "--marker", marker.as_str()]);
    command.args(["--sentinel", &SENTINEL.to_string(), "--sentinel-marker", sentinel.as_str()]);
    from.namespace.run(&mut command).expect("the call is good")
}

fn send_among_noise(from: &Host, receiver: &TcpListener, marker: &Marker) {
    let mut sender = connect(from, (B, 9000), None).expect("it connects");
    let (mut stream, _) = receiver.accept().expect("it arrives");
    let reader = std::thread::spawn(move || stream.read_to_end(&mut Vec::new()));
    let noise = vec![b'm'; 1_000_003];
    sender.write_all(&noise).unwrap();
    sender.write_all(marker.as_str().as_bytes()).unwrap();
    sender.write_all(&noise).unwrap();
    drop(sender);
    reader.join().unwrap().unwrap();
}

fn wait_until_open(from: &Host, address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while connect(from, address, None).is_err() {
        assert!(Instant::now() < deadline, "{address} does not open");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_remains_of_a_killed_run() {
    in_lab("nothing_remains_of_a_killed_run", |folder| {
        let (mut first, folder_of_first, service) = hold(folder);
        assert!(is_running(service));
        first.kill().expect("SIGKILL");
        first.wait().expect("it ended");
        let deadline = Instant::now() + PATIENCE;
        while is_running(service) {
            assert!(Instant::now() < deadline, "the service outlives its laboratory");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Path::new(&folder_of_first).exists(), "a killed run cannot remove its folder");
        let (mut second, folder_of_second, _) = hold(folder);
        assert!(!Path::new(&folder_of_first).exists(), "the next run does");
        let (mut third, _, _) = hold(folder);
        assert!(Path::new(&folder_of_second).exists(), "a running one is left alone");
        for run in [&mut second, &mut third] {
            run.kill().expect("SIGKILL");
            run.wait().expect("it ended");
        }
    });
}

fn hold(base: &Path) -> (std::process::Child, String, u32) {
    let mut command = Command::new(MUTUA);
    command.args(["lab", "hold", "--base"]).arg(base).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).expect("a line");
    let (folder, id) = line.trim_end().rsplit_once(' ').expect("folder and process id");
    (child, folder.to_owned(), id.parse().expect("a process id"))
}

fn is_running(id: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // What has ended and was not waited for is a zombie.
    state.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

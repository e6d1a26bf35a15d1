//! What `ss` prints of connections that were open before the capture rules.

use mutua_proxy::redirect::{Settings, escaped};

use crate::{Random, Target};

/// The target. Its input is the connections; behind a form feed, who listens.
pub const TARGET: Target = Target {
    name: "open_connections",
    run,
    grammar,
    words: &[
        b"ESTAB 0 0 10.0.0.1:40001 10.0.0.9:5432 uid:1000\n",
        b"[::ffff:10.0.0.1]:8080",
        b"fe80::1%eth0:80",
        b"uid:1337",
        b"fwmark:0x539",
        b"*:*",
        b"\x0c",
        b"LISTEN 0 128 0.0.0.0:8080 0.0.0.0:*\n",
    ],
    longest: 32 * 1024,
    memory: 64 * 1024,
    memory_per_byte: 60,
};

/// What must hold.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (connections, listening) = text.split_once('\x0c').unwrap_or((&text, ""));
    let settings = Settings::default();
    let open = escaped(&settings, connections, listening);
    assert!(open.len() <= connections.lines().count());
    for one in open {
        assert!(!one.peer.ip().is_loopback(), "{one:?} never leaves");
        assert!(!one.inbound || !listening.is_empty(), "{one:?} came to nobody");
    }
}

fn grammar(random: &mut Random) -> Vec<u8> {
    let hosts = ["10.0.0.1", "10.0.0.9", "[fd00::1]", "[::ffff:10.0.0.7]", "127.0.0.1", "[fe80::1]%eth0", "*"];
    let ports = ["40001", "8080", "15001", "15006", "22", "5432"];
    let mut text = String::new();
    for _ in 0..random.between(1, 8) {
        let mut end = || format!("{}:{}", random.one_of(&hosts), random.one_of(&ports));
        let (local, peer) = (end(), end());
        let more = random.one_of(&["", "uid:1000 ino:1 sk:1", "uid:1337 ino:2", "ino:3 fwmark:0x539", "cgroup:/ <->"]);
        text.push_str(&format!("ESTAB 0 0 {local} {peer} {more}\n"));
    }
    text.push('\x0c');
    for _ in 0..random.below(3) {
        text.push_str(&format!(
            "LISTEN 0 128 {}:{} 0.0.0.0:*\n",
            random.one_of(&["0.0.0.0", "*", "[::]"]),
            random.one_of(&ports)
        ));
    }
    text.into_bytes()
}

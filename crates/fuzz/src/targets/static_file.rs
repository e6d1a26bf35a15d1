//! `--static FILE`: a configuration from a file is used whole, or refused by line and field.

use std::sync::LazyLock;

use mutua_proxy::static_file::{StaticConfig, StaticError};
use mutua_proxy::world::World;
use mutua_testbed::{Authority, SERVER};

use super::discovery;
use crate::{Random, Target};

/// The target.
pub const TARGET: Target = Target {
    name: "static_file",
    run,
    grammar,
    words: &[
        b"workload: shop/it\n",
        b"certificate: {chain: chain.pem, key: key.pem}\n",
        b"trustBundle: [root.pem]\n",
        b"inbound: {mode: STRICT}\n",
        b"destinations:\n- ",
        b"ports: [{port: 80, tls: {mode: ISTIO_MUTUAL}, endpoints: []}]",
        b"addresses: [10.0.0.0/8]",
        b"&a ",
        b"*a",
        b"[",
        b"{",
        b"\t",
        b"null",
        b"/dev/zero",
    ],
    longest: 16 * 1024,
    memory: 4 * 1024 * 1024,
    memory_per_byte: 1000,
};

/// The files that a configuration may name.
static FILES: LazyLock<[(&str, String); 3]> = LazyLock::new(|| {
    let authority = Authority::new();
    let leaf = authority.leaf(SERVER);
    [("chain.pem", leaf.chain_pem()), ("key.pem", leaf.key_pem().to_owned()), ("root.pem", authority.bundle().to_pem())]
});

/// What must hold.
pub fn run(bytes: &[u8]) {
    let folder = discovery::folder();
    for (name, text) in &*FILES {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let file = folder.path().join("static.yaml");
    std::fs::write(&file, bytes).unwrap();
    let lines = bytes.iter().filter(|byte| matches!(**byte, b'\n' | b'\r')).count() + 2;
    match StaticConfig::read(&file) {
        Ok(config) => {
            let world = World::default();
            if config.apply(&world).is_ok() {
                assert!(world.current().is_ready(), "what is in force can be served by");
            }
        }
        Err(StaticError::Field { line, message, .. }) => {
            assert!(line <= lines && !message.is_empty() && message.len() < 4000, "{line}: {message}");
        }
        Err(error) => assert!(error.to_string().len() < 4000, "{error}"),
    }
}

fn grammar(random: &mut Random) -> Vec<u8> {
    let mode = random.mostly(&["STRICT", "PERMISSIVE", "DISABLE"], &["strict", "", "~"]);
    let port = random.mostly(&["80", "443", "8080"], &["0", "65536", "-1", "x"]);
    let tls = random.mostly(&["ISTIO_MUTUAL", "DISABLE", "SIMPLE"], &["MUTUAL", "X"]);
    let address = random.mostly(&["10.0.0.1", "10.0.0.0/8", "\"::1\""], &["x y", "10.0.0.0/33", "[]"]);
    let chain = random.mostly(&["chain.pem"], &["root.pem", "key.pem", "missing.pem", "../x"]);
    let inbound = format!("inbound: {{mode: {mode}, ports: [{{port: {port}, mode: {mode}, protocol: HTTP}}]}}");
    let endpoint = format!("{{address: {}, port: {port}}}", random.mostly(&["10.0.0.7", "a.example"], &["\"\"", "a b"]));
    let destination = format!(
        "- {{host: a, addresses: [{address}], ports: [{{port: {port}, tls: {{mode: {tls}}}, endpoints: [{endpoint}]}}]}}"
    );
    let settings =
        random.mostly(&["settings: {drainDuration: 5s}", ""], &["settings: {drainDuration: 99999999999999999h}", "x: y"]);
    format!("workload: shop/it\ncertificate: {{chain: {chain}, key: key.pem}}\ntrustBundle: [root.pem]\n{inbound}\ndestinations:\n{destination}\n{settings}\n").into_bytes()
}

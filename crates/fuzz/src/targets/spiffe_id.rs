//! Names that peers and proxies give themselves: SPIFFE ids, workloads, discovery nodes.

use mutua_control::names::WorkloadName;
use mutua_identity::{SpiffeId, TrustDomain};
use mutua_wire::discovery::Node;
use mutua_wire::node::node_workload;

use crate::{Random, Target};

/// The target.
pub const TARGET: Target = Target {
    name: "spiffe_id",
    run,
    grammar,
    words: &[
        b"spiffe://",
        b"/ns/",
        b"/sa/",
        b"cluster.local",
        b"%2f",
        b"..",
        b"@",
        b":",
        b"~",
        b"?",
        b"#",
        b"\xe2\x80\xae",
        b"\xc2\xa0",
        b"\xcc\x81",
        b"sidecar~",
        b"\0",
    ],
    longest: 8 * 1024,
    memory: 64 * 1024,
    memory_per_byte: 40,
};

/// What must hold.
pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<SpiffeId>() {
        Ok(id) => {
            assert!(is_id(&text), "{text:?} is no id");
            assert_eq!(id.to_string(), text, "one id is written in one way");
            let again = SpiffeId::new(id.trust_domain().clone(), id.namespace(), id.service_account());
            assert_eq!(again.as_ref(), Ok(&id));
        }
        Err(error) => {
            assert!(!is_id(&text), "{text:?} is an id: {error}");
            fit_for_a_line(&error.to_string());
        }
    }
    match TrustDomain::new(&text) {
        Ok(domain) => assert_eq!(TrustDomain::new(domain.as_str()).as_ref(), Ok(&domain)),
        Err(error) => fit_for_a_line(&error.to_string()),
    }
    match text.parse::<WorkloadName>() {
        Ok(name) => assert_eq!(name.to_string(), text),
        Err(error) => fit_for_a_line(&error.to_string()),
    }
    let node = Node { id: text.clone().into_owned(), ..Node::default() };
    if let Some((namespace, name)) = node_workload(&node) {
        assert!(text.contains(&format!("~{name}.{namespace}~")), "{name} {namespace} of {text:?}");
    }
}

/// The form, read another way: from both ends, byte by byte.
fn is_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://") else { return false };
    let Some((rest, account)) = rest.rsplit_once("/sa/") else { return false };
    let Some((domain, namespace)) = rest.split_once("/ns/") else { return false };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let segment = |text: &str| {
        !text.is_empty() && text != "." && text != ".." && text.bytes().all(|byte| name(byte) || b":@~".contains(&byte))
    };
    let domain = (1..=255).contains(&domain.len()) && domain.bytes().all(name);
    text.len() <= 2048 && domain && segment(namespace) && segment(account)
}

/// What is said of hostile text goes into logs and onto terminals.
fn fit_for_a_line(message: &str) {
    assert!(message.len() < 2000 && !message.contains(char::is_control), "{message:?}");
}

fn grammar(random: &mut Random) -> Vec<u8> {
    let parts = ["cluster.local", "a", "shop", "cart", "", "..", "a/b", "a:b@c~d", "\u{202e}", "%61", "A", "ns", "sa"];
    let mut part = || if random.once_in(30) { "x".repeat(random.below(2100)) } else { random.one_of(&parts).to_owned() };
    let (a, b, c) = (part(), part(), part());
    let text = match random.below(6) {
        0 => format!("sidecar~10.0.0.1~{a}.{b}~{b}.svc.{c}"),
        1 => format!("{a}/{b}"),
        2 => format!("spiffe://{a}/{b}/sa/{c}"),
        _ => format!("spiffe://{a}/ns/{b}/sa/{c}"),
    };
    text.into_bytes()
}

//! `PeerAuthentication`.

use crate::read::object::labels;
use crate::read::tree::{Entry, Node};
use crate::{Meta, MtlsMode, PeerAuthentication};

/// Reads a `PeerAuthentication`.
pub fn peer_authentication(meta: Meta, node: &Node) -> PeerAuthentication {
    let spec = node.get("spec");
    let port = |entry: &Entry| Some((entry.key.parse().ok().filter(|port| *port != 0)?, mode(entry.node.get("mode"))));
    PeerAuthentication {
        meta,
        selector: labels(spec.at_path(&["selector", "matchLabels"])),
        selector_present: spec.get("selector").is_given(),
        mode: mode(spec.at_path(&["mtls", "mode"])),
        ports: spec.get("portLevelMtls").entries().iter().filter_map(port).collect(),
    }
}

fn mode(node: &Node) -> Option<MtlsMode> {
    match node.text()? {
        "DISABLE" => Some(MtlsMode::Disable),
        "PERMISSIVE" => Some(MtlsMode::Permissive),
        "STRICT" => Some(MtlsMode::Strict),
        _ => None,
    }
}

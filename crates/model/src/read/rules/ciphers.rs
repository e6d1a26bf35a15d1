//! Cipher suites and curves of the mesh configuration: what Istio knows, and what Mutua can serve.

use std::collections::BTreeSet;

use super::field::Field;
use crate::read::report::Report;

/// A TLS 1.2 suite that Mutua serves: OpenSSL's name and IANA's.
const SERVED: &[(&str, &str)] = &[
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// TLS 1.3 suites, which cannot be configured: they are always on.
const ALWAYS_ON: &[&str] = &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];

/// Suites that Istio knows and that Mutua does not serve: no forward secrecy, or no authenticated encryption.
const NOT_SERVED: &[(&str, &str)] = &[
    ("ECDHE-ECDSA-AES128-SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"),
    ("ECDHE-RSA-AES128-SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
    ("ECDHE-ECDSA-AES256-SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"),
    ("ECDHE-RSA-AES256-SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
    ("AES128-GCM-SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256"),
    ("AES256-GCM-SHA384", "TLS_RSA_WITH_AES_256_GCM_SHA384"),
    ("AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"),
    ("AES256-SHA", "TLS_RSA_WITH_AES_256_CBC_SHA"),
    ("DES-CBC3-SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
];

/// `ValidECDHCurves` of Istio.
const CURVES: &[&str] = &["P-224", "P-256", "P-521", "P-384", "X25519", "X25519Kyber768Draft00", "X25519MLKEM768"];

fn is_in(table: &[(&str, &str)], name: &str) -> bool {
    table.iter().any(|(openssl, iana)| *openssl == name || *iana == name)
}

/// Checks a list of which Mutua must serve at least one suite. With TLS 1.3 as minimum the list has no effect.
pub fn check_suites(suites: &Field<'_>, only_tls_1_3: bool, report: &mut Report) {
    let items: Vec<_> = suites.items().collect();
    let mut served = false;
    for suite in &items {
        let name = suite.text();
        if is_in(SERVED, name) || ALWAYS_ON.contains(&name) {
            served |= is_in(SERVED, name);
        } else if is_in(NOT_SERVED, name) {
            suite.warning(report, format!("cipher suite {name} is not served by Mutua and left out"));
        } else {
            let known: Vec<_> = SERVED.iter().map(|(openssl, _)| *openssl).collect();
            suite.warning(report, format!("ignoring invalid cipher suites: [{name}]; known and served: {}", known.join(", ")));
        }
    }
    if items.is_empty() || only_tls_1_3 {
        return;
    }
    if !served {
        let known: Vec<_> = SERVED.iter().map(|(openssl, _)| *openssl).collect();
        let text = "none of these cipher suites can be served with TLS 1.2; allowed";
        suites.error(report, format!("{text}: {}, or minProtocolVersion TLSV1_3", known.join(", ")));
    }
}

/// Warns of a list that leaves TLS 1.2 without a suite for the mesh's own certificates, whose keys are ECDSA.
pub fn warn_without_ecdsa(suites: &Field<'_>, only_tls_1_3: bool, report: &mut Report) {
    let served: Vec<_> = suites.items().filter(|suite| is_in(SERVED, suite.text())).collect();
    let ecdsa = served.iter().any(|suite| suite.text().contains("ECDSA"));
    if !served.is_empty() && !ecdsa && !only_tls_1_3 {
        let text = "mesh certificates have ECDSA keys, for which no TLS 1.2 suite is listed: clients without TLS 1.3 are refused";
        suites.warning(report, text);
    }
}

/// Checks the curves of `tlsDefaults`.
pub fn check_curves(curves: &Field<'_>, report: &mut Report) {
    let (mut unknown, mut known, mut twice) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for curve in curves.items() {
        let name = curve.text().to_owned();
        if !name.is_empty() && !CURVES.contains(&name.as_str()) {
            unknown.insert(name);
        } else if !known.insert(name.clone()) {
            twice.insert(name);
        }
    }
    let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(" ");
    if !unknown.is_empty() {
        curves.warning(report, format!("detected unrecognized ECDH curves: [{}]; known: {}", list(unknown), CURVES.join(", ")));
    }
    if !twice.is_empty() {
        curves.warning(report, format!("detected duplicate ECDH curves: [{}]", list(twice)));
    }
}

/// Checks the suites of a server that a `Sidecar` configures, which Istio only warns about.
pub fn check_server(suites: &Field<'_>, report: &mut Report) {
    let (mut unknown, mut known, mut twice) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for suite in suites.items() {
        let name = suite.text().to_owned();
        if !is_in(SERVED, &name) && !is_in(NOT_SERVED, &name) && name != "ALL" && !name.is_empty() {
            unknown.insert(name);
        } else if !known.insert(name.clone()) {
            twice.insert(name);
        }
    }
    let list = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(" ");
    if !unknown.is_empty() {
        suites.warning(report, format!("ignoring invalid cipher suites: [{}]", list(unknown)));
    }
    if !twice.is_empty() {
        suites.warning(report, format!("ignoring duplicate cipher suites: [{}]", list(twice)));
    }
}

//! `PeerAuthentication` (`ValidatePeerAuthentication`).

use super::field::Field;
use super::selector;
use crate::read::report::Report;

/// Checks a `spec`.
pub fn check(spec: &Field<'_>, report: &mut Report) {
    let selects = !spec.get("selector").get("matchLabels").is_empty();
    let ports = spec.get("portLevelMtls");
    if ports.is_given() && ports.is_empty() {
        ports.error_once(report, EMPTY);
    }
    if !selects && !ports.is_empty() {
        let text = "mesh/namespace peer authentication cannot have port level mTLS (portLevelMtls requires selector)";
        ports.error(report, text);
    }
    for (port, entry) in ports.entries() {
        if let Some(message) = port_problem(port) {
            entry.error(report, message);
        }
    }
    selector::check(&spec.get("selector"), "matchLabels", ("", ""), report);
}

const EMPTY: &str =
    "port level mTLS, if defined, must have at least one element (spec.portLevelMtls in body should have at least 1 properties)";

/// The key is read as a JSON number, which has no plus sign.
fn port_problem(port: &str) -> Option<String> {
    let range = "port must be in range 1..65535 (port must be between 1-65535)";
    match port.parse::<i64>() {
        Ok(1..=65535) if !port.starts_with('+') => None,
        Ok(_) => Some(format!("{range}; found {port}")),
        Err(_) => Some(format!("{range}; found {port:?} (type conversion error from string to int)")),
    }
}

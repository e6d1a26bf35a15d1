//! With TPROXY: what leads the application's answers, which go to the callers' addresses, back to the sidecar.

use super::tool::run;
use super::{Interception, RedirectError, Settings, TPROXY_MARK};

/// The routing table of its own (Istio's).
const TABLE: &str = "133";
const IP: &str = "ip";

fn families(settings: &Settings) -> &'static [&'static str] {
    if settings.ipv6 { &["-4", "-6"] } else { &["-4"] }
}

/// Puts rule and route in place, or takes them away where the settings do not want them.
pub(super) fn apply(settings: &Settings) -> Result<(), RedirectError> {
    if settings.interception == Interception::Redirect {
        return remove(settings);
    }
    for family in families(settings) {
        if !has_rule(family)? {
            run(IP, &[family, "rule", "add", "fwmark", &mark(), "lookup", TABLE], "")?;
        }
        run(IP, &[family, "route", "replace", "local", "default", "dev", "lo", "table", TABLE], "")?;
    }
    Ok(())
}

/// What is missing, or there without being wanted.
pub(super) fn differences(settings: &Settings) -> Result<Vec<String>, RedirectError> {
    let wanted = settings.interception == Interception::Tproxy;
    let mut differences = Vec::new();
    for family in families(settings) {
        let rule = format!("ip {family} rule fwmark {} lookup {TABLE}", mark());
        let route = format!("ip {family} route local default dev lo table {TABLE}");
        for (there, what) in [(has_rule(family)?, rule), (has_route(family)?, route)] {
            match (there, wanted) {
                (false, true) => differences.push(format!("missing: {what}")),
                (true, false) => differences.push(format!("not ours: {what}")),
                _ => {}
            }
        }
    }
    Ok(differences)
}

/// Takes them away; nothing to remove is fine.
pub(super) fn remove(settings: &Settings) -> Result<(), RedirectError> {
    for family in families(settings) {
        while has_rule(family)? {
            run(IP, &[family, "rule", "del", "fwmark", &mark(), "lookup", TABLE], "")?;
        }
        if has_route(family)? {
            run(IP, &[family, "route", "flush", "table", TABLE], "")?;
        }
    }
    Ok(())
}

fn mark() -> String {
    format!("{TPROXY_MARK:#x}")
}

fn has_rule(family: &str) -> Result<bool, RedirectError> {
    let rules = run(IP, &[family, "rule", "list"], "")?;
    let wanted = format!("fwmark {} lookup {TABLE}", mark());
    Ok(rules.lines().any(|line| line.contains(&wanted)))
}

/// A table that was never used does not exist, which is no failure.
fn has_route(family: &str) -> Result<bool, RedirectError> {
    match run(IP, &[family, "route", "show", "table", TABLE], "") {
        Ok(routes) => Ok(routes.lines().any(|line| line.starts_with("local default dev lo"))),
        Err(RedirectError::Failed { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

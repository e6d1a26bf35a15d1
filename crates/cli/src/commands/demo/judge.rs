//! Holds what was seen of a call against what is expected.

use std::net::IpAddr;

use super::call::{Record, Seen};
use super::scenario::{By, CERTIFICATE_OF, Expect, Refuser, Row, workload};
use super::world::address;

/// What is not as expected; nothing when the row is proven.
pub(crate) fn judge(row: &Row, seen: &Seen) -> Vec<String> {
    let mut problems = match row.expect {
        Expect::Mtls => mutual(row, seen, "TLSv1.3"),
        Expect::Tls12 => mutual(row, seen, "TLSv1.2"),
        Expect::Tls { client_certificate } => originated(seen, client_certificate),
        Expect::Plaintext => plaintext(seen),
        Expect::Refused { by, code } => refused(row, seen, by, code),
        Expect::WrongServer { code, .. } => refused(row, seen, Refuser::Client, code),
    };
    if !seen.heard {
        problems.push("the listener on the bridge missed the end of the call".to_owned());
    }
    if let Some(explained) = &seen.explained
        && explained.outcome != row.expect.outcome()
    {
        problems.push(format!("explain says {}: {}", explained.outcome, explained.why()));
    }
    problems
}

impl Expect {
    /// As `explain` names it.
    pub fn outcome(self) -> &'static str {
        match self {
            Self::Mtls | Self::Tls12 => "mtls",
            Self::Tls { .. } => "tls",
            Self::WrongServer { explained, .. } => explained,
            Self::Plaintext => "plaintext",
            Self::Refused { .. } => "refused",
        }
    }
}

fn mutual(row: &Row, seen: &Seen, version: &str) -> Vec<String> {
    let mut problems = answered(seen);
    problems.extend(nothing_in_clear(seen));
    // A caller that speaks TLS itself has a certificate of another workload.
    let by_itself = by_itself(row);
    let caller = if by_itself { workload(CERTIFICATE_OF) } else { Some(seen.caller) };
    let caller = caller.map(super::scenario::Workload::identity).unwrap_or_default();
    let callee = seen.callee.identity();
    problems.extend(side(CALLEE, seen.server.as_ref(), version, &callee, &caller));
    if !by_itself {
        problems.extend(side(CALLER, seen.client.as_ref(), version, &caller, &callee));
    }
    if let (Some(client), Some(server)) = (&seen.client, &seen.server)
        && (&client.cipher, &client.group) != (&server.cipher, &server.group)
    {
        problems.push("the two sidecars name different ciphers or groups".to_owned());
    }
    problems
}

fn side(who: &str, record: Option<&Record>, version: &str, local: &str, peer: &str) -> Vec<String> {
    let Some(record) = record else { return vec![format!("{who} lists no such connection")] };
    let mut problems = expect_outcome(who, record, "mtls");
    let checks = [
        ("TLS version", record.tls_version.as_deref(), version),
        ("own identity", record.local_id.as_deref(), local),
        ("peer's identity", record.peer_id.as_deref(), peer),
    ];
    for (what, found, wanted) in checks.into_iter().filter(|(_, found, wanted)| *found != Some(*wanted)) {
        problems.push(format!("{who}: {what} {}, not {wanted}", found.unwrap_or("unknown")));
    }
    if record.cipher.is_none() || record.group.is_none() {
        problems.push(format!("{who} names no cipher or no key-exchange group"));
    }
    problems
}

fn originated(seen: &Seen, client_certificate: bool) -> Vec<String> {
    let mut problems = answered(seen);
    problems.extend(nothing_in_clear(seen));
    match &seen.client {
        Some(record) => problems.extend(expect_outcome(CALLER, record, "tls")),
        None => problems.push("the caller's sidecar lists no such connection".to_owned()),
    }
    let tls = &seen.outcome.body["tls"];
    if tls["version"] != "TLSv1.3" {
        problems.push(format!("the server says {tls}"));
    }
    if tls["client"].is_string() != client_certificate {
        let not = if client_certificate { "no" } else { "a" };
        problems.push(format!("the server saw {not} client certificate"));
    }
    problems
}

fn plaintext(seen: &Seen) -> Vec<String> {
    let mut problems = answered(seen);
    if seen.clear.is_empty() {
        problems.push("the marker was not seen in clear".to_owned());
    }
    problems.extend(clear_elsewhere(seen));
    for (who, sidecar, record) in sides(seen) {
        match record {
            Some(record) => problems.extend(expect_outcome(who, record, "plaintext")),
            None if sidecar => problems.push(format!("{who} lists no such connection")),
            None => {}
        }
    }
    problems
}

fn refused(row: &Row, seen: &Seen, by: Refuser, code: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if seen.outcome.ok || !seen.outcome.body.is_null() {
        problems.push(format!("the application answered: {}", seen.outcome.body));
    }
    let record = match by {
        Refuser::Client => &seen.client,
        Refuser::Server => &seen.server,
    };
    match record {
        None => problems.push("no sidecar lists the refusal".to_owned()),
        Some(record) => {
            problems.extend(expect_outcome("who refuses", record, "refused"));
            if record.reason.as_deref() != Some(code) {
                problems.push(format!("the reason is {}, not {code}", record.reason.as_deref().unwrap_or("not given")));
            }
        }
    }
    for (who, sidecar, record) in sides(seen) {
        let told = record.is_some_and(|record| record.reason.is_some());
        if sidecar && !told && !(who == CALLER && by_itself(row)) {
            problems.push(format!("{who} gives no reason"));
        }
    }
    // What the caller sent in clear of its own accord was sent, whoever refuses it; nothing else may be.
    let sends_plaintext = by == Refuser::Server && matches!(row.by, By::Http | By::Tcp);
    problems.extend(if sends_plaintext { clear_elsewhere(seen) } else { nothing_in_clear(seen) });
    problems
}

fn by_itself(row: &Row) -> bool {
    matches!(row.by, By::Tls | By::Tls12)
}

const CALLER: &str = "the caller's sidecar";
const CALLEE: &str = "the callee's sidecar";

fn sides(seen: &Seen) -> [(&'static str, bool, Option<&Record>); 2] {
    [(CALLER, seen.caller.sidecar, seen.client.as_ref()), (CALLEE, seen.callee.sidecar, seen.server.as_ref())]
}

fn expect_outcome(who: &str, record: &Record, wanted: &str) -> Vec<String> {
    if record.outcome == wanted {
        return Vec::new();
    }
    let reason = record.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    vec![format!("{who} recorded {}{reason}, not {wanted}", record.outcome)]
}

fn answered(seen: &Seen) -> Vec<String> {
    if seen.outcome.ok {
        return Vec::new();
    }
    vec![format!("no good answer: {}", seen.outcome.error.as_deref().unwrap_or("it says nothing"))]
}

fn nothing_in_clear(seen: &Seen) -> Option<String> {
    let (flow, _) = seen.clear.first_key_value()?;
    Some(format!("the marker passed in clear: {flow}"))
}

/// The marker in clear between others than these two.
fn clear_elsewhere(seen: &Seen) -> Option<String> {
    let pair = [seen.caller, seen.callee].map(|workload| IpAddr::V4(address(workload.number)));
    let elsewhere = |ip: IpAddr| !pair.contains(&ip);
    let flow = seen.clear.keys().find(|flow| elsewhere(flow.from.ip()) || elsewhere(flow.to.ip()))?;
    Some(format!("the marker passed in clear where it should not: {flow}"))
}

//! What a person reads.

use mutua_lab::privilege::Privilege;
use mutua_lab::services::Totals;

use super::call::{Record, Seen};
use super::runner::Verdict;
use super::scenario::{Expect, LEGACY, Refuser, Row, Step};
use super::world::World;
use crate::output::{BAD, DIM, GOOD, HEAD, HINT, note, print};

/// Before anything is built.
pub(crate) fn heading(privilege: Privilege) {
    let rights = match privilege {
        Privilege::Root => "as root",
        Privilege::UserNamespace => "in a user namespace of its own",
    };
    note(&format!("{DIM}a mesh on this machine, {rights}: network namespaces, control plane, sidecars, services{DIM:#}"));
}

/// A step begins.
pub(crate) fn step(number: usize, step: &Step) -> anyhow::Result<()> {
    let Step { title, folder, remark, .. } = step;
    let [call, expected, observed, marker] = ["CALLER → CALLEE", "EXPECTED", "OBSERVED", "MARKER"];
    print(&format!(
        "\n{HEAD}{number}. {title}{HEAD:#}   {HINT}examples/demo/{folder}{HINT:#}\n   {DIM}{remark}\n    \
         {call:<41}{expected:<22}{observed:<35}{marker}{DIM:#}\n"
    ))
}

/// One call: expected, observed, and how it is known.
pub(crate) fn row(row: &Row, seen: &Seen, problems: &[String]) -> anyhow::Result<()> {
    let sign = sign(problems.is_empty());
    let call = format!("{} → {}", row.from, row.to);
    let clear = match (seen.clear.is_empty(), seen.outcome.ok) {
        (true, _) => "not in clear",
        (false, true) => "seen in clear",
        (false, false) => "sent in clear, not taken",
    };
    let mut text = format!("  {sign} {call:<41}{:<22}{:<35}{clear}\n", expected(row.expect), observed(row, seen));
    let mut lines = evidence(row, seen);
    if let Some(explained) = seen.explained.as_ref().filter(|explained| explained.outcome != "mtls") {
        lines.push(format!("why: {}", explained.why()));
    }
    for line in lines {
        text.push_str(&format!("      {DIM}{line}{DIM:#}\n"));
    }
    for problem in problems {
        text.push_str(&format!("      {BAD}{problem}{BAD:#}\n"));
    }
    print(&text)
}

fn sign(good: bool) -> String {
    if good { format!("{GOOD}✓{GOOD:#}") } else { format!("{BAD}✗{BAD:#}") }
}

fn expected(expect: Expect) -> String {
    match expect {
        Expect::Mtls => "mTLS".to_owned(),
        Expect::Tls12 => "mTLS, TLSv1.2".to_owned(),
        Expect::Tls { client_certificate: false } => "TLS (SIMPLE)".to_owned(),
        Expect::Tls { client_certificate: true } => "TLS (MUTUAL)".to_owned(),
        Expect::Plaintext => "plaintext".to_owned(),
        Expect::Refused { by: Refuser::Client, .. } | Expect::WrongServer { .. } => "refused by the caller".to_owned(),
        Expect::Refused { by: Refuser::Server, .. } => "refused by the callee".to_owned(),
    }
}

/// The record that says most: of who refuses, else of the caller.
fn telling<'a>(row: &Row, seen: &'a Seen) -> Option<&'a Record> {
    match row.expect {
        Expect::Refused { by: Refuser::Server, .. } => seen.server.as_ref().or(seen.client.as_ref()),
        _ => seen.client.as_ref().or(seen.server.as_ref()),
    }
}

fn observed(row: &Row, seen: &Seen) -> String {
    let answer = if seen.outcome.ok { "" } else { ", no answer" };
    match telling(row, seen) {
        Some(Record { outcome, reason: Some(reason), .. }) => format!("{outcome}: {reason}"),
        Some(record) => format!("{}{answer}", record.outcome),
        None if seen.outcome.ok => "answered".to_owned(),
        None => "no answer".to_owned(),
    }
}

/// What both sidecars say, in words.
fn evidence(row: &Row, seen: &Seen) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(record) = telling(row, seen) else { return seen.outcome.error.clone().into_iter().collect() };
    let tls: Vec<&str> = [&record.tls_version, &record.cipher, &record.group].into_iter().flatten().map(String::as_str).collect();
    // The list is the sidecar's own: its identity comes first at the caller, second at the callee.
    let (first, second) = match record.direction.as_str() {
        "inbound" => (&record.peer_id, &record.local_id),
        _ => (&record.local_id, &record.peer_id),
    };
    let ids = first.as_ref().zip(second.as_ref()).map(|(first, second)| format!("{first} → {second}"));
    let proof: Vec<String> = [tls.join(" "), ids.unwrap_or_default()].into_iter().filter(|part| !part.is_empty()).collect();
    lines.extend((!proof.is_empty()).then(|| proof.join("   ")));
    for (who, record) in [("caller", &seen.client), ("callee", &seen.server)] {
        if let Some(Record { reason: Some(reason), message, .. }) = record {
            lines.push(format!("at the {who}: {reason}: {}", message.as_deref().unwrap_or_default()));
        }
    }
    if !seen.outcome.ok {
        lines.push(format!("the application saw: {}", seen.outcome.error.as_deref().unwrap_or("nothing")));
    }
    lines
}

/// What one load counted.
pub(crate) fn load(name: &str, totals: &Totals) -> anyhow::Result<()> {
    let Totals { requests, failed, connections, .. } = totals;
    let sign = sign(*failed == 0);
    print(&format!("  {sign} {name:<55} {requests} requests over {connections} connections, {failed} failed\n"))
}

/// How often leaves were renewed meanwhile; the load comes next to it.
pub(crate) fn renewals(good: u64, failed: u64) -> anyhow::Result<()> {
    let sign = sign(failed == 0 && good > 0);
    print(&format!("  {sign} leaves of 20 s, renewed under load: {good} renewals, {failed} failed\n"))
}

/// What the sidecars need.
pub(crate) fn memory(command: &str, resident: &[u64]) -> anyhow::Result<()> {
    let (Some(least), Some(most)) = (resident.iter().min(), resident.iter().max()) else { return Ok(()) };
    let [least, most] = [least, most].map(|bytes| format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10));
    print(&format!("    {DIM}{} sidecars ({command}), {least} to {most} MB resident each{DIM:#}\n", resident.len()))
}

/// Before the load is counted.
pub(crate) fn load_heading() -> anyhow::Result<()> {
    print(&format!("\n{HEAD}Through all steps{HEAD:#}\n"))
}

/// The last line, after everything has ended.
pub(crate) fn verdict(verdict: &Verdict) -> anyhow::Result<()> {
    let Verdict { proven, failed, failures } = verdict;
    let mut text = String::from("\n");
    for failure in failures {
        text.push_str(&format!("{BAD}failed{BAD:#}: {failure}\n"));
    }
    let style = if *failed == 0 { GOOD } else { BAD };
    text.push_str(&format!("{style}{proven} proven, {failed} failed{style:#}\n"));
    print(&text)
}

/// The mesh stays up: how to look at it.
pub(crate) fn how_to_look(world: &World) -> anyhow::Result<()> {
    let mutua = world.program().display();
    let state = world.control_state();
    let state = state.display();
    print(&format!(
        "\n{HEAD}The mesh is up.{HEAD:#} It reads {config}; change the YAML there and watch.\n\n\
         {console}{DIM}what every sidecar runs{DIM:#}\n  {mutua} proxy-status --state {state}\n  {mutua} certs --state {state}\n\
         {DIM}why a connection is as it is{DIM:#}\n  {mutua} explain --state {state} --from shop/storefront --to catalog.shop:8080\n\
         {DIM}a call of your own: with a sidecar, and without{DIM:#}\n  {storefront} curl -s http://catalog.shop:8080/\n  \
         {legacy} curl -s http://catalog.shop:8080/\n\
         {DIM}the sidecar's metrics{DIM:#}\n  {storefront} curl -s http://127.0.0.1:15020/stats/prometheus\n\n\
         Ctrl-C ends it.\n",
        config = world.config().display(),
        console = world.console.map(|at| format!("{DIM}the console, for a browser{DIM:#}\n  http://{at}/\n")).unwrap_or_default(),
        storefront = world.enter("shop/storefront")?,
        legacy = world.enter(LEGACY)?,
    ))
}

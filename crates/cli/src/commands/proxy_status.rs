//! `mutua proxy-status`: what every proxy runs.

use std::process::ExitCode;

use serde::Deserialize;
use serde_json::Value;

use crate::api_client::Api;
use crate::output::{BAD, DIM, Format, HEAD, WARN, print, print_value, table};
use crate::when;

/// Arguments of `mutua proxy-status`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    api: Api,
    /// How the answer is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Proxies {
    generation: u64,
    phase: String,
    rejected: Option<String>,
    diagnostics: Vec<Diagnostic>,
    not_enforced: Vec<String>,
    proxies: Vec<Proxy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Proxy {
    workload: String,
    connected: bool,
    since: Option<String>,
    version: String,
    acknowledged: u64,
    current: bool,
    refused: Vec<Refused>,
    certificate: Option<Leaf>,
    open_connections: Option<u64>,
    drained_by_force: Option<u64>,
    refusals: Vec<Count>,
}

#[derive(Deserialize)]
struct Diagnostic {
    severity: String,
    object: String,
    file: String,
    line: u32,
    column: u32,
    path: String,
    message: String,
}

#[derive(Deserialize)]
struct Refused {
    r#type: String,
    generation: u64,
    error: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Leaf {
    not_after: String,
    renewals: u64,
    failed_renewals: u64,
}

#[derive(Deserialize)]
struct Count {
    code: String,
    direction: String,
    count: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let answer: Value = args.api.get("/api/v1/proxies")?;
    if args.output != Format::Table {
        print_value(&answer, args.output)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&text(&serde_json::from_value(answer)?))?;
    Ok(ExitCode::SUCCESS)
}

fn text(answer: &Proxies) -> String {
    let mut text = format!("{HEAD}Generation {}{HEAD:#} {DIM}({}){DIM:#}\n", answer.generation, phase(&answer.phase));
    if let Some(rejected) = &answer.rejected {
        text.push_str(&format!("{BAD}The newest configuration is not in force:{BAD:#} {rejected}\n"));
    }
    text.push_str(&passed_over(&answer.diagnostics));
    text.push('\n');
    let rows = answer.proxies.iter().map(row).collect();
    let headings =
        ["workload", "state", "since", "generation", "certificate ends", "renewals", "connections", "refused", "version"];
    text.push_str(&table(&headings, rows));
    for proxy in &answer.proxies {
        text.push_str(&details(proxy));
    }
    if !answer.not_enforced.is_empty() {
        text.push_str(&format!("\n{WARN}Read, but not enforced by Mutua:{WARN:#} {}\n", answer.not_enforced.join(", ")));
    }
    text
}

/// What was passed over though it seems to be meant: a document of no known kind.
fn passed_over(diagnostics: &[Diagnostic]) -> String {
    let warnings = || diagnostics.iter().filter(|one| one.severity == "warning" && one.object.is_empty());
    let line = |one: &Diagnostic| {
        format!("{WARN}Passed over:{WARN:#} {}:{}:{}: {}: {}\n", one.file, one.line, one.column, one.path, one.message)
    };
    let more = match warnings().count().saturating_sub(MOST_SHOWN) {
        0 => String::new(),
        more => format!("{DIM}… and {more} more documents; `mutua validate` lists them{DIM:#}\n"),
    };
    warnings().take(MOST_SHOWN).map(line).collect::<String>() + &more
}

/// So many documents that were passed over are shown.
const MOST_SHOWN: usize = 5;

fn phase(phase: &str) -> &str {
    match phase {
        "widen" => "a change is under way: receivers accept old and new",
        "switch" => "a change is under way: senders switch",
        _ => "in force",
    }
}

fn row(proxy: &Proxy) -> Vec<String> {
    let state = match (proxy.connected, &proxy.since) {
        (true, _) => "connected",
        (false, Some(_)) => "away",
        (false, None) => "never seen",
    };
    let generation = match (proxy.connected, proxy.refused.is_empty(), proxy.current) {
        (false, _, _) => "-".to_owned(),
        (true, false, _) => format!("{} REFUSED", proxy.acknowledged),
        (true, true, true) => format!("{} current", proxy.acknowledged),
        (true, true, false) => format!("{} behind", proxy.acknowledged),
    };
    let leaf = proxy.certificate.as_ref();
    vec![
        proxy.workload.clone(),
        state.to_owned(),
        proxy.since.as_deref().map_or_else(|| "-".to_owned(), when::ago),
        generation,
        leaf.map_or_else(|| "-".to_owned(), |leaf| when::left(&leaf.not_after)),
        leaf.map_or_else(|| "-".to_owned(), renewals),
        proxy.open_connections.map_or_else(|| "-".to_owned(), |count| count.to_string()),
        proxy.refusals.iter().map(|refusal| refusal.count).sum::<u64>().to_string(),
        if proxy.version.is_empty() { "-".to_owned() } else { proxy.version.clone() },
    ]
}

fn renewals(leaf: &Leaf) -> String {
    match leaf.failed_renewals {
        0 => leaf.renewals.to_string(),
        failed => format!("{} ({failed} failed)", leaf.renewals),
    }
}

fn details(proxy: &Proxy) -> String {
    let mut text = String::new();
    for refused in &proxy.refused {
        let (workload, kind, generation, error) = (&proxy.workload, &refused.r#type, refused.generation, &refused.error);
        text.push_str(&format!("\n{BAD}{workload} refuses {kind} of generation {generation}:{BAD:#} {error}\n"));
    }
    if let Some(forced @ 1..) = proxy.drained_by_force {
        text.push_str(&format!("\n{} cut {forced} connections whose time for draining was over\n", proxy.workload));
    }
    if !proxy.refusals.is_empty() {
        let counts: Vec<String> =
            proxy.refusals.iter().map(|refusal| format!("{} {} {}", refusal.count, refusal.direction, refusal.code)).collect();
        text.push_str(&format!("\n{} refused connections: {}\n", proxy.workload, counts.join(", ")));
    }
    text
}

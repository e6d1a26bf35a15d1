//! `mutua ca rotate`: changes the mesh's root, in stages, without a moment without trust.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use crate::api_client::Api;
use crate::output::{Format, GOOD, HEAD, WARN, note, print, print_value, table};
use crate::when;

/// How often the control plane is asked how far it is.
const LOOK: Duration = Duration::from_millis(300);
/// How long nothing is said about a wait.
const QUIET: Duration = Duration::from_secs(2);

/// Arguments of `mutua ca`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Change the root: trust the new one everywhere, renew every certificate, then let the old one go
    Rotate {
        /// Tell where a change stands, and whom it waits for
        #[arg(long, conflicts_with = "abort")]
        status: bool,
        /// Take a change back
        #[arg(long)]
        abort: bool,
        /// Return at once; the control plane goes on by itself
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        api: Api,
        /// How the answer is printed
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ca {
    roots: Vec<Root>,
    signer: String,
    rotation: Option<Rotation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Root {
    serial: String,
    subject: String,
    not_after: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rotation {
    phase: String,
    since: String,
    aborted: bool,
    waiting_for: Vec<Waiting>,
}

#[derive(Deserialize)]
struct Waiting {
    workload: String,
    reason: String,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Action::Rotate { status, abort, no_wait, api, output } = args.action;
    let answer: Value = match (status, abort) {
        (true, _) => api.get("/api/v1/ca")?,
        (false, true) => api.post("/api/v1/ca/abort", &serde_json::json!({}))?,
        (false, false) => api.post("/api/v1/ca/rotate", &serde_json::json!({}))?,
    };
    let answer = if status || no_wait { answer } else { wait(&api, answer)? };
    match output {
        Format::Table => print(&text(&Ca::deserialize(&answer)?))?,
        format => print_value(&answer, format)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits until no change is under way, telling whom it waits for.
fn wait(api: &Api, mut answer: Value) -> anyhow::Result<Value> {
    let (mut told, mut since) = (String::new(), Instant::now());
    loop {
        let Some(rotation) = Ca::deserialize(&answer)?.rotation else { return Ok(answer) };
        let now = sentence(&rotation);
        if now != told && (since.elapsed() > QUIET || told.is_empty()) {
            note(&now);
            told = now;
            since = Instant::now();
        }
        std::thread::sleep(LOOK);
        answer = api.get("/api/v1/ca")?;
    }
}

fn sentence(rotation: &Rotation) -> String {
    let stage = match (rotation.phase.as_str(), rotation.aborted) {
        ("trust", _) => "both roots are trusted; the old one signs",
        (_, false) => "the new root signs; certificates are renewed",
        (_, true) => "the old root signs again; certificates are renewed",
    };
    let waiting: Vec<String> =
        rotation.waiting_for.iter().take(10).map(|one| format!("{} ({})", one.workload, one.reason)).collect();
    match rotation.waiting_for.len() {
        0 => stage.to_owned(),
        count if count > waiting.len() => {
            format!("{stage}; waiting for {} and {} more", waiting.join(", "), count - waiting.len())
        }
        _ => format!("{stage}; waiting for {}", waiting.join(", ")),
    }
}

fn text(answer: &Ca) -> String {
    let row = |root: &Root| {
        let signs = if root.serial == answer.signer { "yes" } else { "no" };
        vec![root.serial.chars().take(12).collect(), root.subject.clone(), signs.to_owned(), when::left(&root.not_after)]
    };
    let mut text = table(&["root", "subject", "signs", "ends in"], answer.roots.iter().map(row).collect());
    text.push('\n');
    match &answer.rotation {
        None => text.push_str(&format!("{GOOD}No change of root is under way.{GOOD:#}\n")),
        Some(rotation) => {
            let for_ = when::ago(&rotation.since);
            text.push_str(&format!(
                "{WARN}A change of root is under way{WARN:#}, at this stage for {for_}: {}\n",
                sentence(rotation)
            ));
            text.push_str(&format!("{HEAD}mutua ca rotate --abort{HEAD:#} takes it back.\n"));
        }
    }
    text
}

//! `mutua diff`: what a change of manifests does to every connection and port.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context, bail};
use mutua_model::read::Inputs;
use mutua_policy::Engine;
use mutua_policy::compare::{Change, Comparison, compare};

use crate::input::valid;
use crate::output::{BAD, DIM, Format, GOOD, HEAD, WARN, print, print_value, table};

/// How many clients a line names.
const NAMED: usize = 3;

/// Arguments of `mutua diff`.
#[derive(clap::Args)]
pub struct Args {
    /// First the old manifests, then the new ones: a file, a folder, or REVISION:PATH of a git repository
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1)]
    files: Vec<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs the command: exit code 1 when something got weaker.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let [old, new] = &args.files[..] else { bail!("give -f twice: the old manifests, then the new ones") };
    let comparison = compare(&engine(old)?, &engine(new)?);
    match args.output {
        Format::Table => print(&text(&comparison))?,
        format => {
            let value = serde_json::json!({
                "weaker": comparison.is_weaker(), "edges": comparison.edges, "ports": comparison.ports
            });
            print_value(&value, format)?;
        }
    }
    Ok(if comparison.is_weaker() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn engine(path: &Path) -> anyhow::Result<Engine> {
    Ok(Engine::new(Arc::new(valid(&inputs(path)?)?)))
}

/// What is there under that name, else what git has.
fn inputs(path: &Path) -> anyhow::Result<Inputs> {
    let revision = path.to_str().filter(|_| !path.exists()).and_then(|text| text.split_once(':'));
    match revision {
        Some((revision, inner)) => from_git(revision, inner),
        None => Ok(Inputs::from_paths(&[path])?),
    }
}

fn from_git(revision: &str, path: &str) -> anyhow::Result<Inputs> {
    let inner = if path.is_empty() { "." } else { path };
    let names = git(&["ls-tree", "-r", "-z", "--name-only", revision, "--", inner])?;
    let manifest = |name: &&str| [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
    let mut texts = Vec::new();
    for name in names.split('\0').filter(manifest) {
        texts.push((format!("{revision}:{name}"), git(&["show", &format!("{revision}:./{name}")])?));
    }
    if texts.is_empty() {
        bail!("{revision}:{path}: no manifest there");
    }
    Ok(Inputs::from_texts(texts))
}

fn git(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("git").args(arguments).output().context("git cannot be started")?;
    if !output.status.success() {
        bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("not UTF-8")
}

fn text(comparison: &Comparison) -> String {
    if comparison.edges.is_empty() && comparison.ports.is_empty() {
        return format!("{GOOD}no connection and no port changes{GOOD:#}\n");
    }
    let mut text = String::new();
    if !comparison.edges.is_empty() {
        let rows = comparison.edges.iter().map(|edge| {
            let more = edge.from.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let from = edge.from[..edge.from.len().min(NAMED)].join(", ") + &more;
            vec![word(edge.change).to_owned(), from, edge.to.clone(), format!("{} → {}", edge.old.as_str(), edge.new.as_str())]
        });
        text.push_str(&format!("{HEAD}Connections{HEAD:#}\n{}\n", table(&["change", "from", "to", "outcome"], rows.collect())));
    }
    if !comparison.ports.is_empty() {
        let rows = comparison.ports.iter().map(|port| {
            let number = if port.port == 0 { "others".to_owned() } else { port.port.to_string() };
            vec![word(port.change).to_owned(), port.workload.clone(), number, format!("{} → {}", port.old, port.new)]
        });
        text.push_str(&format!("{HEAD}Ports{HEAD:#}\n{}\n", table(&["change", "workload", "port", "mode"], rows.collect())));
    }
    let verdict = match comparison.is_weaker() {
        true => format!("{BAD}weaker{BAD:#}"),
        false if comparison.edges.iter().any(|edge| edge.change == Change::Broken) => format!("{WARN}breaks connections{WARN:#}"),
        false => format!("{GOOD}nothing is weaker{GOOD:#}"),
    };
    text + &format!("{verdict} {DIM}({} connections, {} ports){DIM:#}\n", comparison.edges.len(), comparison.ports.len())
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Weaker => "weaker",
        Change::Broken => "broken",
        Change::Other => "other",
        Change::Opened => "opened",
        Change::Stronger => "stronger",
    }
}

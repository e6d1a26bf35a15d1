//! `mutua explain`: the decision for one connection, or the effective mode of a workload, and why.

mod text;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::ValueEnum;
use mutua_policy::{ConnectionQuery, Engine};
use serde_json::Value;

use crate::api_client::Api;
use crate::input::{Files, load_valid};
use crate::output::{Format, note, print, print_value};

/// Arguments of `mutua explain`.
#[derive(clap::Args)]
pub struct Args {
    /// The client: NAMESPACE/NAME, or KIND/NAMESPACE/NAME
    #[arg(long, value_name = "NAMESPACE/NAME", requires = "to", required_unless_present = "workload")]
    from: Option<String>,
    /// The destination as the client dials it: a name as Kubernetes resolves it, or an address; the port is the Service's
    #[arg(long, value_name = "HOST:PORT", requires = "from")]
    to: Option<String>,
    /// A subset of the destination's DestinationRule
    #[arg(long, value_name = "NAME", requires = "to")]
    subset: Option<String>,
    /// End with exit code 1 when the outcome differs
    #[arg(long, value_enum, value_name = "OUTCOME", requires = "to")]
    expect: Option<Expected>,
    /// The workload whose receiving side is explained
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["from", "to"])]
    workload: Option<String>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    api: Api,
    /// How the answer is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// An outcome to hold the answer against.
#[derive(Clone, Copy, ValueEnum)]
enum Expected {
    Mtls,
    Tls,
    Plaintext,
    Refused,
    Mixed,
}

impl Expected {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Tls => "tls",
            Self::Plaintext => "plaintext",
            Self::Refused => "refused",
            Self::Mixed => "mixed",
        }
    }
}

enum Question {
    Connection(ConnectionQuery),
    Workload(String),
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let question = match (args.from, args.to, args.workload) {
        (Some(from), Some(to), None) => Question::Connection(ConnectionQuery { from, to, subset: args.subset }),
        (None, None, Some(workload)) => Question::Workload(workload),
        _ => bail!("ask with --from and --to, or with --workload"),
    };
    let answer = if args.files.files.is_empty() { ask(&args.api, &question)? } else { compute(&args.files, &question)? };
    match (args.output, &question) {
        (Format::Table, Question::Connection(query)) => print(&text::connection(query, &answer)?)?,
        (Format::Table, Question::Workload(_)) => print(&text::workload(&answer)?)?,
        (format, _) => print_value(&answer, format)?,
    }
    let Some(expected) = args.expect else { return Ok(ExitCode::SUCCESS) };
    let outcome = answer["outcome"].as_str().unwrap_or_default();
    if outcome == expected.as_str() {
        return Ok(ExitCode::SUCCESS);
    }
    note(&format!("expected {}, the outcome is {outcome}", expected.as_str()));
    Ok(ExitCode::from(1))
}

/// Computes the answer from files.
fn compute(files: &Files, question: &Question) -> anyhow::Result<Value> {
    let engine = Engine::new(Arc::new(load_valid(&files.files)?.mesh));
    Ok(match question {
        Question::Connection(query) => serde_json::to_value(engine.explain_connection(query)?)?,
        Question::Workload(name) => serde_json::to_value(engine.explain_workload(name)?)?,
    })
}

/// Asks the running control plane.
fn ask(api: &Api, question: &Question) -> anyhow::Result<Value> {
    let path = match question {
        Question::Workload(name) => format!("/api/v1/explain?workload={}", encoded(name)),
        Question::Connection(query) => {
            let subset = query.subset.as_ref().map(|subset| format!("&subset={}", encoded(subset))).unwrap_or_default();
            format!("/api/v1/explain?from={}&to={}{subset}", encoded(&query.from), encoded(&query.to))
        }
    };
    api.get(&path)
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

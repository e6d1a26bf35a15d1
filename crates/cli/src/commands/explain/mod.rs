//! `mutua explain`: the decision for one connection, or the effective mode of a workload, and why.

mod change;
mod steps;
mod text;

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::ValueEnum;
use mutua_kubernetes::Cluster;
use mutua_model::Mesh;
use mutua_model::read::Inputs;
use mutua_policy::{ConnectionAnswer, ConnectionQuery, Engine, Outcome, QueryError, Step, WorkloadAnswer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api_client::Api;
use crate::input::{Files, asks_cluster, read_cluster, read_valid};
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
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with_all = ["from", "to", "subset", "expect"])]
    workload: Option<String>,
    /// Answer as if these files were applied too, and show what changes; may be given several times
    #[arg(long, value_name = "PATH")]
    assume: Vec<PathBuf>,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    cluster: Cluster,
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

impl From<Expected> for Outcome {
    fn from(expected: Expected) -> Self {
        match expected {
            Expected::Mtls => Self::Mtls,
            Expected::Tls => Self::Tls,
            Expected::Plaintext => Self::Plaintext,
            Expected::Refused => Self::Refused,
            Expected::Mixed => Self::Mixed,
        }
    }
}

enum Question {
    Connection(ConnectionQuery),
    Workload(String),
}

/// An answer, and with `--assume` the one without it (null when there was none).
#[derive(Serialize)]
struct Answered<T> {
    #[serde(flatten)]
    answer: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Option<T>>,
    #[serde(skip)]
    inputs: Option<Inputs>,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let question = match (args.from, args.to, args.workload) {
        (Some(from), Some(to), None) => Question::Connection(ConnectionQuery { from, to, subset: args.subset }),
        (None, None, Some(workload)) => Question::Workload(workload),
        _ => bail!("ask with --from and --to, or with --workload"),
    };
    let elsewhere = args.api.api.is_some() || args.api.state.is_some();
    let cluster = asks_cluster(&args.cluster, &args.files.files, elsewhere)?.then_some(&args.cluster);
    if cluster.is_none() && args.files.files.is_empty() && !args.assume.is_empty() {
        bail!("--assume needs what it is added to: files (-f) or a cluster (--kubernetes)");
    }
    let source = Source { files: &args.files.files, cluster, assume: &args.assume, api: &args.api };
    match question {
        Question::Workload(name) => {
            let ask = |engine: &Engine| engine.explain_workload(&name);
            let answered = source.answer(ask, &format!("/api/v1/explain?workload={}", encoded(&name)))?;
            show(&answered, args.output, |answered| {
                let before = answered.before.as_ref().map(|before| change::of_workload(before.as_ref(), &answered.answer));
                text::workload(&answered.answer, answered.inputs.as_ref()) + &before.unwrap_or_default()
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Question::Connection(query) => {
            let ask = |engine: &Engine| engine.explain_connection(&query);
            let answered = source.answer(ask, &path(&query))?;
            show(&answered, args.output, |answered| {
                let before = answered.before.as_ref().map(|before| change::of_connection(before.as_ref(), &answered.answer));
                text::connection(&query, &answered.answer, answered.inputs.as_ref()) + &before.unwrap_or_default()
            })?;
            Ok(held(args.expect, answered.answer.outcome))
        }
    }
}

/// Exit code 1 when the outcome is not the expected one.
fn held(expected: Option<Expected>, outcome: Outcome) -> ExitCode {
    let Some(expected) = expected.map(Outcome::from).filter(|expected| *expected != outcome) else { return ExitCode::SUCCESS };
    note(&format!("expected {}, the outcome is {}", expected.as_str(), outcome.as_str()));
    ExitCode::from(1)
}

fn show<T: Serialize>(answered: &Answered<T>, format: Format, text: impl FnOnce(&Answered<T>) -> String) -> anyhow::Result<()> {
    if format == Format::Table { print(&text(answered)) } else { print_value(answered, format) }
}

/// An answer with its reasons.
trait Traced {
    fn steps(&mut self) -> &mut Vec<Step>;
}

impl Traced for ConnectionAnswer {
    fn steps(&mut self) -> &mut Vec<Step> {
        &mut self.trace
    }
}

impl Traced for WorkloadAnswer {
    fn steps(&mut self) -> &mut Vec<Step> {
        &mut self.trace
    }
}

/// Where the answer comes from: files, a cluster, or without any the running control plane.
struct Source<'a> {
    files: &'a [PathBuf],
    cluster: Option<&'a Cluster>,
    assume: &'a [PathBuf],
    api: &'a Api,
}

impl Source<'_> {
    /// The mesh to compute with, unless the control plane is asked.
    fn read(&self) -> anyhow::Result<Option<(Inputs, Mesh)>> {
        match self.cluster {
            Some(cluster) => Ok(Some((Inputs::default(), read_cluster(cluster)?))),
            None if self.files.is_empty() => Ok(None),
            None => read_valid(self.files).map(Some),
        }
    }

    fn answer<T: DeserializeOwned + Traced>(
        &self,
        ask: impl Fn(&Engine) -> Result<T, QueryError>,
        path: &str,
    ) -> anyhow::Result<Answered<T>> {
        let Some((mut inputs, mut mesh)) = self.read()? else {
            return Ok(Answered { answer: self.api.get(path)?, before: None, inputs: None });
        };
        if self.assume.is_empty() {
            return Ok(Answered { answer: ask(&Engine::new(Arc::new(mesh)))?, before: None, inputs: Some(inputs) });
        }
        let before = ask(&Engine::new(Arc::new(mesh.clone()))).ok();
        let (assumed, more) = read_valid(self.assume)?;
        mesh.apply(more);
        let known: HashSet<String> = inputs.texts().map(|(name, _)| name.to_owned()).collect();
        let added: HashSet<String> = assumed.texts().map(|(name, _)| name.to_owned()).collect();
        inputs.extend(assumed);
        let mut answer = ask(&Engine::new(Arc::new(mesh)))?;
        for step in answer.steps() {
            step.assumed = added.contains(&step.file) && !known.contains(&step.file);
        }
        Ok(Answered { answer, before: Some(before), inputs: Some(inputs) })
    }
}

fn path(query: &ConnectionQuery) -> String {
    let subset = query.subset.as_ref().map(|subset| format!("&subset={}", encoded(subset))).unwrap_or_default();
    format!("/api/v1/explain?from={}&to={}{subset}", encoded(&query.from), encoded(&query.to))
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

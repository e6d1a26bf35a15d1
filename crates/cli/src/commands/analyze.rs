//! `mutua analyze`: resources against each other, and the explanation of every code.

mod list;
mod text;

use std::process::ExitCode;

use anyhow::bail;
use clap::ValueEnum;
use mutua_kubernetes::Cluster;
use mutua_model::Severity;
use mutua_model::read::Inputs;
use mutua_policy::findings::codes::{self, Code};
use mutua_policy::findings::{self, Asked, Finding};
use serde::Serialize;
use time::OffsetDateTime;

use crate::input::{Files, asks_cluster, from_paths, load, load_cluster, warn_of_passed_over};
use crate::output::{self, Format};

/// Arguments of `mutua analyze`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    cluster: Cluster,
    /// Explain every code that can be raised
    #[arg(long, conflicts_with_all = ["files", "ignore", "include", "fail_on"])]
    list: bool,
    /// End with exit code 1 from this severity on
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "error")]
    fail_on: FailOn,
    /// Leave out findings with this code; may be given several times, or as a list with commas
    #[arg(long, value_name = "CODE", value_delimiter = ',', value_parser = known_code)]
    ignore: Vec<&'static str>,
    /// Raise findings with this code too, which are left out otherwise (KIA1301); several as for --ignore
    #[arg(long, value_name = "CODE", value_delimiter = ',', value_parser = optional_code)]
    include: Vec<&'static str>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// The least severity that counts as "no".
#[derive(Clone, Copy, ValueEnum)]
enum FailOn {
    Error,
    Warning,
    Info,
}

impl FailOn {
    fn severity(self) -> Severity {
        match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Info => Severity::Info,
        }
    }
}

fn known_code(given: &str) -> Result<&'static str, String> {
    let found = codes::all().find(|code| code.code.eq_ignore_ascii_case(given.trim()));
    found.map(|code| code.code).ok_or_else(|| "no such code; `mutua analyze --list` explains them all".to_owned())
}

fn optional_code(given: &str) -> Result<&'static str, String> {
    let known = known_code(given)?;
    let optional: Vec<_> = codes::all().filter(|code| code.optional).map(|code| code.code).collect();
    let wrong = || format!("it is raised anyway; left out unless asked for: {}", optional.join(", "));
    optional.contains(&known).then_some(known).ok_or_else(wrong)
}

/// The answer for programs.
#[derive(Serialize)]
struct Answer<'a> {
    findings: &'a [Finding],
}

/// Runs the command: exit code 0 when nothing of the severity asked for was found, else 1.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.list {
        list::print(args.output)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (inputs, loaded) = if asks_cluster(&args.cluster, &args.files.files, false)? {
        (Inputs::default(), load_cluster(&args.cluster)?)
    } else if args.files.files.is_empty() {
        bail!(
            "nothing to analyze: name files or folders with -f, or - for standard input; --kubernetes reads a cluster, --list \
             explains the codes"
        );
    } else {
        let inputs = from_paths(&args.files.files)?;
        let loaded = load(&inputs)?;
        (inputs, loaded)
    };
    warn_of_passed_over(&loaded);
    let asked = Asked { now: Some(OffsetDateTime::now_utc().unix_timestamp()), include: args.include.clone() };
    let mut findings = findings::analyze_loaded(&loaded, &asked);
    findings.retain(|finding| !args.ignore.contains(&finding.code));
    match args.output {
        Format::Table => output::print(&text::report(&inputs, &loaded, &findings))?,
        format => output::print_value(&Answer { findings: &findings }, format)?,
    }
    let fails = findings.iter().any(|finding| finding.severity >= args.fail_on.severity());
    Ok(if fails { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// One code as programs read it.
#[derive(Serialize)]
struct Listed {
    code: &'static str,
    severity: Severity,
    title: &'static str,
    explanation: &'static str,
    advice: &'static str,
    optional: bool,
}

impl Listed {
    fn of(code: &Code) -> Self {
        let Code { code, severity, title, explanation, advice, optional } = *code;
        Self { code, severity, title, explanation, advice, optional }
    }
}

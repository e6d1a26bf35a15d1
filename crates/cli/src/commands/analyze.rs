//! `mutua analyze`.

use std::fmt::Write;
use std::process::ExitCode;

use mutua_policy::findings::codes::{CODES, Code};
use serde::Serialize;

use crate::output::{self, BAD, Format, HEAD, WARN};

/// Arguments of `mutua analyze`.
#[derive(clap::Args)]
pub struct Args {
    /// Explain every code that can be raised
    #[arg(long, required = true)]
    list: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One code as programs read it.
#[derive(Serialize)]
struct Listed {
    code: &'static str,
    severity: mutua_model::Severity,
    title: &'static str,
    explanation: &'static str,
    advice: &'static str,
}

/// Runs the command.
#[allow(clippy::needless_pass_by_value)]
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.output == Format::Table {
        output::print(&list())?;
    } else {
        let codes: Vec<_> = CODES.iter().map(listed).collect();
        output::print_value(&serde_json::json!({ "codes": codes }), args.output)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn listed(code: &Code) -> Listed {
    let Code { code, severity, title, explanation, advice } = *code;
    Listed { code, severity, title, explanation, advice }
}

fn list() -> String {
    let mut text = String::new();
    for code in CODES {
        let (style, severity) = match code.severity {
            mutua_model::Severity::Error => (BAD, "error"),
            mutua_model::Severity::Warning => (WARN, "warning"),
            mutua_model::Severity::Info => (output::DIM, "info"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{style}{severity}[{}]{style:#} {HEAD}{}{HEAD:#}\n  {}\n  fix: {}\n",
            code.code, code.title, code.explanation, code.advice
        );
    }
    text
}

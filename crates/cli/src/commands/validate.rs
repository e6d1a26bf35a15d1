//! `mutua validate`: each resource by itself, against its schema and Istio's semantic rules.

use std::process::ExitCode;

use anyhow::bail;
use mutua_model::read::Loaded;
use mutua_model::{Diagnostic, Severity};
use serde::Serialize;

use crate::input::{self, Files};
use crate::output::{BAD, DIM, Format, GOOD, HEAD, HINT, WARN, print, print_value};

/// Arguments of `mutua validate`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// The answer for programs.
#[derive(Serialize)]
struct Answer<'a> {
    valid: bool,
    errors: Vec<Finding<'a>>,
    warnings: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Finding<'a> {
    object: String,
    file: &'a str,
    line: u32,
    column: u32,
    path: &'a str,
    message: &'a str,
}

/// Runs the command: exit code 0 when everything is valid, 1 when something is not.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { files, output } = args;
    if files.files.is_empty() {
        bail!("nothing to validate: name files or folders with -f, or - for standard input");
    }
    let loaded = input::load(&files.files)?;
    match output {
        Format::Table => print(&report(&loaded))?,
        Format::Json | Format::Yaml => print_value(&answer(&loaded), output)?,
    }
    Ok(if loaded.is_valid() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn answer(loaded: &Loaded) -> Answer<'_> {
    Answer {
        valid: loaded.is_valid(),
        errors: loaded.errors().map(finding).collect(),
        warnings: loaded.warnings().map(finding).collect(),
    }
}

fn finding(diagnostic: &Diagnostic) -> Finding<'_> {
    Finding {
        object: diagnostic.object.as_ref().map(ToString::to_string).unwrap_or_default(),
        file: &diagnostic.place.file,
        line: diagnostic.place.line,
        column: diagnostic.place.column,
        path: &diagnostic.path,
        message: &diagnostic.message,
    }
}

/// For people: what is wrong, in the order of the files, and a closing line.
fn report(loaded: &Loaded) -> String {
    let mut text: String = loaded.diagnostics.iter().map(paragraph).collect();
    text.push_str(&summary(loaded));
    for (kind, number) in &loaded.passed_over {
        text.push_str(&format!("{DIM}passed over: {number} × {kind}{DIM:#}\n"));
    }
    text
}

fn paragraph(diagnostic: &Diagnostic) -> String {
    let (style, word) = match diagnostic.severity {
        Severity::Error => (BAD, "error"),
        Severity::Warning => (WARN, "warning"),
        Severity::Info => (DIM, "info"),
    };
    let mut text = format!("{style}{word}{style:#}: {HEAD}{}{HEAD:#}\n", diagnostic.message);
    text.push_str(&format!("  {HINT}-->{HINT:#} {}\n", diagnostic.place));
    if let Some(object) = &diagnostic.object {
        let field = if diagnostic.path.is_empty() { String::new() } else { format!(", {}", diagnostic.path) };
        text.push_str(&format!("      {object}{DIM}{field}{DIM:#}\n"));
    }
    text + "\n"
}

fn summary(loaded: &Loaded) -> String {
    let (errors, warnings) = (loaded.errors().count(), loaded.warnings().count());
    let read = format!("{} in {}", counted(loaded.objects, "object"), counted(loaded.texts, "file"));
    let warned = if warnings > 0 { format!(", {}", counted(warnings, "warning")) } else { String::new() };
    if errors > 0 {
        return format!("{BAD}invalid{BAD:#}: {}{warned} ({read})\n", counted(errors, "error"));
    }
    format!("{GOOD}valid{GOOD:#}: {read}{warned}\n")
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

//! `mutua validate`: each resource by itself, against its schema and Istio's semantic rules.

use std::process::ExitCode;

use anyhow::bail;
use mutua_model::read::{Inputs, Loaded};
use mutua_model::{Diagnostic, Severity};
use serde::Serialize;

use crate::input::{Files, from_paths, load};
use crate::output::{BAD, DIM, Format, GOOD, HINT, WARN, print, print_value};
use crate::paragraph::Paragraph;

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
    infos: Vec<Finding<'a>>,
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
    let inputs = from_paths(&files.files)?;
    let loaded = load(&inputs)?;
    match output {
        Format::Table => print(&report(&inputs, &loaded))?,
        Format::Json | Format::Yaml => print_value(&answer(&loaded), output)?,
    }
    Ok(if loaded.is_valid() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn answer(loaded: &Loaded) -> Answer<'_> {
    Answer {
        valid: loaded.is_valid(),
        errors: loaded.errors().map(finding).collect(),
        warnings: loaded.warnings().map(finding).collect(),
        infos: loaded.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Info).map(finding).collect(),
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

/// For people: what is wrong, in the order of the files, what is worth knowing, and a closing line.
fn report(inputs: &Inputs, loaded: &Loaded) -> String {
    let (infos, findings): (Vec<_>, Vec<_>) =
        loaded.diagnostics.iter().partition(|diagnostic| diagnostic.severity == Severity::Info);
    let mut text: String = findings.iter().take(MOST_SHOWN).map(|finding| Paragraph::of(finding).show(inputs)).collect();
    if findings.len() > MOST_SHOWN {
        text.push_str(&format!("{HINT}… and {} more; -o json shows all{HINT:#}\n\n", findings.len() - MOST_SHOWN));
    }
    for info in infos.iter().take(MOST_SHOWN) {
        let object = info.object.as_ref().map(|object| format!(" {object}:")).unwrap_or_default();
        text.push_str(&format!("{DIM}info: {}:{object} {}{DIM:#}\n", info.place, info.message));
    }
    for (kind, number) in &loaded.passed_over {
        text.push_str(&format!("{DIM}info: passed over {number} × {kind}{DIM:#}\n"));
    }
    text + &summary(loaded)
}

/// How many findings are shown to a person.
const MOST_SHOWN: usize = 200;

fn summary(loaded: &Loaded) -> String {
    let (errors, warnings) = (loaded.errors().count(), loaded.warnings().count());
    let read = format!("{} in {}", counted(loaded.objects, "object"), counted(loaded.texts, "file"));
    let warned = if warnings > 0 { format!(", {}", counted(warnings, "warning")) } else { String::new() };
    if errors > 0 {
        return format!("{BAD}invalid{BAD:#}: {}{warned} ({read})\n", counted(errors, "error"));
    }
    if loaded.objects == 0 {
        return format!("{WARN}nothing to check{WARN:#}: {read}{warned}\n");
    }
    format!("{GOOD}valid{GOOD:#}: {read}{warned}\n")
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

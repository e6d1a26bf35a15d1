//! `mutua check`: policy tests, expectations held against manifests.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use mutua_model::TlsVersion;
use mutua_model::read::expectations::{Expectation, PolicyTest};
use mutua_policy::{ConnectionQuery, Engine};
use serde::Serialize;

use crate::input::{Files, read_valid};
use crate::output::{BAD, DIM, Format, GOOD, HEAD, HINT, print, print_value};

/// Arguments of `mutua check`.
#[derive(clap::Args)]
pub struct Args {
    /// Policy tests: YAML with `expectations`, a list of from, to, expect and minimumVersion
    #[arg(required = true, value_name = "FILE")]
    tests: Vec<PathBuf>,
    #[command(flatten)]
    files: Files,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// The answer for programs.
#[derive(Serialize)]
struct Answer {
    passed: usize,
    failed: Vec<Failure>,
}

/// An expectation that does not hold.
#[derive(Serialize)]
struct Failure {
    file: String,
    line: u32,
    name: String,
    from: String,
    to: String,
    expected: String,
    actual: String,
    /// What decided, as `mutua explain` says.
    why: Vec<String>,
}

/// Runs the command: exit code 1 when an expectation does not hold.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut answer = Answer { passed: 0, failed: Vec::new() };
    for path in &args.tests {
        let test = PolicyTest::read(path)?;
        let files = if args.files.files.is_empty() { &test.files } else { &args.files.files };
        if files.is_empty() {
            bail!("{}: name the manifests with -f, or in the test's `files`", path.display());
        }
        let engine = Engine::new(Arc::new(read_valid(files)?.1));
        for expectation in &test.expectations {
            match hold(&engine, expectation)? {
                None => answer.passed += 1,
                Some(failure) => answer.failed.push(failure),
            }
        }
    }
    match args.output {
        Format::Table => print(&text(&answer))?,
        format => print_value(&answer, format)?,
    }
    Ok(if answer.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn hold(engine: &Engine, expectation: &Expectation) -> anyhow::Result<Option<Failure>> {
    let Expectation { place, name, from, to, subset, outcome, minimum_version } = expectation;
    let query = ConnectionQuery { from: from.clone(), to: to.clone(), subset: subset.clone() };
    let found = engine.explain_connection(&query).map_err(|error| anyhow::anyhow!("{place}: {error}"))?;
    let floor = engine.mesh().config.least_tls();
    let old = minimum_version.filter(|least| *least > floor);
    if found.outcome.as_str() == outcome && old.is_none() {
        return Ok(None);
    }
    let version = |version: TlsVersion| if version == TlsVersion::V1_3 { "TLSV1_3" } else { "TLSV1_2" };
    let with = |outcome: &str, least: Option<TlsVersion>| match least {
        Some(least) => format!("{outcome}, at least {}", version(least)),
        None => outcome.to_owned(),
    };
    let shown = found.trace.iter().map(|step| match (step.object.as_str(), step.file.as_str()) {
        ("", _) => step.effect.clone(),
        (object, "") => format!("{object}: {}", step.effect),
        (object, file) => format!("{object}: {} ({file}:{})", step.effect, step.line),
    });
    Ok(Some(Failure {
        file: place.file.to_string(),
        line: place.line,
        name: name.clone(),
        from: from.clone(),
        to: to.clone(),
        expected: with(outcome, *minimum_version),
        actual: with(found.outcome.as_str(), minimum_version.map(|_| floor)),
        why: shown.collect(),
    }))
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    for failure in &answer.failed {
        let name = if failure.name.is_empty() { String::new() } else { format!("{}: ", failure.name) };
        text.push_str(&format!("{BAD}failed{BAD:#}: {HEAD}{name}{} → {}{HEAD:#}\n", failure.from, failure.to));
        text.push_str(&format!("  {HINT}-->{HINT:#} {}:{}\n", failure.file, failure.line));
        text.push_str(&format!("  {BAD}- {}{BAD:#}\n  {GOOD}+ {}{GOOD:#}\n", failure.expected, failure.actual));
        for step in &failure.why {
            text.push_str(&format!("  {HINT}={HINT:#} {DIM}{step}{DIM:#}\n"));
        }
        text.push('\n');
    }
    let (passed, failed) = (answer.passed, answer.failed.len());
    let style = if failed == 0 { GOOD } else { BAD };
    text + &format!("{style}{}{style:#}: {passed} passed, {failed} failed\n", if failed == 0 { "ok" } else { "failed" })
}

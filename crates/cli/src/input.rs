//! `-f`: reading manifests for the commands that work on files.

use std::fmt;
use std::path::PathBuf;

use anyhow::bail;
use mutua_kubernetes::Cluster;
use mutua_model::read::{InputError, Inputs, Loaded};
use mutua_model::{Diagnostic, Mesh, Place};

use crate::output::{BAD, HINT, WARN, note, snippet, watched};

/// `-f`.
#[derive(clap::Args)]
pub struct Files {
    /// Files, folders (read recursively: .yaml, .yml, .json) and - for standard input; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub files: Vec<PathBuf>,
}

/// Reads manifests for commands that compute with them: they refuse what `mutua validate` refuses, and say on stderr
/// what was passed over though it seems to matter. The texts come back too, so that lines can be shown.
///
/// # Errors
/// A path that cannot be read, a text that is no YAML, and an input with errors: the message names the first resource
/// and how many more there are.
pub fn read_valid(paths: &[PathBuf]) -> anyhow::Result<(Inputs, Mesh)> {
    let inputs = from_paths(paths)?;
    let mesh = valid(&inputs)?;
    Ok((inputs, mesh))
}

/// Reads a cluster for commands that compute with it. Invalid objects are no part of the mesh, as for the control plane;
/// stderr says which.
///
/// # Errors
/// There is no way to the cluster, or it does not list a kind.
pub fn read_cluster(cluster: &Cluster) -> anyhow::Result<Mesh> {
    let loaded = load_cluster(cluster)?;
    let invalid: Vec<_> = loaded.errors().collect();
    for error in invalid.iter().take(MOST_WARNED) {
        note(&format!("{WARN}warning{WARN:#}: {}; it is left out", sentence(error)));
    }
    if invalid.len() > MOST_WARNED {
        note(&format!("{WARN}warning{WARN:#}: {} more are invalid and left out", invalid.len() - MOST_WARNED));
    }
    Ok(loaded.mesh)
}

/// Reads a cluster, and everything that is wrong with its objects.
///
/// # Errors
/// As [`read_cluster`].
pub fn load_cluster(cluster: &Cluster) -> anyhow::Result<Loaded> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(mutua_kubernetes::read(cluster))?)
}

/// Whether a cluster is asked: because it is named, or because kubectl has called and nothing else is named.
pub fn asks_cluster(cluster: &Cluster, files: &[PathBuf], elsewhere: bool) -> anyhow::Result<bool> {
    if cluster.is_meant() && !files.is_empty() {
        bail!("-f and a cluster exclude each other: name one of them");
    }
    Ok(cluster.is_meant() || (is_plugin() && files.is_empty() && !elsewhere))
}

/// Whether this runs as a plugin of kubectl, by the name that it was called by.
pub fn is_plugin() -> bool {
    let called = std::env::args_os().next().unwrap_or_default();
    PathBuf::from(called).file_stem().is_some_and(|name| name == "kubectl-mutua")
}

/// The texts of files and folders; a person who is to type them is told.
///
/// # Errors
/// A path that cannot be read.
pub fn from_paths(paths: &[PathBuf]) -> anyhow::Result<Inputs> {
    if watched() && paths.iter().any(|path| path.as_os_str() == "-") {
        note("reading standard input …");
    }
    Ok(Inputs::from_paths(paths)?)
}

/// Parses and checks texts.
///
/// # Errors
/// A text that is no YAML; a person is shown the line.
pub fn load(inputs: &Inputs) -> anyhow::Result<Loaded> {
    let (place, message) = match inputs.load() {
        Ok(loaded) => return Ok(loaded),
        Err(InputError::Syntax { place, message }) => (place, message),
        Err(error) => return Err(error.into()),
    };
    Err(Refused { sentence: format!("{place}: {message}"), lines: lines(inputs, &place) }.into())
}

/// The mesh of texts, as for [`read_valid`].
///
/// # Errors
/// As [`read_valid`].
pub fn valid(inputs: &Inputs) -> anyhow::Result<Mesh> {
    let loaded = load(inputs)?;
    warn_of_passed_over(&loaded);
    let errors: Vec<_> = loaded.errors().collect();
    let Some(first) = errors.first() else { return Ok(loaded.mesh) };
    let more = match errors.len() - 1 {
        0 => String::new(),
        more => format!("(and {more} more; `mutua validate` lists them)"),
    };
    let sentence = format!("{} {more}", sentence(first)).trim_end().to_owned();
    Err(Refused { sentence, lines: lines(inputs, &first.place) }.into())
}

/// The line of a place, with its mark.
fn lines(inputs: &Inputs, place: &Place) -> String {
    let margin = " ".repeat(place.line.to_string().len());
    let lines = snippet(inputs, (&place.file, place.line, place.column), BAD);
    lines.map_or_else(String::new, |lines| format!("\n{HINT}{margin} |{HINT:#}\n{}", lines.trim_end()))
}

/// An input that is refused.
#[derive(Debug)]
pub struct Refused {
    sentence: String,
    /// The line that is wrong, for a person; empty where it cannot be shown.
    pub lines: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Refused {}

/// Says on stderr which documents were passed over though they seem to be meant for us: an unknown kind of Istio, a
/// misspelt one of Kubernetes, a text that is no object.
pub fn warn_of_passed_over(loaded: &Loaded) {
    let passed_over: Vec<_> = loaded.warnings().filter(|warning| warning.object.is_none()).collect();
    for warning in passed_over.iter().take(MOST_WARNED) {
        note(&format!("{WARN}warning{WARN:#}: {}", sentence(warning)));
    }
    if passed_over.len() > MOST_WARNED {
        let more = passed_over.len() - MOST_WARNED;
        note(&format!("{WARN}warning{WARN:#}: {more} more were passed over; `mutua validate` lists them"));
    }
}

/// So many documents that were passed over are named.
const MOST_WARNED: usize = 10;

/// A diagnostic in one line: place, object, field, message.
#[must_use]
pub fn sentence(diagnostic: &Diagnostic) -> String {
    let mut text = diagnostic.place.to_string();
    match &diagnostic.object {
        // What no text holds has its name in the place of a file.
        Some(object) if diagnostic.place.line == 0 => text = format!("{object} is invalid"),
        Some(object) => text.push_str(&format!(": {object} is invalid")),
        None => {}
    }
    if !diagnostic.path.is_empty() {
        text.push_str(&format!(": {}", diagnostic.path));
    }
    text + ": " + &diagnostic.message
}

//! `-f`: reading manifests for the commands that work on files.

use std::path::PathBuf;

use anyhow::bail;
use mutua_model::Diagnostic;
use mutua_model::read::{Inputs, Loaded};

use crate::output::watched;

/// `-f`.
#[derive(clap::Args)]
pub struct Files {
    /// Files, folders (read recursively: .yaml, .yml, .json) and - for standard input; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub files: Vec<PathBuf>,
}

/// Reads and checks manifests.
///
/// # Errors
/// A path that cannot be read, or a text that is no YAML: the call ends with exit code 2 and one message.
pub fn load(paths: &[PathBuf]) -> anyhow::Result<Loaded> {
    if watched() && paths.iter().any(|path| path.as_os_str() == "-") {
        crate::output::note("reading standard input …");
    }
    Ok(Inputs::from_paths(paths)?.load()?)
}

/// As [`load`], for commands that compute with what was read: they refuse what `mutua validate` refuses.
///
/// # Errors
/// As [`load`], and an input with errors; the message names the first resource and how many more there are.
pub fn load_valid(paths: &[PathBuf]) -> anyhow::Result<Loaded> {
    let loaded = load(paths)?;
    let errors: Vec<_> = loaded.errors().collect();
    let Some(first) = errors.first() else { return Ok(loaded) };
    let more = match errors.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more; `mutua validate` lists them)"),
    };
    bail!("{}{more}", sentence(first));
}

/// A diagnostic in one line: place, object, field, message.
#[must_use]
pub fn sentence(diagnostic: &Diagnostic) -> String {
    let mut text = diagnostic.place.to_string();
    if let Some(object) = &diagnostic.object {
        text.push_str(&format!(": {object} is invalid"));
    }
    if !diagnostic.path.is_empty() {
        text.push_str(&format!(": {}", diagnostic.path));
    }
    text + ": " + &diagnostic.message
}

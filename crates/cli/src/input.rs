//! `-f`: reading manifests for the commands that work on files.

use std::path::PathBuf;

use anyhow::bail;
use mutua_model::read::Inputs;
use mutua_model::{Diagnostic, Mesh};

use crate::output::watched;

/// `-f`.
#[derive(clap::Args)]
pub struct Files {
    /// Files, folders (read recursively: .yaml, .yml, .json) and - for standard input; may be given several times
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub files: Vec<PathBuf>,
}

/// Reads manifests for commands that compute with them: they refuse what `mutua validate` refuses. The texts come back
/// too, so that lines can be shown.
///
/// # Errors
/// A path that cannot be read, a text that is no YAML, and an input with errors: the message names the first resource
/// and how many more there are.
pub fn read_valid(paths: &[PathBuf]) -> anyhow::Result<(Inputs, Mesh)> {
    if watched() && paths.iter().any(|path| path.as_os_str() == "-") {
        crate::output::note("reading standard input …");
    }
    let inputs = Inputs::from_paths(paths)?;
    let loaded = inputs.load()?;
    let errors: Vec<_> = loaded.errors().collect();
    let Some(first) = errors.first() else { return Ok((inputs, loaded.mesh)) };
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

//! `mutua demo`.

use std::process::ExitCode;

/// Arguments of `mutua demo`.
#[derive(clap::Args)]
pub struct Args {}

/// Runs the command.
#[allow(clippy::needless_pass_by_value)]
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}

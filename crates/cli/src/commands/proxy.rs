//! `mutua proxy`.

use std::process::ExitCode;

/// Arguments of `mutua proxy`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: mutua_proxy::Settings,
}

/// Runs the command.
#[allow(clippy::needless_pass_by_value)]
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    crate::logging::start();
    mutua_proxy::run(&args.settings)?;
    Ok(ExitCode::SUCCESS)
}

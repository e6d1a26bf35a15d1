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
    let filter = tracing_subscriber::EnvFilter::try_from_env("MUTUA_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    mutua_proxy::run(&args.settings)?;
    Ok(ExitCode::SUCCESS)
}

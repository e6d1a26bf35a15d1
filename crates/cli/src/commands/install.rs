//! `mutua install`: the manifests of a control plane, for `kubectl apply -f -`.

use std::process::ExitCode;

use mutua_kubernetes::install::{Settings, manifests};

use crate::output::print;

/// Arguments of `mutua install`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let documents: Vec<String> = manifests(&args.settings).iter().map(super::inject::yaml).collect();
    print(&documents.join("---\n"))?;
    Ok(ExitCode::SUCCESS)
}

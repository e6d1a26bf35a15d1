//! `mutua token create`: a one-time token with which one workload joins a standalone mesh.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use serde::{Deserialize, Serialize};

use crate::api_client::Api;
use crate::output::print;

/// Arguments of `mutua token`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Print a token with which the workload NAMESPACE/NAME joins once
    Create {
        /// The workload, as NAMESPACE/NAME
        workload: String,
        /// The control plane's state folder
        #[arg(long, env = "MUTUA_STATE", value_name = "DIR")]
        state: PathBuf,
        /// How long the token may be used, in seconds
        #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
        ttl: u64,
    },
}

#[derive(Serialize)]
struct TokenRequest {
    workload: String,
    ttl_seconds: u64,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: String,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Action::Create { workload, state, ttl } = args.action;
    if workload.split('/').filter(|part| !part.is_empty()).count() != 2 {
        bail!("{workload}: a workload is written NAMESPACE/NAME, like shop/frontend");
    }
    let api = Api { api: None, state: Some(state) };
    let answer: TokenAnswer = api.post("/api/v1/tokens", &TokenRequest { workload, ttl_seconds: ttl })?;
    print(&format!("{}\n", answer.token))?;
    Ok(ExitCode::SUCCESS)
}

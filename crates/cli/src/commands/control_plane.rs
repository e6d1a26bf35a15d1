//! `mutua control-plane`: a mesh's control plane, from a folder of YAML or a Kubernetes cluster.

use std::process::ExitCode;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::logging;

/// Arguments of `mutua control-plane`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: mutua_kubernetes::Cluster,
    #[command(flatten)]
    settings: mutua_control::settings::Settings,
    #[command(flatten)]
    ports: mutua_kubernetes::ports::Ports,
}

/// Runs the command, until SIGINT or SIGTERM.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.ports.any() && !args.cluster.is_meant() {
        bail!("--webhooks, --monitoring and --readiness are for a mesh on Kubernetes: --kubernetes is missing");
    }
    logging::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads for the control plane")?;
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        cancel_on_signal(shutdown.clone())?;
        if args.cluster.is_meant() {
            Box::pin(mutua_kubernetes::run(&args.cluster, args.settings, &args.ports, shutdown)).await?;
        } else {
            Box::pin(mutua_control::run(args.settings, shutdown)).await?;
        }
        anyhow::Ok(())
    });
    // Reading a folder may hang on a dead file system; it does not hold up the end.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

fn cancel_on_signal(shutdown: CancellationToken) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
        shutdown.cancel();
    });
    Ok(())
}

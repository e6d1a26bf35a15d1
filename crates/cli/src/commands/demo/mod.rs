//! `mutua demo`: the whole mesh on this machine, and a proof of each mode on the wire.
//!
//! [`scenario`] holds what there is and what is expected, as values; [`world`] builds it; [`runner`] walks through the
//! steps; [`call`] makes one call and gathers the evidence; [`judge`] compares the two; [`report`] prints.

mod ask;
mod call;
mod files;
mod judge;
mod progress;
mod report;
mod runner;
mod scenario;
mod world;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use mutua_lab::privilege;

use crate::output::note;
use runner::Verdict;
use world::World;

/// Arguments of `mutua demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Walk through the steps, print the verdict, and end: exit code 0 when everything is proven, else 1
    #[arg(long)]
    once: bool,
    /// Where the console is reached with a browser of this machine: a loopback address
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:20001", value_parser = loopback)]
    console: SocketAddr,
    /// Keep the logs of all processes in this folder
    #[arg(long, value_name = "DIR")]
    logs: Option<std::path::PathBuf>,
}

/// The console answers without authentication, so only to this machine.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "an address and a port are needed, like 127.0.0.1:20001".to_owned())?;
    if address.ip().is_loopback() { Ok(address) } else { Err(format!("{} is not a loopback address", address.ip())) }
}

/// Set once somebody asks us to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether somebody has asked.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Listens for Ctrl-C and SIGTERM in a thread of its own.
    fn listen() -> anyhow::Result<Self> {
        let stop = Self::default();
        let asked = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = move || {
            runtime.block_on(async {
                let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
                tokio::select! {
                    result = tokio::signal::ctrl_c() => result,
                    _ = terminate.recv() => Ok(()),
                }
            })
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            // Without a way to hear signals they keep their meaning: the process ends.
            if signals().is_ok() {
                asked.0.store(true, Ordering::Relaxed);
            }
        })?;
        Ok(stop)
    }
}

/// Runs the command.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // A user namespace can only be entered while there is one thread.
    let privilege = privilege::gain().context("the demo makes network namespaces of its own")?;
    privilege::ensure_tools().context("the demo needs ip and nft")?;
    let stop = Stop::listen()?;
    report::heading(privilege);
    let mut world = World::build()?;
    if !args.once {
        world.show_console(args.console);
    }
    let walked = world.start(&stop).and_then(|()| runner::walk(&mut world, &stop));
    let verdict = match walked {
        Ok(verdict) => finish(args, &mut world, verdict, &stop)?,
        Err(error) if stop.asked() => {
            note(&format!("stopped: {error}"));
            Verdict::default()
        }
        Err(error) => {
            world.print_last_words();
            world.keep_logs(args.logs.as_deref());
            return Err(error);
        }
    };
    world.keep_logs(args.logs.as_deref());
    let verdict = world.end(verdict);
    report::verdict(&verdict)?;
    Ok(if verdict.failed == 0 && verdict.proven > 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Keeps the mesh up until somebody asks to end it, unless it was to run once; then the load is counted.
fn finish(args: &Args, world: &mut World, mut verdict: Verdict, stop: &Stop) -> anyhow::Result<Verdict> {
    if !args.once && !stop.asked() {
        runner::rest(world, stop)?;
        report::verdict(&verdict)?;
        report::how_to_look(world)?;
        while !stop.asked() {
            std::thread::sleep(Duration::from_millis(100));
        }
        note("stopping");
    }
    runner::count_load(world, &mut verdict)?;
    Ok(verdict)
}

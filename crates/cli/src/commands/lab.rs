//! `mutua lab`: the sample programs of the laboratory, as processes of their own.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use mutua_lab::Marker;
use mutua_lab::services::{Call, Load, MeshClient, Partner, Shop, call, greet, load};

use crate::output::print;

mod hold;

/// Arguments of `mutua lab`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    program: Program,
}

#[derive(clap::Subcommand)]
enum Program {
    /// An HTTP service that calls its back ends for each request
    Shop {
        #[arg(long)]
        name: String,
        #[arg(long)]
        listen: SocketAddr,
        /// A back end's URL, repeatable
        #[arg(long)]
        call: Vec<String>,
    },
    /// A TCP service whose server speaks first
    Greet {
        #[arg(long)]
        listen: SocketAddr,
    },
    /// A TLS server outside the mesh
    Partner {
        /// Where its authority and the files for callers are kept
        #[arg(long)]
        folder: PathBuf,
        /// A name in its certificate, repeatable
        #[arg(long)]
        name: Vec<String>,
        /// Where it serves everybody
        #[arg(long)]
        simple: SocketAddr,
        /// Where it serves callers with a certificate
        #[arg(long)]
        mutual: SocketAddr,
    },
    /// One call; prints what came of it as JSON
    Call(CallArgs),
    /// Requests one after the other until standard input ends; prints totals as JSON
    Load {
        url: String,
        /// Milliseconds between two requests
        #[arg(long, default_value_t = 20)]
        pause: u64,
        /// Requests that one connection carries
        #[arg(long, default_value_t = 1)]
        per_connection: u32,
    },
    /// A small network that stands until it is killed
    Hold(hold::Args),
}

#[derive(clap::Args)]
struct CallArgs {
    url: String,
    /// Carried in the request; a random one when left out
    #[arg(long, value_parser = marker)]
    marker: Option<Marker>,
    /// Where a datagram goes when the call is over
    #[arg(long, requires = "sentinel_marker")]
    sentinel: Option<SocketAddr>,
    /// What that datagram carries
    #[arg(long, value_parser = marker)]
    sentinel_marker: Option<Marker>,
    /// For mesh://: the caller's certificate chain
    #[arg(long, requires_all = ["key", "roots"])]
    certificate: Option<PathBuf>,
    #[arg(long)]
    key: Option<PathBuf>,
    #[arg(long)]
    roots: Option<PathBuf>,
    #[arg(long, default_value = "cluster.local")]
    trust_domain: String,
    /// For mesh://: TLS 1.2 is the newest version offered
    #[arg(long)]
    tls12: bool,
}

fn marker(text: &str) -> Result<Marker, String> {
    Marker::at_start(text.as_bytes()).ok_or_else(|| "not a marker".to_owned())
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.program {
        Program::Shop { name, listen, call } => Shop { name, calls: call }.serve(listen).with_context(|| cannot(listen))?,
        Program::Greet { listen } => greet(listen).with_context(|| cannot(listen))?,
        Program::Partner { folder, name, simple, mutual } => Partner::new(&folder, &name)?.serve(simple, mutual)?,
        Program::Call(args) => return one_call(args),
        Program::Load { url, pause, per_connection } => {
            let load = Load { url, pause: Duration::from_millis(pause), per_connection };
            return until_input_ends(&load);
        }
        Program::Hold(args) => hold::run(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn cannot(listen: SocketAddr) -> String {
    format!("cannot listen on {listen}")
}

fn one_call(args: CallArgs) -> anyhow::Result<ExitCode> {
    let mesh = match (args.certificate, args.key, args.roots) {
        (Some(certificate), Some(key), Some(roots)) => {
            Some(MeshClient { certificate, key, roots, trust_domain: args.trust_domain, tls12: args.tls12 })
        }
        _ => None,
    };
    let marker = args.marker.unwrap_or_else(Marker::random);
    let outcome = call(&Call { url: args.url, marker, mesh, sentinel: args.sentinel.zip(args.sentinel_marker) });
    print(&(serde_json::to_string(&outcome)? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn until_input_ends(what: &Load) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    let at_end = Arc::clone(&stop);
    std::thread::spawn(move || {
        // Whatever ends standard input ends the load.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        at_end.store(true, Ordering::Relaxed);
    });
    let totals = load(what, &stop).map_err(anyhow::Error::msg)?;
    print(&(serde_json::to_string(&totals)? + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

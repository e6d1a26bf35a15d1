//! A small network with one service, which stands until it is killed: what is left of it then is what tests look at.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use mutua_lab::folder::StateFolder;
use mutua_lab::{Network, privilege};

use crate::output::print;

/// Arguments of `mutua lab hold`.
#[derive(clap::Args)]
pub struct Args {
    /// Where the state folder is made
    #[arg(long)]
    base: PathBuf,
}

/// Prints the state folder and the service's process id, and waits.
pub fn run(args: &Args) -> anyhow::Result<()> {
    privilege::gain()?;
    let folder = StateFolder::new(&args.base, "mutua-hold-")?;
    let mut network = Network::new(folder.path())?;
    let host = network.add("lab/held", Ipv4Addr::new(10, 91, 0, 10), "")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["lab", "shop", "--name", "held", "--listen", "0.0.0.0:8080"]);
    let service = host.namespace.spawn("held", &mut command)?;
    print(&format!("{} {}\n", folder.path().display(), service.id()))?;
    loop {
        std::thread::park();
    }
}

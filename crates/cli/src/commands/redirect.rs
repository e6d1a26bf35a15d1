//! `mutua redirect`: the capture rules of the network namespace it is run in.

use std::process::ExitCode;

use clap::ValueEnum;
use mutua_proxy::redirect::{self, Backend, Exempt, Open, Settings, State};

use crate::output::{DIM, GOOD, WARN, note, print};

/// Arguments of `mutua redirect`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Put the rules in place, replacing what stood there; a second call changes nothing
    Apply {
        #[command(flatten)]
        rules: Rules,
        /// Print what would be given to the tool, change nothing
        #[arg(long)]
        dry_run: bool,
        /// Close the TCP connections that were open before and so escape capture (without it they are only named)
        #[arg(long, conflicts_with = "dry_run")]
        close_existing: bool,
    },
    /// Whether the rules are in place and equal to these settings (exit code 1 if not)
    Check(Rules),
    /// Take the rules away
    Remove(Rules),
}

#[derive(clap::Args)]
struct Rules {
    /// The uid the sidecar runs as; its connections are not captured
    #[arg(long, default_value_t = redirect::PROXY_ID)]
    uid: u32,
    /// The gid the sidecar runs as; its connections are not captured
    #[arg(long, default_value_t = redirect::PROXY_ID)]
    gid: u32,
    /// Exempt sockets with this mark instead of an owner, as `mutua proxy --mark` sets it (decimal or 0x…)
    #[arg(long, value_name = "MARK", value_parser = mark, conflicts_with_all = ["uid", "gid"])]
    exempt_mark: Option<u32>,
    /// The sidecar's port for outbound connections
    #[arg(long, default_value_t = redirect::OUTBOUND_PORT, value_name = "PORT")]
    outbound_port: u16,
    /// The sidecar's port for inbound connections
    #[arg(long, default_value_t = redirect::INBOUND_PORT, value_name = "PORT")]
    inbound_port: u16,
    /// Inbound ports that are not captured
    #[arg(long, value_delimiter = ',', value_name = "PORT,…")]
    exclude_inbound_ports: Vec<u16>,
    /// Outbound ports that are not captured
    #[arg(long, value_delimiter = ',', value_name = "PORT,…")]
    exclude_outbound_ports: Vec<u16>,
    /// The tool that carries the rules
    #[arg(long, value_enum, default_value_t = Tool::Auto)]
    tool: Tool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Tool {
    /// nft where it is installed, else iptables
    Auto,
    Nft,
    Iptables,
}

fn mark(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    match parsed {
        Ok(0) => Err("0 is the mark of every unmarked socket".to_owned()),
        Ok(mark) => Ok(mark),
        Err(_) => Err("a number like 1337 or 0x539".to_owned()),
    }
}

impl Rules {
    fn settings(&self) -> Settings {
        Settings {
            exempt: self.exempt_mark.map_or(Exempt::Owner { uid: self.uid, gid: self.gid }, Exempt::Mark),
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_port,
            exclude_inbound_ports: self.exclude_inbound_ports.clone(),
            exclude_outbound_ports: self.exclude_outbound_ports.clone(),
            ipv6: redirect::machine_has_ipv6(),
        }
    }

    fn backend(&self) -> anyhow::Result<Backend> {
        Ok(match self.tool {
            Tool::Auto => Backend::detect()?,
            Tool::Nft => Backend::Nft,
            Tool::Iptables => Backend::Iptables,
        })
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Apply { rules, dry_run: true, .. } => {
            print(&redirect::plan(&rules.settings(), rules.backend()?))?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Apply { rules, close_existing, .. } => apply(&rules, close_existing),
        Action::Check(rules) => check(&rules),
        Action::Remove(rules) => {
            let backends = if matches!(rules.tool, Tool::Auto) { Backend::installed()? } else { vec![rules.backend()?] };
            for backend in backends {
                redirect::remove(&rules.settings(), backend)?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn apply(rules: &Rules, close_existing: bool) -> anyhow::Result<ExitCode> {
    let settings = rules.settings();
    redirect::apply(&settings, rules.backend()?)?;
    if !settings.ipv6 {
        note(&format!("{WARN}note{WARN:#}: this machine has no IPv6; IPv4 alone is captured"));
    }
    let open = match redirect::open_before(&settings) {
        Ok(open) => open,
        Err(error) if !close_existing => {
            note(&format!("{WARN}note{WARN:#}: connections that were open before escape capture and cannot be named: {error}"));
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(error.into()),
    };
    let left = if close_existing { redirect::close(&settings, &open)? } else { open.clone() };
    for connection in &open {
        let Open { local, peer, inbound } = connection;
        let (from, to) = if *inbound { (peer, local) } else { (local, peer) };
        let what = if left.contains(connection) { "was open before the rules and is not captured" } else { "closed" };
        note(&format!("{WARN}{from} to {to}{WARN:#}: {what}"));
    }
    match (left.is_empty(), close_existing) {
        (true, _) => Ok(ExitCode::SUCCESS),
        (false, true) => {
            note("these could not be closed: the kernel lacks CONFIG_INET_DIAG_DESTROY; restart their processes");
            Ok(ExitCode::from(1))
        }
        (false, false) => {
            note("close them with mutua redirect apply --close-existing, or restart their processes");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(rules: &Rules) -> anyhow::Result<ExitCode> {
    let backend = rules.backend()?;
    let (line, code) = match redirect::check(&rules.settings(), backend)? {
        State::InPlace => (format!("{GOOD}in place{GOOD:#} {DIM}({}){DIM:#}", backend.name()), ExitCode::SUCCESS),
        State::Absent => (format!("{WARN}absent{WARN:#}: mutua redirect apply puts the rules in place"), ExitCode::from(1)),
        State::Different(difference) => (format!("{WARN}different{WARN:#}: {difference}"), ExitCode::from(1)),
    };
    print(&(line + "\n"))?;
    Ok(code)
}

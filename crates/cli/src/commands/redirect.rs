//! `mutua redirect`: the capture rules of the network namespace it is run in.

use std::net::IpAddr;
use std::process::ExitCode;
use std::str::FromStr;

use clap::ValueEnum;
use ipnet::IpNet;
use mutua_proxy::dns::resolv_conf::ResolvConf;
use mutua_proxy::redirect::{self, Backend, Captured, Exempt, Interception, Open, Settings, State};

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
    /// How inbound connections are captured; as `mutua proxy --inbound-interception-mode`
    #[arg(long, value_enum, ignore_case = true, default_value_t, value_name = "MODE", env = "ISTIO_INBOUND_INTERCEPTION_MODE")]
    inbound_interception_mode: Interception,
    /// Whether questions to the name servers of /etc/resolv.conf go to the sidecar's DNS; as `mutua proxy --dns-capture`
    #[arg(long, value_name = "BOOL", env = "ISTIO_META_DNS_CAPTURE", default_value_t = true, action = clap::ArgAction::Set)]
    dns_capture: bool,
    /// Questions to all name servers go there, not only to those of /etc/resolv.conf
    #[arg(long)]
    capture_all_dns: bool,
    /// What is captured
    #[command(flatten)]
    scope: Scope,
    /// The tool that carries the rules
    #[arg(long, value_enum, default_value_t = Tool::Auto)]
    tool: Tool,
}

/// Istio's annotations `traffic.sidecar.istio.io/…`, by their names.
#[derive(clap::Args)]
struct Scope {
    /// Inbound ports that are captured: `*` for all, or a list, which may be empty
    #[arg(long, value_name = "PORT,…|*", default_value = "*", value_parser = captured::<u16>)]
    include_inbound_ports: Captured<u16>,
    /// Inbound ports that are not captured, when all others are
    #[arg(long, value_delimiter = ',', value_name = "PORT,…")]
    exclude_inbound_ports: Vec<u16>,
    /// Destinations that are captured: `*` for all, or addresses and prefixes
    #[arg(long, value_name = "CIDR,…|*", default_value = "*", value_parser = captured::<Prefix>)]
    include_outbound_ip_ranges: Captured<Prefix>,
    /// Destinations that are not captured
    #[arg(long, value_delimiter = ',', value_name = "CIDR,…")]
    exclude_outbound_ip_ranges: Vec<Prefix>,
    /// Outbound ports that are captured whatever the destination
    #[arg(long, value_delimiter = ',', value_name = "PORT,…")]
    include_outbound_ports: Vec<u16>,
    /// Outbound ports that are not captured
    #[arg(long, value_delimiter = ',', value_name = "PORT,…")]
    exclude_outbound_ports: Vec<u16>,
    /// Network interfaces on which nothing is captured
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", value_parser = interface)]
    exclude_interfaces: Vec<String>,
}

/// An address or a prefix.
#[derive(Clone, Copy, Debug)]
struct Prefix(IpNet);

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = text.parse::<IpAddr>().map(IpNet::from).ok();
        host.or_else(|| text.parse().ok()).map(Self).ok_or_else(|| format!("{text:?} is no address or prefix"))
    }
}

/// Reads `*` or a list.
fn captured<T: FromStr>(text: &str) -> Result<Captured<T>, String> {
    if text == "*" {
        return Ok(Captured::All);
    }
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let read =
        |word: &str| word.parse().map_err(|_| format!("{word:?}: write * or a list such as 80,443 or 10.0.0.0/8,fd00::/8"));
    words.map(read).collect::<Result<_, _>>().map(Captured::These)
}

/// A name that the packet tools take for nothing else.
fn interface(name: &str) -> Result<String, String> {
    let fits = (1..16).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte));
    if fits && !name.starts_with('-') { Ok(name.to_owned()) } else { Err(format!("{name:?} is no name of a network interface")) }
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
        let scope = &self.scope;
        let nets = |prefixes: &[Prefix]| prefixes.iter().map(|prefix| prefix.0).collect();
        let dns = match (self.dns_capture, self.capture_all_dns) {
            (false, _) => Captured::These(Vec::new()),
            (true, false) => Captured::These(ResolvConf::of_machine().servers),
            (true, true) => Captured::All,
        };
        Settings {
            dns,
            exempt: self.exempt_mark.map_or(Exempt::Owner { uid: self.uid, gid: self.gid }, Exempt::Mark),
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_port,
            interception: self.inbound_interception_mode,
            include_inbound_ports: scope.include_inbound_ports.clone(),
            exclude_inbound_ports: scope.exclude_inbound_ports.clone(),
            include_outbound_ranges: match &scope.include_outbound_ip_ranges {
                Captured::All => Captured::All,
                Captured::These(prefixes) => Captured::These(nets(prefixes)),
            },
            exclude_outbound_ranges: nets(&scope.exclude_outbound_ip_ranges),
            include_outbound_ports: scope.include_outbound_ports.clone(),
            exclude_outbound_ports: scope.exclude_outbound_ports.clone(),
            exclude_interfaces: scope.exclude_interfaces.clone(),
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
        State::Different(differences) => (format!("{WARN}different{WARN:#}:\n  {}", differences.join("\n  ")), ExitCode::from(1)),
    };
    print(&(line + "\n"))?;
    Ok(code)
}

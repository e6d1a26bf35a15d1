//! From rules to the kernel and back.

use super::tool::{find, run};
use super::{IPV4, IPV6, RedirectError, Settings, iptables, nft};

/// The tool that carries the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// nftables, preferred.
    Nft,
    /// iptables and ip6tables.
    Iptables,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The rules are present and equal to what the settings ask for.
    InPlace,
    /// There are no rules.
    Absent,
    /// There are rules, but not these; the first difference.
    Different(String),
}

const NFT: &str = "nft";
const FLAVOURS: [(&str, &str, super::Family); 2] =
    [("iptables-restore", "iptables-save", IPV4), ("ip6tables-restore", "ip6tables-save", IPV6)];
const SCRATCH: &str = "mutua_check";

impl Backend {
    /// The preferred tool of those installed.
    ///
    /// # Errors
    /// Neither is installed.
    pub fn detect() -> Result<Self, RedirectError> {
        Self::installed().map(|found| found[0])
    }

    /// Every tool installed here; what must be gone is looked for with each.
    ///
    /// # Errors
    /// None is installed.
    pub fn installed() -> Result<Vec<Self>, RedirectError> {
        let tools = [(Self::Nft, NFT), (Self::Iptables, "iptables-restore")];
        let found: Vec<Self> = tools.into_iter().filter(|(_, tool)| find(tool).is_some()).map(|(backend, _)| backend).collect();
        if found.is_empty() { Err(RedirectError::NoTool) } else { Ok(found) }
    }

    /// Its name, as a person writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables",
        }
    }
}

/// What [`apply`] would give to the tool.
#[must_use]
pub fn plan(settings: &Settings, backend: Backend) -> String {
    match backend {
        Backend::Nft => nft::script(settings),
        Backend::Iptables => flavours(settings)
            .map(|(restore, _, family)| {
                format!("# {restore} --noflush\n{}", iptables::restore(settings, family, &iptables::JUMPS))
            })
            .collect(),
    }
}

/// Puts the rules in place; what an earlier call left is replaced, and a second call changes nothing.
///
/// # Errors
/// The tool is missing, not permitted, or refuses.
pub fn apply(settings: &Settings, backend: Backend) -> Result<(), RedirectError> {
    match backend {
        Backend::Nft => {
            run(NFT, &["-f", "-"], &nft::script(settings))?;
        }
        Backend::Iptables => {
            for (restore, save, family) in flavours(settings) {
                let present = saved(save)?;
                let missing = |(table, jump): &&(&str, &str)| !present.iter().any(|(of, line)| of == table && line == jump);
                let jumps: Vec<(&str, &str)> = iptables::JUMPS.iter().filter(missing).copied().collect();
                run(restore, &["--noflush"], &iptables::restore(settings, family, &jumps))?;
            }
        }
    }
    if settings.ipv6 { inbound_source_ipv6() } else { Ok(()) }
}

/// Compares the rules of this network namespace with what the settings ask for.
///
/// # Errors
/// As [`apply`].
pub fn check(settings: &Settings, backend: Backend) -> Result<State, RedirectError> {
    match backend {
        Backend::Nft => check_nft(settings),
        Backend::Iptables => check_iptables(settings),
    }
}

/// Takes away the rules that this tool put in place; nothing to remove is fine.
///
/// # Errors
/// As [`apply`].
pub fn remove(settings: &Settings, backend: Backend) -> Result<(), RedirectError> {
    match backend {
        Backend::Nft => run(NFT, &["-f", "-"], &nft::drop_table(settings, nft::TABLE)).map(drop),
        Backend::Iptables => {
            for (restore, save, _) in flavours(settings) {
                let present = saved(save)?;
                if present.is_empty() {
                    continue;
                }
                run(restore, &["--noflush"], &iptables::removal(&present))?;
            }
            Ok(())
        }
    }
}

fn flavours(settings: &Settings) -> impl Iterator<Item = (&'static str, &'static str, super::Family)> {
    let ipv6 = settings.ipv6;
    FLAVOURS.into_iter().filter(move |(_, _, family)| ipv6 || *family == IPV4)
}

/// `::6`, from which the sidecar reaches the application over IPv6, must exist on loopback (127.0.0.6 exists always).
fn inbound_source_ipv6() -> Result<(), RedirectError> {
    if find("ip").is_none() {
        return Err(RedirectError::Missing { tool: "ip", package: "iproute2" });
    }
    let address = format!("{}/{}", IPV6.inbound_source, IPV6.host_prefix);
    match run("ip", &["-6", "addr", "replace", &address, "dev", "lo"], "") {
        // IPv6 is switched off in this namespace: there is nothing to reach, and nothing to capture.
        Err(RedirectError::Failed { message, .. }) if message.contains("IPv6 is disabled") => Ok(()),
        Err(RedirectError::NotPermitted { .. }) if ipv6_switched_off() => Ok(()),
        other => other.map(drop),
    }
}

fn ipv6_switched_off() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6").is_ok_and(|value| value.trim() == "1")
}

/// The kernel prints rules in words of its own; so the wanted rules are loaded beside ours in a dormant table, which
/// sees no packet, and the two listings are compared.
fn check_nft(settings: &Settings) -> Result<State, RedirectError> {
    let family = nft::family(settings);
    let list = |table: &str| run(NFT, &["-n", "-s", "list", "table", family, table], "");
    let present = match list(nft::TABLE) {
        Ok(text) => text,
        Err(RedirectError::Failed { message, .. }) if message.contains("No such file") => return Ok(State::Absent),
        Err(error) => return Err(error),
    };
    let wanted = format!("{}{}", nft::drop_table(settings, SCRATCH), nft::table(settings, SCRATCH, true));
    run(NFT, &["-f", "-"], &wanted)?;
    let expected = list(SCRATCH);
    run(NFT, &["-f", "-"], &nft::drop_table(settings, SCRATCH))?;
    Ok(compare(&significant(&expected?), &significant(&present)))
}

/// The lines that say what happens: without the table's own line and its flags.
fn significant(listing: &str) -> Vec<String> {
    let lines = listing.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("table "));
    lines.filter(|line| *line != "flags dormant").map(str::to_owned).collect()
}

fn check_iptables(settings: &Settings) -> Result<State, RedirectError> {
    let mut absent = true;
    for (_, save, family) in flavours(settings) {
        let present: Vec<String> = saved(save)?.into_iter().map(|(table, line)| format!("{table} {line}")).collect();
        if present.is_empty() {
            continue;
        }
        absent = false;
        let jumps = iptables::JUMPS.iter().map(|(table, jump)| format!("{table} {jump}"));
        let rules = iptables::rules(settings, family).into_iter().map(|(table, rule)| format!("{table} {rule}"));
        let mut expected: Vec<String> = jumps.chain(rules).collect();
        let mut present = present;
        // The order within a chain matters; the order of chains does not.
        expected.sort_by_key(|line| chain_of(line));
        present.sort_by_key(|line| chain_of(line));
        let state = compare(&expected, &present);
        if state != State::InPlace {
            return Ok(state);
        }
    }
    Ok(if absent { State::Absent } else { State::InPlace })
}

fn chain_of(line: &str) -> String {
    line.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn compare(expected: &[String], present: &[String]) -> State {
    if let Some(missing) = expected.iter().find(|line| !present.contains(line)) {
        return State::Different(format!("missing: {missing}"));
    }
    if let Some(extra) = present.iter().find(|line| !expected.contains(line)) {
        return State::Different(format!("not ours: {extra}"));
    }
    if expected != present {
        return State::Different("the rules stand in another order".to_owned());
    }
    State::InPlace
}

/// Our lines of `iptables-save`: (table, line).
fn saved(save: &'static str) -> Result<Vec<(&'static str, String)>, RedirectError> {
    let mut table = "";
    let mut lines = Vec::new();
    for line in run(save, &[], "")?.lines() {
        match line {
            "*nat" => table = "nat",
            "*filter" => table = "filter",
            line if line.starts_with('*') => table = "other",
            line if iptables::is_ours(line) => lines.push((table, line.trim_end().to_owned())),
            _ => {}
        }
    }
    Ok(lines)
}

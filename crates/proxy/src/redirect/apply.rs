//! From rules to the kernel and back.

use super::tool::{find, run};
use super::{IPV4, IPV6, RedirectError, Settings, iptables, nft, routes};

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
    /// There are rules, but not these; the differences.
    Different(Vec<String>),
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
    routes::apply(settings)?;
    if settings.ipv6 { inbound_source_ipv6() } else { Ok(()) }
}

/// Compares the rules of this network namespace with what the settings ask for.
///
/// # Errors
/// As [`apply`].
pub fn check(settings: &Settings, backend: Backend) -> Result<State, RedirectError> {
    let rules = match backend {
        Backend::Nft => check_nft(settings)?,
        Backend::Iptables => check_iptables(settings)?,
    };
    let routes = routes::differences(settings)?;
    Ok(match rules {
        State::InPlace if !routes.is_empty() => State::Different(routes),
        State::Different(differences) => State::Different([differences, routes].concat()),
        other => other,
    })
}

/// Takes away the rules that this tool put in place; nothing to remove is fine.
///
/// # Errors
/// As [`apply`].
pub fn remove(settings: &Settings, backend: Backend) -> Result<(), RedirectError> {
    routes::remove(settings)?;
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
    let (mut absent, mut differences) = (true, Vec::new());
    for (_, save, family) in flavours(settings) {
        let listing = run(save, &[], "")?;
        let mut present: Vec<String> = ours(&listing).into_iter().map(|(table, line)| format!("{table} {line}")).collect();
        let jumps = iptables::JUMPS.iter().map(|(table, jump)| format!("{table} {jump}"));
        let rules = iptables::rules(settings, family).into_iter().map(|(table, rule)| format!("{table} {rule}"));
        let mut expected: Vec<String> = jumps.chain(rules).collect();
        absent &= present.is_empty();
        // The order within a chain matters; the order of chains does not.
        expected.sort_by_key(|line| chain_of(line));
        present.sort_by_key(|line| chain_of(line));
        if let State::Different(found) = compare(&expected, &present) {
            differences.extend(found.into_iter().map(|found| format!("{}: {found}", family.nft)));
        }
        differences.extend(before_ours(&listing).into_iter().map(|line| format!("{}: before ours: {line}", family.nft)));
    }
    Ok(match (absent, differences.is_empty()) {
        (true, _) => State::Absent,
        (false, true) => State::InPlace,
        (false, false) => State::Different(differences),
    })
}

/// Rules of others that stand before the jump into our chains: what they decide never reaches ours.
fn before_ours(listing: &str) -> Vec<String> {
    let mut before: Vec<(&str, &str)> = Vec::new();
    let mut found = Vec::new();
    let mut table = "";
    for line in listing.lines() {
        if let Some(name) = line.strip_prefix('*') {
            (table, before) = (name, Vec::new());
        } else if let Some(chain) = line.strip_prefix("-A ").and_then(|rest| rest.split(' ').next()) {
            if iptables::JUMPS.contains(&(table, line.trim_end())) {
                found.extend(before.iter().filter(|(of, _)| *of == chain).map(|(_, line)| format!("{table} {line}")));
            }
            before.push((chain, line));
        }
    }
    found
}

fn chain_of(line: &str) -> String {
    line.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What differs, rule by rule: those that are missing, those that are not ours, and those that stand twice.
fn compare(expected: &[String], present: &[String]) -> State {
    let count = |lines: &[String], line: &String| lines.iter().filter(|one| *one == line).count();
    let mut differences = Vec::new();
    for (lines, others, what) in [(expected, present, "missing"), (present, expected, "not ours")] {
        let once = lines.iter().enumerate().filter(|(at, line)| !lines[..*at].contains(line)).map(|(_, line)| line);
        for line in once {
            if count(lines, line) > count(others, line) {
                let what = if count(others, line) > 0 { "stands more than once" } else { what };
                differences.push(format!("{what}: {line}"));
            }
        }
    }
    match differences.as_slice() {
        [] if expected == present => State::InPlace,
        [] => State::Different(vec!["the rules stand in another order".to_owned()]),
        _ => State::Different(differences),
    }
}

/// Our lines of `iptables-save`: (table, line).
fn saved(save: &'static str) -> Result<Vec<(&'static str, String)>, RedirectError> {
    Ok(ours(&run(save, &[], "")?))
}

fn ours(listing: &str) -> Vec<(&'static str, String)> {
    let mut table = "";
    let mut lines = Vec::new();
    for line in listing.lines() {
        match line {
            "*nat" => table = "nat",
            "*filter" => table = "filter",
            "*raw" => table = "raw",
            "*mangle" => table = "mangle",
            line if line.starts_with('*') => table = "other",
            line if iptables::is_ours(line) => lines.push((table, line.trim_end().to_owned())),
            _ => {}
        }
    }
    lines
}

//! What traffic is told apart by.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use mutua_wire::mesh::Flow;
use serde::{Deserialize, Serialize};

use crate::names::WorkloadName;
use crate::world::Snapshot;

/// The longest text taken from a report.
const MAX_TEXT: usize = 256;

/// Which end reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reporter {
    /// The caller's sidecar.
    Source,
    /// The called workload's sidecar.
    Destination,
}

/// Who is at one end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum Party {
    /// A workload of the mesh.
    Workload(WorkloadName),
    /// An address that no workload of the mesh has.
    Address(IpAddr),
    /// More of them than the reporting sidecar tells apart.
    Many,
}

impl Party {
    fn at(snapshot: &Snapshot, address: &str) -> Self {
        let Ok(address) = address.parse::<IpAddr>() else { return Self::Many };
        snapshot.member_at(address).map_or(Self::Address(address), |member| Self::Workload(member.name.clone()))
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Many => f.write_str("many"),
        }
    }
}

impl From<Party> for String {
    fn from(party: Party) -> Self {
        party.to_string()
    }
}

impl From<String> for Party {
    fn from(text: String) -> Self {
        let address = || IpAddr::from_str(&text).map_or(Self::Many, Self::Address);
        text.parse().map_or_else(|_| address(), Self::Workload)
    }
}

/// What was seen of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seen {
    /// Mutual TLS with mesh identities.
    Mtls,
    /// Other TLS: originated towards a server outside the mesh, or the application's own, passed through.
    Tls,
    /// Without TLS.
    Plaintext,
    /// Not served.
    Refused,
}

impl Seen {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "mtls" => Self::Mtls,
            "tls" => Self::Tls,
            "plaintext" => Self::Plaintext,
            "refused" | "" => Self::Refused,
            _ => return None,
        })
    }
}

/// What the connections of one edge have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeKey {
    /// Who opened them.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// Whose sidecar says so.
    pub reporter: Reporter,
    /// The host of the service; empty when none.
    pub service: String,
    /// The port: of the workload where the destination reports, of the service where the source does; 0 where there are
    /// too many.
    pub port: u16,
    /// What they were.
    pub seen: Seen,
    /// The code of `docs/reasons.md` for which they were refused or cut; empty for those that were served.
    pub reason: String,
    /// What the reporting end knows the other end's identity to be; empty when it showed none.
    pub peer_identity: String,
    /// `TLSv1.2` or `TLSv1.3`, when the reporting sidecar took part in it.
    pub tls_version: String,
    /// The cipher suite by its IANA name.
    pub cipher: String,
    /// The key-exchange group.
    pub group: String,
}

impl EdgeKey {
    /// The edge that a flow of `reporter`'s belongs to; `None` for what no sidecar of ours tells.
    #[must_use]
    pub fn of(snapshot: &Snapshot, reporter: &WorkloadName, flow: &Flow) -> Option<Self> {
        let (own, other) = (Party::Workload(reporter.clone()), Party::at(snapshot, &flow.peer_address));
        let (from, to, end) = match flow.direction.as_str() {
            "inbound" => (other, own, Reporter::Destination),
            "outbound" => (own, other, Reporter::Source),
            _ => return None,
        };
        Some(Self {
            from,
            to,
            reporter: end,
            service: bounded(&flow.service_host),
            port: u16::try_from(flow.port).ok()?,
            seen: Seen::parse(&flow.outcome)?,
            reason: bounded(&flow.reason),
            peer_identity: bounded(&flow.peer_identity),
            tls_version: bounded(&flow.tls_version),
            cipher: bounded(&flow.cipher),
            group: bounded(&flow.group),
        })
    }
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

//! Where workloads and services are found: by name, by host, by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use mutua_model::Kind;

use crate::engine::QueryError;
use crate::host;
use crate::service::Service;
use crate::workload::Workload;

/// Positions of workloads and services.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by_host: HashMap<String, Vec<usize>>,
    wildcard_hosts: Vec<usize>,
    by_address: HashMap<String, Vec<usize>>,
    /// Workloads by address.
    pub(crate) workload_at: HashMap<IpAddr, usize>,
    /// Workload, service that it is an endpoint of, and the endpoint's position there; sorted.
    selecting: Vec<(usize, usize, usize)>,
}

impl Names {
    pub(crate) fn new(workloads: &[Workload], services: &[Service]) -> Self {
        let mut names = Self::default();
        for (at, workload) in workloads.iter().enumerate() {
            for address in &workload.addresses {
                names.workload_at.entry(*address).or_insert(at);
            }
        }
        for (at, service) in services.iter().enumerate() {
            names.by_host.entry(service.host.clone()).or_default().push(at);
            if host::is_wildcard(&service.host) {
                names.wildcard_hosts.push(at);
            }
            let allocated = service.allocated.iter().flat_map(|allocated| allocated.texts());
            for address in service.addresses.iter().cloned().chain(allocated) {
                names.by_address.entry(address).or_default().push(at);
            }
            let endpoints = service.endpoints.iter().enumerate();
            names.selecting.extend(endpoints.filter_map(|(position, endpoint)| Some((endpoint.workload?, at, position))));
        }
        names.selecting.sort_unstable();
        names
    }

    /// Services of exactly that host, in order.
    pub(crate) fn of_host(&self, host: &str) -> &[usize] {
        self.by_host.get(host).map(Vec::as_slice).unwrap_or_default()
    }

    /// Services with a wildcard host.
    pub(crate) fn wildcards(&self) -> &[usize] {
        &self.wildcard_hosts
    }

    /// Services that are reached at an address.
    pub(crate) fn at_address(&self, address: &str) -> &[usize] {
        self.by_address.get(address).map(Vec::as_slice).unwrap_or_default()
    }

    /// The services that a workload is an endpoint of, with the endpoint's position, in order.
    pub(crate) fn services_of(&self, workload: usize) -> impl Iterator<Item = (usize, usize)> {
        let from = self.selecting.partition_point(|(known, ..)| *known < workload);
        let own = self.selecting[from..].iter().take_while(move |(known, ..)| *known == workload);
        own.map(|(_, service, position)| (*service, *position))
    }
}

/// The positions of a namespace's workloads.
pub(crate) fn of_namespace(workloads: &[Workload], namespace: &str) -> Range<usize> {
    let from = workloads.partition_point(|one| one.namespace.as_str() < namespace);
    from..from + workloads[from..].partition_point(|one| one.namespace == namespace)
}

/// The position of the workload of that name: `NAMESPACE/NAME` among pods and WorkloadEntries, then controllers, or
/// `KIND/NAMESPACE/NAME`.
pub(crate) fn position(workloads: &[Workload], name: &str) -> Result<usize, QueryError> {
    let parts: Vec<&str> = name.split('/').collect();
    let (kind, namespace, short) = match parts[..] {
        [namespace, short] => (None, namespace, short),
        [kind, namespace, short] => (Some(kind), namespace, short),
        _ => {
            let expected = "a workload is written NAMESPACE/NAME or KIND/NAMESPACE/NAME";
            return Err(QueryError::Malformed { given: name.to_owned(), expected });
        }
    };
    let of_namespace = of_namespace(workloads, namespace);
    let of_kind = |at: &usize| kind.is_none_or(|kind| kind.eq_ignore_ascii_case(workloads[*at].kind.as_str()));
    let from = of_namespace.start + workloads[of_namespace.clone()].partition_point(|one| one.name.as_str() < short);
    let named = (from..of_namespace.end).take_while(|at| workloads[*at].name == short);
    let found: Vec<usize> = named.filter(of_kind).collect();
    let itself = |at: &usize| matches!(workloads[*at].kind, Kind::Pod | Kind::WorkloadEntry);
    let first: Vec<usize> = found.iter().copied().filter(itself).collect();
    let found = if first.is_empty() { found } else { first };
    match found[..] {
        [one] => Ok(one),
        [] => Err(QueryError::UnknownWorkload { name: name.to_owned(), hint: hint(workloads, (namespace, short), of_namespace) }),
        _ => {
            let kinds = found.iter().map(|at| format!("a {}", workloads[*at].kind.as_str())).collect();
            Err(QueryError::Ambiguous { name: name.to_owned(), kinds })
        }
    }
}

fn hint(workloads: &[Workload], (namespace, name): (&str, &str), there: Range<usize>) -> String {
    let same_name = workloads.iter().find(|one| one.name == name && one.namespace != namespace);
    if let Some(other) = same_name {
        return format!("; did you mean {}?", other.full_name());
    }
    let mut there: Vec<&str> = workloads[there].iter().map(|one| one.name.as_str()).collect();
    there.dedup();
    let more = if there.len() > NAMED { format!(" and {} more", there.len() - NAMED) } else { String::new() };
    there.truncate(NAMED);
    match there.len() {
        0 => format!("; namespace {namespace} has none"),
        _ => format!("; namespace {namespace} has {}{more}", there.join(", ")),
    }
}

/// How many workloads a hint names.
const NAMED: usize = 10;

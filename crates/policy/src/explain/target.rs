//! What a connection is to: a service, a workload at its own address, or something the client's sidecar does not know.

use std::net::IpAddr;

use crate::engine::{Engine, QueryError};
use crate::service::Service;
use crate::workload::Workload;

/// What was dialled.
pub(super) enum Target<'e> {
    /// A port of a service (by position); only this endpoint when its own address was dialled.
    Service { service: &'e Service, position: usize, only: Option<usize> },
    /// A service that the client's sidecar does not see.
    Hidden { service: &'e Service, position: usize },
    /// A workload's own address.
    Direct { workload: usize },
    /// Nobody the mesh knows.
    Unknown,
}

/// Splits `HOST:PORT`, with brackets around IPv6 addresses.
pub(super) fn split(to: &str) -> Result<(String, u16), QueryError> {
    let expected = "a destination is written HOST:PORT, like reviews.shop:9080 or [fd00::1]:80";
    let wrong = || QueryError::Malformed { given: to.to_owned(), expected };
    let (host, port) = to.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(inner) => inner.parse::<IpAddr>().map_err(|_| wrong())?.to_string(),
        None => host.trim_end_matches('.').to_ascii_lowercase(),
    };
    if host.is_empty() || host.contains('/') || (bracketed.is_none() && host.contains(':')) {
        return Err(wrong());
    }
    Ok((host, port))
}

impl Engine {
    /// What `host` and `port` mean for a client.
    pub(super) fn target(&self, client: &Workload, host: &str, port: u16) -> Result<Target<'_>, QueryError> {
        match host.parse::<IpAddr>() {
            Ok(address) => self.by_address(client, address, port),
            Err(_) => self.by_name(client, host, port),
        }
    }

    fn by_name(&self, client: &Workload, host: &str, port: u16) -> Result<Target<'_>, QueryError> {
        let domain = &self.mesh().config.cluster_domain;
        let namespace = &client.namespace;
        // As the resolver of a pod tries them: the search domains, then the name itself.
        let searched = [
            format!("{host}.{namespace}.svc.{domain}"),
            format!("{host}.svc.{domain}"),
            format!("{host}.{domain}"),
            host.to_owned(),
        ];
        for name in &searched {
            let candidates = self.services_of_exact_host(name);
            if !candidates.is_empty() {
                return self.among(client, &candidates, port);
            }
        }
        let wide = self.services_covering(host);
        if wide.is_empty() { Ok(Target::Unknown) } else { self.among(client, &wide, port) }
    }

    fn by_address(&self, client: &Workload, address: IpAddr, port: u16) -> Result<Target<'_>, QueryError> {
        let candidates: Vec<&Service> = self.services_at(&address.to_string()).collect();
        if !candidates.is_empty() {
            return self.among(client, &candidates, port);
        }
        let in_prefix = |one: &&Service| one.addresses.iter().any(|text| holds(text, address));
        let prefixed: Vec<&Service> = self.services.iter().filter(|one| one.entry).filter(in_prefix).collect();
        if !prefixed.is_empty() {
            return self.among(client, &prefixed, port);
        }
        let Some(at) = self.names.workload_at.get(&address).copied() else { return Ok(Target::Unknown) };
        for (service, _) in self.services_of(at).filter(|(service, _)| service.headless) {
            let known = self.visible(client, &self.services_of_exact_host(&service.host), port);
            let declared = service.port(port).filter(|_| known.is_some_and(|known| std::ptr::eq(known, service)));
            if let Some((position, _)) = declared {
                return Ok(Target::Service { service, position, only: Some(at) });
            }
        }
        Ok(Target::Direct { workload: at })
    }

    /// What the sidecar of a client takes for `port` of the first host among `candidates` that it knows.
    fn among<'e>(&'e self, client: &Workload, candidates: &[&'e Service], port: u16) -> Result<Target<'e>, QueryError> {
        let position = |service: &Service| service.port(port).map(|(position, _)| position);
        let Some((first, at)) = candidates.iter().find_map(|service| Some((*service, position(service)?))) else {
            let mut declared: Vec<u16> =
                candidates.iter().flat_map(|service| service.ports.iter().map(|port| port.number)).collect();
            declared.sort_unstable();
            declared.dedup();
            return Err(QueryError::UnknownPort { service: candidates[0].host.clone(), port, declared });
        };
        // A client without sidecar sees whatever the cluster has.
        if !client.sidecar {
            return Ok(Target::Service { service: first, position: at, only: None });
        }
        let known = candidates.iter().find_map(|service| {
            let known = self.visible(client, &self.services_of_exact_host(&service.host), port)?;
            let asked = candidates.iter().any(|candidate| std::ptr::eq(*candidate, known));
            position(known).filter(|_| asked).map(|position| (known, position))
        });
        Ok(match known {
            Some((service, position)) => Target::Service { service, position, only: None },
            None => Target::Hidden { service: first, position: at },
        })
    }
}

fn holds(text: &str, address: IpAddr) -> bool {
    text.contains('/') && text.parse::<ipnet::IpNet>().is_ok_and(|prefix| prefix.contains(&address))
}

//! The addresses of endpoints that are given by name, as Envoy's `STRICT_DNS` keeps them: asked for on first use, then
//! kept current beside the connections for as long as they are used.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::message::{self, Kind, Said};
use super::resolv_conf::in_hosts;
use super::upstream::{Upstream, is_routed};

/// How long addresses are used when nothing says for how long (Istio's `dnsRefreshRate`), and at most and at least.
const REFRESH: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);
const SHORTEST: Duration = Duration::from_secs(1);
/// The pause after a failure; the last addresses are used meanwhile.
const RETRY: Duration = Duration::from_secs(5);
/// How long a name may go unused before it is forgotten.
const IDLE: Duration = Duration::from_secs(600);
/// How long a connection waits for a name that was never resolved.
const PATIENCE: Duration = Duration::from_secs(5);
/// Names that are kept current; more are asked for each time.
const MAX_NAMES: usize = 4096;

/// Resolves names with the name servers of this machine, and its hosts file.
#[derive(Clone, Debug)]
pub struct Resolver {
    upstream: Upstream,
    known: Arc<Mutex<HashMap<Arc<str>, Arc<Name>>>>,
}

/// A name that is kept current.
#[derive(Debug)]
struct Name {
    /// `None` until the first answer.
    addresses: watch::Sender<Option<Result<Arc<[IpAddr]>, String>>>,
    used: AtomicBool,
}

/// One answer about a name.
struct Answer {
    addresses: Arc<[IpAddr]>,
    good_for: Duration,
}

impl Resolver {
    /// One that asks these servers.
    #[must_use]
    pub fn new(upstream: Upstream) -> Self {
        Self { upstream, known: Arc::default() }
    }

    /// The addresses of `name` now. Only the first connection to a name waits for an answer.
    ///
    /// # Errors
    /// It has none, or no server says so in time.
    pub async fn resolve(&self, name: &Arc<str>) -> io::Result<Arc<[IpAddr]>> {
        let Some(kept) = self.keep(name) else { return Ok(self.ask_once(name).await?.addresses) };
        kept.used.store(true, Ordering::Relaxed);
        let mut addresses = kept.addresses.subscribe();
        let first = addresses.wait_for(Option::is_some);
        let found = match tokio::time::timeout(PATIENCE, first).await {
            Ok(Ok(found)) => found.clone(),
            _ => None,
        };
        match found {
            Some(Ok(addresses)) => Ok(addresses),
            Some(Err(error)) => Err(io::Error::other(error)),
            None => Err(late()),
        }
    }

    /// The addresses behind `HOST:PORT`, asked for now.
    ///
    /// # Errors
    /// As [`Resolver::resolve`].
    pub async fn lookup(&self, place: &str) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = place.parse() {
            return Ok(vec![address]);
        }
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "write it as HOST:PORT");
        let (host, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        if let Ok(ip) = host.trim_matches(['[', ']']).parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let answer = self.ask_once(host).await?;
        Ok(answer.addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect())
    }

    /// The name's entry, made and kept current from now on; `None` when there are too many.
    fn keep(&self, name: &Arc<str>) -> Option<Arc<Name>> {
        let mut known = self.lock();
        if let Some(kept) = known.get(name) {
            return Some(Arc::clone(kept));
        }
        if known.len() >= MAX_NAMES {
            return None;
        }
        let kept = Arc::new(Name { addresses: watch::Sender::new(None), used: AtomicBool::new(true) });
        known.insert(Arc::clone(name), Arc::clone(&kept));
        tokio::spawn(self.clone().refresh(Arc::clone(name), Arc::clone(&kept)));
        Some(kept)
    }

    async fn refresh(self, name: Arc<str>, kept: Arc<Name>) {
        let mut idle = Duration::ZERO;
        loop {
            let asked = self.ask(&name).await;
            let pause = asked.as_ref().map_or(RETRY, |answer| answer.good_for);
            kept.addresses.send_modify(|current| settle(current, asked));
            tokio::time::sleep(pause).await;
            idle = if kept.used.swap(false, Ordering::Relaxed) { Duration::ZERO } else { idle + pause };
            if idle >= IDLE {
                self.lock().remove(&name);
                return;
            }
        }
    }

    /// For whoever waits.
    async fn ask_once(&self, name: &str) -> io::Result<Answer> {
        tokio::time::timeout(PATIENCE, self.ask(name)).await.map_err(|_| late())?
    }

    /// The hosts file, then both families from the servers; with the search domains first where it is a name without dots, or
    /// that of a Kubernetes Service without the cluster's domain (`istiod.istio-system.svc`).
    async fn ask(&self, name: &str) -> io::Result<Answer> {
        let name = name.trim_end_matches('.');
        if name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost")) {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(Answer { addresses: loopback.into(), good_for: LONGEST });
        }
        let hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
        let found = in_hosts(&hosts, name);
        if !found.is_empty() {
            return Ok(Answer { addresses: found.into(), good_for: REFRESH });
        }
        let mut names = Vec::new();
        if !name.contains('.') || name.to_ascii_lowercase().ends_with(".svc") {
            names.extend(self.upstream.search().into_iter().map(|domain| format!("{name}.{domain}")));
        }
        names.push(name.to_owned());
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for name in names {
            match self.ask_servers(&name).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask_servers(&self, name: &str) -> io::Result<Answer> {
        let (four, six) = futures_util::join!(self.ask_kind(name, Kind::A), self.ask_kind(name, Kind::Aaaa));
        let ttl = [&four, &six].into_iter().flatten().filter(|(ips, _)| !ips.is_empty()).filter_map(|(_, ttl)| *ttl).min();
        // One family is enough; where both fail, the first error is told.
        let (mut addresses, error) = match (four, six) {
            (Err(error), Err(_)) => return Err(error),
            (four, six) => {
                let error = four.as_ref().err().or(six.as_ref().err()).map(ToString::to_string);
                let both = [four, six].into_iter().flatten();
                (both.flat_map(|(ips, _)| ips).filter(|ip| ip.is_ipv4() || is_routed(*ip)).collect::<Vec<_>>(), error)
            }
        };
        addresses.dedup();
        if addresses.is_empty() {
            let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            return Err(error.map_or_else(none, io::Error::other));
        }
        let good_for = ttl.filter(|ttl| *ttl > 0).map_or(REFRESH, |ttl| Duration::from_secs(ttl.into()));
        Ok(Answer { addresses: addresses.into(), good_for: good_for.clamp(SHORTEST, LONGEST) })
    }

    async fn ask_kind(&self, name: &str, kind: Kind) -> io::Result<(Vec<IpAddr>, Option<u32>)> {
        let unfit = || io::Error::new(io::ErrorKind::InvalidInput, "no name that DNS can carry");
        let query = message::question(fastrand::u16(..), name, kind).ok_or_else(unfit)?;
        let mut reply = self.upstream.exchange(&query, false).await?;
        if message::is_cut(&reply) {
            reply = self.upstream.exchange(&query, true).await?;
        }
        match message::said(&reply, &query) {
            Said::Addresses(ips, ttl) => Ok((ips, ttl)),
            Said::Failed => Err(io::Error::other("the name server does not know")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Name>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes over what was asked. A name that a server says to have no address loses its addresses; a server that fails changes
/// nothing.
fn settle(current: &mut Option<Result<Arc<[IpAddr]>, String>>, asked: io::Result<Answer>) {
    *current = Some(match asked {
        Ok(answer) => Ok(answer.addresses),
        Err(error) if error.kind() != io::ErrorKind::NotFound && matches!(current, Some(Ok(_))) => return,
        Err(error) => Err(error.to_string()),
    });
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no name server answers in time")
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;

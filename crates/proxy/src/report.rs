//! What the sidecar tells the control plane about itself, about once a second when something changed.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use mutua_identity::AnchorName;
use mutua_wire::mesh::mesh_report_client::MeshReportClient;
use mutua_wire::mesh::{Anchored, ProxyReport, Refusal, ServerFirst};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::certificate::Certificates;
use crate::control_plane::chain;
use crate::flows::Told;
use crate::sidecar::Sidecar;

/// Time between two looks at what changed.
const PERIOD: Duration = Duration::from_secs(1);
/// After this long it is told again, whether or not something changed: a report may have come too early to be taken.
const REFRESH: Duration = Duration::from_secs(10);
/// Pause after a failed stream.
const PAUSE: Duration = Duration::from_secs(5);
/// Ports of a report whose server speaks first.
const MAX_PORTS: usize = 64;
/// Trust anchors of a report; connections that hang on further ones are told of together.
const MAX_ANCHORS: usize = 16;

/// Sends reports until the connection ends. Returns why it ended: only when nobody reads them any more.
pub async fn send(sidecar: &Sidecar, certificates: &Certificates, channel: Channel) -> String {
    loop {
        let (reports, stream) = mpsc::channel(1);
        let mut client = MeshReportClient::new(channel.clone());
        let ended = tokio::select! {
            answer = client.report(ReceiverStream::new(stream)) => match answer {
                Ok(_) => "the control plane ended the reports".to_owned(),
                Err(status) => chain(&status),
            },
            () = gather(sidecar, certificates, reports) => "the reports ended".to_owned(),
        };
        tracing::debug!(error = ended, "reports are interrupted");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn gather(sidecar: &Sidecar, certificates: &Certificates, reports: mpsc::Sender<ProxyReport>) {
    let mut last: Option<ProxyReport> = None;
    let mut told = Instant::now();
    let mut flows = Told::default();
    loop {
        // First of all the discovery stream opens: of others the control plane takes no report.
        tokio::time::sleep(PERIOD).await;
        let Ok(permit) = reports.reserve().await else { return };
        let report = report(sidecar, certificates);
        let plain = ProxyReport { refusals: Vec::new(), ..report.clone() };
        let flows = flows.changed(sidecar);
        if !flows.is_empty() || !report.refusals.is_empty() || last.as_ref() != Some(&plain) || told.elapsed() >= REFRESH {
            permit.send(ProxyReport { flows, ..report });
            (last, told) = (Some(plain), Instant::now());
        }
    }
}

fn report(sidecar: &Sidecar, certificates: &Certificates) -> ProxyReport {
    let credentials = certificates.world.credentials();
    let status = certificates.status();
    let not_before = credentials.as_ref().map_or(0, |credentials| unix(credentials.not_before()));
    let not_after = credentials.as_ref().map_or(0, |credentials| unix(credentials.not_after()));
    let refusals = sidecar.refusals.take().into_iter().map(|(key, count)| Refusal {
        code: key.reason.code().to_owned(),
        direction: key.direction.as_str().to_owned(),
        peer_address: key.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        peer_identity: key.identity.unwrap_or_default(),
        port: u32::from(key.port),
        count: count.count,
        message: count.message,
    });
    ProxyReport {
        workload: certificates.workload.to_string(),
        proxy_version: env!("CARGO_PKG_VERSION").to_owned(),
        certificate_serial: credentials.map(|credentials| credentials.serial().to_owned()).unwrap_or_default(),
        certificate_not_before: not_before,
        certificate_not_after: not_after,
        renewals: status.renewals,
        failed_renewals: status.failed,
        last_renewal_error: status.last_error,
        clock_skew_ms: status.clock_skew_ms,
        refusals: refusals.collect(),
        open_connections: sidecar.connections.count() as u64,
        drained_by_force: sidecar.metrics.drained_by_force.load(Ordering::Relaxed),
        server_first: server_first(sidecar),
        anchored: anchored(sidecar.connections.anchored()),
        run: sidecar.flows.run(),
        flows: Vec::new(),
    }
}

/// What connections hang on, the most used anchors by name.
fn anchored(all: BTreeMap<Option<AnchorName>, (usize, SystemTime)>) -> Vec<Anchored> {
    let (mut named, mut others) = (Vec::new(), Anchored::default());
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(anchor, (count, _))| (anchor.is_none(), Reverse(*count)));
    for (anchor, (count, until)) in all {
        let (connections, until) = (small(count), unix(until));
        match anchor.filter(|_| named.len() < MAX_ANCHORS) {
            Some(anchor) => named.push(Anchored { anchor: anchor.to_string(), connections, until }),
            None => {
                others.connections = others.connections.saturating_add(connections);
                others.until = others.until.max(until);
            }
        }
    }
    named.extend(Some(others).filter(|others| others.connections > 0));
    named
}

fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn server_first(sidecar: &Sidecar) -> Vec<ServerFirst> {
    let ports = sidecar.greeters.ports().into_iter().take(MAX_PORTS);
    let one = |(port, first): (u16, crate::inbound::ServerFirst)| ServerFirst {
        port: port.into(),
        callers: small(first.callers),
        learned_callers: small(first.learned_callers),
    };
    ports.map(one).collect()
}

fn unix(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn roots(count: usize) -> Vec<AnchorName> {
        let one = |n: usize| {
            let folder = tempfile::tempdir().expect("a folder");
            let domain = mutua_identity::TrustDomain::new(&format!("d{n}.example")).expect("a domain");
            let ca = mutua_identity::Ca::load_or_create(folder.path(), &domain).expect("made");
            ca.bundle().anchors().into_iter().next().expect("one")
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn many_anchors_are_told_of_in_bounds() {
        let at = |seconds: usize| UNIX_EPOCH + Duration::from_secs(seconds as u64);
        let roots = roots(MAX_ANCHORS + 2);
        let mut all: BTreeMap<_, _> = roots.iter().enumerate().map(|(n, root)| (Some(*root), (n + 1, at(100 + n)))).collect();
        all.insert(None, (40, at(7)));
        let told = anchored(all);
        assert_eq!(told.len(), MAX_ANCHORS + 1);
        assert_eq!((&told[0].anchor, told[0].connections, told[0].until), (&roots[17].to_string(), 18, 117));
        let others = Anchored { anchor: String::new(), connections: 40 + 1 + 2, until: 101 };
        assert_eq!(told.last(), Some(&others), "the least used, and those that are not known");
        assert_eq!(anchored(BTreeMap::new()), []);
    }
}

//! Istio's TCP metrics, and our own about refusals and certificates, in Prometheus' text format.

mod labels;
mod refusals;
mod requests;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use labels::{Counted, PARTY_LABELS, Parties, PartyKey, Reporter, SeriesKey, Service};
pub use refusals::{RefusalCount, RefusalKey, Refusals};
pub use requests::{BUCKETS, Histogram, MAX_REQUEST_SERIES, MessageSeries, RequestSeries};

use crate::connections::Connections;
use crate::observe::Lost;

/// Series that are kept; connections with further label sets are counted in one series of unknown parties.
pub const MAX_SERIES: usize = 2000;

/// The counters of one set of labels.
#[derive(Debug, Default)]
pub struct Series {
    /// Connections opened.
    pub opened: AtomicU64,
    /// Connections closed.
    pub closed: AtomicU64,
    /// Bytes to those who opened them.
    pub sent: AtomicU64,
    /// Bytes from those who opened them.
    pub received: AtomicU64,
}

/// All series of this sidecar.
#[derive(Default)]
pub struct Metrics {
    connections: Mutex<HashMap<SeriesKey, Arc<Series>>>,
    requests: Mutex<HashMap<SeriesKey, Arc<RequestSeries>>>,
    messages: Mutex<HashMap<SeriesKey, Arc<MessageSeries>>>,
    lost: [AtomicU64; Lost::ALL.len()],
    /// Connections cut after their time for draining.
    pub drained_by_force: AtomicU64,
    /// Access-log lines that could not be written in time.
    pub log_lines_lost: AtomicU64,
    /// Refusals without a line of their own in the access log, because there were too many of their kind.
    pub log_lines_left_out: AtomicU64,
}

type Counter = fn(&Series) -> &AtomicU64;

const COUNTERS: [(&str, &str, Counter); 4] = [
    ("istio_tcp_connections_opened_total", "Connections opened.", |series| &series.opened),
    ("istio_tcp_connections_closed_total", "Connections closed.", |series| &series.closed),
    ("istio_tcp_sent_bytes_total", "Bytes sent to those who opened connections.", |series| &series.sent),
    ("istio_tcp_received_bytes_total", "Bytes received from those who opened connections.", |series| &series.received),
];

impl Metrics {
    /// The series of TCP connections between two parties.
    pub fn connections(&self, parties: PartyKey) -> Arc<Series> {
        entry(&self.connections, SeriesKey::connections(parties), MAX_SERIES)
    }

    /// The series of requests.
    pub fn requests(&self, key: SeriesKey) -> Arc<RequestSeries> {
        entry(&self.requests, key, MAX_REQUEST_SERIES)
    }

    /// The series of gRPC messages between two parties.
    pub fn messages(&self, parties: PartyKey) -> Arc<MessageSeries> {
        entry(&self.messages, SeriesKey { parties, counted: Counted::Messages }, MAX_REQUEST_SERIES)
    }

    /// Counts an observer that stopped looking.
    pub fn lost(&self, why: Lost) {
        self.lost[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Everything in Prometheus' text format.
    #[must_use]
    pub fn render(&self, connections: &Connections, refusals: &Refusals, certificate: Option<&CertificateState>) -> String {
        let mut text = String::new();
        requests::render(&mut text, &sorted(&self.requests), &sorted(&self.messages));
        let series = sorted(&self.connections);
        for (name, help, counter) in COUNTERS {
            head(&mut text, name, help, "counter");
            for (key, series) in &series {
                let _ = writeln!(text, "{name}{{{key}}} {}", counter(series).load(Ordering::Relaxed));
            }
        }
        head(&mut text, "istio_build", "The version of the proxy.", "gauge");
        let _ = writeln!(text, "istio_build{{component=\"proxy\",tag=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        self.render_own(&mut text, connections, refusals, certificate);
        text
    }

    fn render_own(
        &self,
        text: &mut String,
        connections: &Connections,
        refusals: &Refusals,
        certificate: Option<&CertificateState>,
    ) {
        head(text, "mutua_connections_refused_total", "Connections refused or cut, by reason.", "counter");
        for ((direction, reason), count) in refusals.totals() {
            let direction = direction.as_str();
            let _ = writeln!(text, "mutua_connections_refused_total{{direction=\"{direction}\",reason=\"{reason}\"}} {count}");
        }
        head(text, "mutua_observers_stopped_total", "Connections whose requests are not seen any more, by reason.", "counter");
        for (why, count) in Lost::ALL.iter().zip(&self.lost) {
            let (why, count) = (why.as_str(), count.load(Ordering::Relaxed));
            let _ = writeln!(text, "mutua_observers_stopped_total{{reason=\"{why}\"}} {count}");
        }
        let mut number = |name: &str, help: &str, kind: &str, value: i128| {
            head(text, name, help, kind);
            let _ = writeln!(text, "{name} {value}");
        };
        let forced = self.drained_by_force.load(Ordering::Relaxed).into();
        number("mutua_connections_drained_by_force_total", "Connections cut after their time for draining.", "counter", forced);
        number("mutua_connections_open", "Connections that are open.", "gauge", connections.count() as i128);
        let lost = self.log_lines_lost.load(Ordering::Relaxed).into();
        number("mutua_access_log_lines_lost_total", "Access-log lines that could not be written in time.", "counter", lost);
        let left_out = self.log_lines_left_out.load(Ordering::Relaxed);
        number(
            "mutua_access_log_lines_left_out_total",
            "Refusals without a line of their own in the access log.",
            "counter",
            left_out.into(),
        );
        if let Some(certificate) = certificate {
            let (end, due) = (certificate.not_after.into(), certificate.renewal_due.into());
            number("mutua_certificate_expiration_timestamp_seconds", "When the certificate ends.", "gauge", end);
            number("mutua_certificate_renewal_due_timestamp_seconds", "When its renewal is due.", "gauge", due);
            let (failing, skew) = (certificate.failing.into(), certificate.clock_skew_ms.into());
            number("mutua_certificate_renewal_failing", "1 while its renewal fails.", "gauge", failing);
            let help = "This clock minus the CA's, as measured at the last renewal.";
            number("mutua_certificate_clock_skew_milliseconds", help, "gauge", skew);
            let (done, failed) = (certificate.renewals.into(), certificate.failed_renewals.into());
            number("mutua_certificate_renewals_total", "Renewals of the certificate.", "counter", done);
            number("mutua_certificate_renewal_failures_total", "Failed attempts to renew.", "counter", failed);
        }
    }
}

/// What metrics say of the sidecar's certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct CertificateState {
    /// When it ends, Unix seconds.
    pub not_after: u64,
    /// Renewals since the start.
    pub renewals: u64,
    /// Failed attempts since the start.
    pub failed_renewals: u64,
    /// When renewal is due, Unix seconds; 0 when it is not known.
    pub renewal_due: u64,
    /// Whether the last attempt failed.
    pub failing: bool,
    /// Our clock minus the CA's at the last renewal, milliseconds.
    pub clock_skew_ms: i64,
}

/// The series of `key`, or the one of all that are too many.
fn entry<S: Default>(all: &Mutex<HashMap<SeriesKey, Arc<S>>>, key: SeriesKey, most: usize) -> Arc<S> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    let key = if all.len() < most || all.contains_key(&key) { key } else { key.folded() };
    Arc::clone(all.entry(key).or_default())
}

fn sorted<S>(all: &Mutex<HashMap<SeriesKey, Arc<S>>>) -> Vec<(SeriesKey, Arc<S>)> {
    let all = all.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sorted: Vec<_> = all.iter().map(|(key, series)| (key.clone(), Arc::clone(series))).collect();
    drop(all);
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    sorted
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_are_bounded() {
        let metrics = Metrics::default();
        for n in 0..MAX_SERIES + 50 {
            let host: Arc<str> = format!("host-{n}").into();
            let parties = Parties { service: Service { host: Arc::clone(&host), ..Service::default() }, ..Parties::default() };
            metrics.connections(PartyKey::new(Reporter::Source, &parties)).opened.fetch_add(1, Ordering::Relaxed);
        }
        let text = metrics.render(&Connections::default(), &Refusals::default(), None);
        let lines = text.lines().filter(|line| line.starts_with("istio_tcp_connections_opened_total{")).collect::<Vec<_>>();
        assert_eq!(lines.len(), MAX_SERIES + 1);
        assert!(lines.iter().any(|line| line.ends_with(" 50")), "the rest is counted together");
    }
}

//! Istio's metrics of requests: counts, and how long and how large they were.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{SeriesKey, head};
use crate::observe::Exchange;

/// Series of requests that are kept; each holds three histograms. Further ones are counted in one of unknown parties.
pub const MAX_REQUEST_SERIES: usize = 1000;
/// Upper bounds of the buckets, in milliseconds or bytes, times ten: Envoy's defaults, with which Istio's dashboards count.
pub const BUCKETS: [u64; 19] = [
    5, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 300_000, 600_000, 3_000_000, 6_000_000,
    18_000_000, 36_000_000,
];

/// A distribution of values in tenths of a unit.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// Counts a value, in tenths.
    pub fn record(&self, tenths: u64) {
        let at = BUCKETS.partition_point(|bound| *bound < tenths);
        self.buckets[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(tenths, Ordering::Relaxed);
    }

    fn render(&self, text: &mut String, name: &str, key: &SeriesKey) {
        let mut count = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let _ = match BUCKETS.get(at) {
                Some(bound) => writeln!(text, "{name}_bucket{{{key},le=\"{}\"}} {count}", Tenths(*bound)),
                None => writeln!(text, "{name}_bucket{{{key},le=\"+Inf\"}} {count}"),
            };
        }
        let _ = writeln!(text, "{name}_sum{{{key}}} {}", Tenths(self.sum.load(Ordering::Relaxed)));
        let _ = writeln!(text, "{name}_count{{{key}}} {count}");
    }
}

struct Tenths(u64);

impl std::fmt::Display for Tenths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0 / 10, self.0 % 10) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, tenths) => write!(f, "{whole}.{tenths}"),
        }
    }
}

/// Requests of one set of labels.
#[derive(Debug, Default)]
pub struct RequestSeries {
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

impl RequestSeries {
    /// Counts an exchange.
    pub fn record(&self, exchange: &Exchange) {
        let duration = exchange.ended.saturating_duration_since(exchange.started);
        self.duration.record(u64::try_from(duration.as_micros() / 100).unwrap_or(u64::MAX));
        self.request_bytes.record(exchange.request_bytes.saturating_mul(10));
        self.response_bytes.record(exchange.response_bytes.saturating_mul(10));
    }

    fn count(&self) -> u64 {
        self.duration.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

/// gRPC messages of one set of labels.
#[derive(Debug, Default)]
pub struct MessageSeries {
    /// In requests.
    pub requests: AtomicU64,
    /// In answers.
    pub responses: AtomicU64,
}

type Distribution = fn(&RequestSeries) -> &Histogram;

const DISTRIBUTIONS: [(&str, &str, Distribution); 3] = [
    ("istio_request_duration_milliseconds", "How long requests took.", |series| &series.duration),
    ("istio_request_bytes", "Bytes of requests.", |series| &series.request_bytes),
    ("istio_response_bytes", "Bytes of answers.", |series| &series.response_bytes),
];

pub(super) fn render(
    text: &mut String,
    requests: &[(SeriesKey, Arc<RequestSeries>)],
    messages: &[(SeriesKey, Arc<MessageSeries>)],
) {
    head(text, "istio_requests_total", "Requests.", "counter");
    for (key, series) in requests {
        let _ = writeln!(text, "istio_requests_total{{{key}}} {}", series.count());
    }
    for (name, help, distribution) in DISTRIBUTIONS {
        head(text, name, help, "histogram");
        for (key, series) in requests {
            distribution(series).render(text, name, key);
        }
    }
    head(text, "istio_request_messages_total", "Messages in gRPC requests.", "counter");
    for (key, series) in messages {
        let _ = writeln!(text, "istio_request_messages_total{{{key}}} {}", series.requests.load(Ordering::Relaxed));
    }
    head(text, "istio_response_messages_total", "Messages in gRPC answers.", "counter");
    for (key, series) in messages {
        let _ = writeln!(text, "istio_response_messages_total{{{key}}} {}", series.responses.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Counted, Parties, PartyKey, Reporter};
    use super::*;

    #[test]
    fn buckets_are_envoys_and_count_up() {
        let histogram = Histogram::default();
        for tenths in [0, 5, 6, 10, 25_001, u64::from(u32::MAX)] {
            histogram.record(tenths);
        }
        let parties = PartyKey::new(Reporter::Source, &Parties::default());
        let mut text = String::new();
        histogram.render(&mut text, "x", &SeriesKey { parties, counted: Counted::Messages });
        let values: Vec<_> =
            text.lines().filter_map(|line| line.split_once("le=\"")).map(|(_, rest)| rest.replace("\"}", "")).collect();
        assert_eq!(values[..3], ["0.5 2", "1 4", "5 4"]);
        assert_eq!(values[10..13], ["2500 4", "5000 5", "10000 5"]);
        assert_eq!(values[18..], ["3600000 5", "+Inf 6"]);
        assert!(text.contains("x_sum{") && text.ends_with(" 6\n"), "{text}");
    }
}

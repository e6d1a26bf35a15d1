//! The control plane's own metrics. Where istiod has the same, its name is used.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry as Prometheus;

/// A label `type`: the last part of a type URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: String,
}

/// A label `code`: a gRPC status code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabel {
    code: String,
}

/// A label `by`: how the caller proved who it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLabel {
    by: &'static str,
}

/// A label `result`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The numbers that are looked up when metrics are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings {
    /// The generation in force.
    pub generation: u64,
    /// Whether newer content is rejected.
    pub rejected: bool,
    /// The stage of the change under way: 0 none, 1 widen, 2 switch.
    pub stage: u8,
    /// Proxies connected, and of these those that hold everything of the generation.
    pub proxies: (usize, usize),
    /// The end of the first root to end, Unix seconds.
    pub root_expiry: i64,
    /// The end of the control plane's own certificate, Unix seconds.
    pub own_expiry: i64,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Prometheus>,
    pushes: Family<TypeLabel, Counter>,
    rejects: Family<TypeLabel, Counter>,
    streams_refused: Family<CodeLabel, Counter>,
    csr: Counter,
    authentication_failures: Counter,
    issued: Family<ByLabel, Counter>,
    key_set_reads: Family<ResultLabel, Counter>,
    config_errors: Counter,
    own_renewals: Counter,
    generation: Gauge<u64, AtomicU64>,
    rejected: Gauge,
    stage: Gauge,
    enforced: Histogram,
    left_behind: Counter,
    connected: Gauge,
    current: Gauge,
    root_expiry: Gauge<i64, AtomicI64>,
    own_expiry: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::new(Prometheus::default()),
            pushes: Family::default(),
            rejects: Family::default(),
            streams_refused: Family::default(),
            csr: Counter::default(),
            authentication_failures: Counter::default(),
            issued: Family::default(),
            key_set_reads: Family::default(),
            config_errors: Counter::default(),
            own_renewals: Counter::default(),
            generation: Gauge::default(),
            rejected: Gauge::default(),
            stage: Gauge::default(),
            enforced: Histogram::new(exponential_buckets(0.05, 2.0, 14)),
            left_behind: Counter::default(),
            connected: Gauge::default(),
            current: Gauge::default(),
            root_expiry: Gauge::default(),
            own_expiry: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        registry.register("pilot_xds_pushes", "Discovery responses sent, by type", self.pushes.clone());
        registry.register("pilot_total_xds_rejects", "Discovery responses refused by proxies, by type", self.rejects.clone());
        registry.register("mutua_xds_streams_refused", "Discovery streams refused, by code", self.streams_refused.clone());
        registry.register("citadel_server_csr_count", "Certificate requests", self.csr.clone());
        let failures = self.authentication_failures.clone();
        registry.register("citadel_server_authentication_failure_count", "Certificate requests of unproven callers", failures);
        registry.register("citadel_server_success_cert_issuance_count", "Certificates issued", self.issued.clone());
        registry.register("mutua_jwks_reads", "Readings of the key set for JWTs", self.key_set_reads.clone());
        registry.register(
            "mutua_config_errors",
            "Readings of the configuration that were not put into force",
            self.config_errors.clone(),
        );
        registry.register(
            "mutua_control_plane_certificate_renewals",
            "Renewals of the own certificate",
            self.own_renewals.clone(),
        );
        registry.register("mutua_config_generation", "The generation in force", self.generation.clone());
        registry.register("mutua_config_rejected", "1 while newer configuration is not in force", self.rejected.clone());
        registry.register("mutua_rollout_stage", "Stage of the change under way: 0 none, 1 widen, 2 switch", self.stage.clone());
        let help = "Seconds from the begin of a change until every connected proxy enforced it";
        registry.register("mutua_rollout_duration_seconds", help, self.enforced.clone());
        let help = "Proxies that did not acknowledge a stage in time, counted once for each stage";
        registry.register("mutua_rollout_left_behind", help, self.left_behind.clone());
        registry.register("pilot_xds", "Proxies connected", self.connected.clone());
        registry.register("mutua_proxies_current", "Proxies that hold everything of the generation", self.current.clone());
        let (root, own) = (self.root_expiry.clone(), self.own_expiry.clone());
        registry.register("citadel_server_root_cert_expiry_timestamp", "End of the first root to end, Unix time", root);
        registry.register("mutua_control_plane_certificate_expiry_timestamp", "End of the own certificate, Unix time", own);
    }

    /// A discovery response was sent.
    pub fn sent(&self, type_url: &str) {
        self.pushes.get_or_create(&TypeLabel { r#type: short(type_url) }).inc();
    }

    /// A discovery response was refused.
    pub fn refused(&self, type_url: &str) {
        self.rejects.get_or_create(&TypeLabel { r#type: short(type_url) }).inc();
    }

    /// A discovery stream was refused.
    pub fn stream_refused(&self, code: tonic::Code) {
        self.streams_refused.get_or_create(&CodeLabel { code: format!("{code:?}") }).inc();
    }

    /// A certificate was asked for.
    pub fn requested(&self) {
        self.csr.inc();
    }

    /// A caller did not prove who it is.
    pub fn authentication_failed(&self) {
        self.authentication_failures.inc();
    }

    /// A certificate was issued to a caller that has proved who it is by a `token` to join with, a `jwt` or its `certificate`.
    pub fn issued(&self, by: &'static str) {
        self.issued.get_or_create(&ByLabel { by }).inc();
    }

    /// The key set for JWTs was read, or could not be.
    pub fn key_set(&self, read: bool) {
        self.key_set_reads.get_or_create(&ResultLabel { result: if read { "success" } else { "failure" } }).inc();
    }

    /// A reading was not put into force.
    pub fn config_error(&self) {
        self.config_errors.inc();
    }

    /// A change is enforced by every connected proxy, so long after it began.
    pub fn enforced(&self, after: Duration) {
        self.enforced.observe(after.as_secs_f64());
    }

    /// So many proxies did not acknowledge a stage in time.
    pub fn left_behind(&self, count: usize) {
        self.left_behind.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// The own certificate was renewed.
    pub fn own_renewed(&self) {
        self.own_renewals.inc();
    }

    /// How often the own certificate was renewed.
    #[must_use]
    pub fn own_renewals(&self) -> u64 {
        self.own_renewals.get()
    }

    /// All metrics in OpenMetrics text.
    #[must_use]
    pub fn text(&self, now: Readings) -> String {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.generation.set(now.generation);
        self.rejected.set(i64::from(now.rejected));
        self.stage.set(i64::from(now.stage));
        self.connected.set(count(now.proxies.0));
        self.current.set(count(now.proxies.1));
        self.root_expiry.set(now.root_expiry);
        self.own_expiry.set(now.own_expiry);
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a String takes any text");
        text
    }
}

/// Type URLs come from clients: only ours become labels.
fn short(type_url: &str) -> String {
    let known = crate::distribute::resources::TYPES.iter().find(|known| **known == type_url);
    known.and_then(|known| known.rsplit('.').next()).unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_holds_what_was_counted_and_no_foreign_label() {
        let metrics = Metrics::default();
        metrics.sent("type.googleapis.com/mutua.mesh.v1.Destination");
        metrics.refused("evil\"type");
        metrics.issued("token");
        let text = metrics.text(Readings { generation: 7, proxies: (3, 2), ..Readings::default() });
        for line in [
            "pilot_xds_pushes_total{type=\"Destination\"} 1",
            "pilot_total_xds_rejects_total{type=\"unknown\"} 1",
            "citadel_server_success_cert_issuance_count_total{by=\"token\"} 1",
            "mutua_config_generation 7",
            "pilot_xds 3",
            "mutua_proxies_current 2",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}

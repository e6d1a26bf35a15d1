//! Metrics of every certificate of the mesh.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::SystemTime;

use super::certificates::{CertificateView, certificates};
use crate::Parts;
use crate::clock::unix;

/// How many certificates metrics tell of; those that end first.
const MAX_SERIES: usize = 5000;

/// Series of every certificate but tokens, by kind and owner. Of several with one owner, the worst of each is told.
#[must_use]
pub fn metrics(parts: &Parts, now: SystemTime) -> String {
    let all = certificates(parts, now).certificates;
    let mut by_owner: BTreeMap<(&str, &str), Vec<&CertificateView>> = BTreeMap::new();
    for row in all.iter().filter(|row| row.kind != "token") {
        by_owner.entry((row.kind, &row.owner)).or_default().push(row);
    }
    let mut series: Vec<_> = by_owner.into_iter().collect();
    series.sort_by_key(|(_, rows)| rows.iter().map(|row| row.remaining_seconds).min());
    let left_out = series.len().saturating_sub(MAX_SERIES);
    series.truncate(MAX_SERIES);
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, value: &dyn Fn(&[&CertificateView]) -> Option<f64>| {
        let _ = write!(text, "# HELP {name} {help}.\n# TYPE {name} gauge\n");
        for ((kind, owner), rows) in &series {
            if let Some(value) = value(rows) {
                let owner = owner.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                let _ = writeln!(text, "{name}{{kind=\"{kind}\",owner=\"{owner}\"}} {value}");
            }
        }
    };
    let now = unix(now);
    gauge("mutua_certificate_expiry_timestamp_seconds", "When the first certificate of an owner ends", &|rows| {
        rows.iter().map(|row| seconds(row.remaining_seconds.saturating_add(now))).reduce(f64::min)
    });
    gauge("mutua_certificate_renewal_failing", "1 while renewal fails, or a change of root that is due", &|rows| {
        Some(f64::from(u8::from(rows.iter().any(|row| row.last_attempt == Some("failed")))))
    });
    gauge("mutua_certificate_seconds_until_renewal", "How long until renewal is due, negative when it is late", &|rows| {
        rows.iter().filter_map(|row| row.renew_in_seconds).map(seconds).reduce(f64::min)
    });
    gauge("mutua_certificate_clock_skew_seconds", "The owner's clock minus the CA's, as measured at the last renewal", &|rows| {
        rows.iter().filter_map(|row| row.clock_skew_ms).max_by_key(|skew| skew.unsigned_abs()).map(|skew| seconds(skew) / 1000.0)
    });
    let _ = write!(
        text,
        "# HELP mutua_certificates_not_shown Owners of certificates that have no series here.\n\
         # TYPE mutua_certificates_not_shown gauge\nmutua_certificates_not_shown {left_out}\n"
    );
    text
}

#[allow(clippy::cast_precision_loss, reason = "seconds stay exact for millions of years")]
fn seconds(whole: i64) -> f64 {
    whole as f64
}

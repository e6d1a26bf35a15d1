//! `ConnectionPoolSettings`, `OutlierDetection` and `LoadBalancerSettings`.

use std::collections::BTreeSet;

use super::field::Field;
use crate::read::report::Report;

/// Checks a connection pool.
pub fn check_connection_pool(pool: &Field<'_>, report: &mut Report) {
    const COUNTS: &[(&str, &str, &str)] = &[
        ("http", "http1MaxPendingRequests", "http1 max pending requests"),
        ("http", "http2MaxRequests", "http2 max requests"),
        ("http", "maxRequestsPerConnection", "max requests per connection"),
        ("http", "maxRetries", "max retries"),
        ("http", "maxConcurrentStreams", "max concurrent streams"),
        ("tcp", "maxConnections", "max connections"),
    ];
    if !pool.is_given() {
        return;
    }
    let http = pool.get("http");
    if !http.is_given() && !pool.get("tcp").is_given() {
        return pool.error_once(report, "connection pool must have at least one field");
    }
    for (part, name, words) in COUNTS {
        let count = pool.get(part).get(name);
        if count.integer().is_some_and(|count| count < 0) {
            count.error_once(report, format!("{words} must be non-negative"));
        }
    }
    if http.get("h2UpgradePolicy").text() == "UPGRADE" && http.get("useClientProtocol").is_true() {
        let text = "use client protocol must not be true when H2UpgradePolicy is UPGRADE";
        http.get("useClientProtocol").error(report, text);
    }
    let keep_alive = http.get("http2KeepAlive");
    for name in ["interval", "timeout"].iter().filter(|name| keep_alive.is_given() && !keep_alive.get(name).is_given()) {
        keep_alive.error_once(report, format!("http2 keepalive {name} is required"));
    }
}

/// Checks outlier detection.
pub fn check_outlier_detection(outlier: &Field<'_>, report: &mut Report) {
    if outlier.get("consecutiveErrors").integer().is_some_and(|count| count != 0) {
        let text =
            "outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or consecutive5xxErrors instead";
        outlier.get("consecutiveErrors").warning(report, text);
    }
    let local = outlier.get("consecutiveLocalOriginFailures");
    if !outlier.get("splitExternalLocalOriginErrors").is_true() && local.integer().is_some_and(|count| count > 0) {
        let text = "outlier detection consecutive local origin failures is specified, but split external local origin errors is set to false";
        local.error(report, text);
    }
    for name in ["maxEjectionPercent", "minHealthPercent"] {
        let percent = outlier.get(name);
        if let Some(number) = percent.integer().filter(|number| !(0..=100).contains(number)) {
            percent.error_once(report, format!("percentage {number} is not in range 0..100"));
        }
    }
}

/// Checks a load balancer.
pub fn check_load_balancer(balancer: &Field<'_>, has_outlier_detection: bool, report: &mut Report) {
    if !balancer.is_given() {
        return;
    }
    check_consistent_hash(&balancer.get("consistentHash"), report);
    let (locality, zone) = (balancer.get("localityLbSetting"), balancer.get("zoneAwareLbSetting"));
    if locality.is_given() && zone.is_given() {
        zone.error(report, "only one of localityLbSetting and zoneAwareLbSetting can be set");
    }
    check_locality(&locality, has_outlier_detection, report);
    check_failover(&zone, "zone aware lb", has_outlier_detection, report);
    let aggression = balancer.get("warmup").get("aggression");
    if aggression.number().is_some_and(|number| number <= 0.0) {
        aggression.error_once(report, "aggression should be greater than 0");
    }
}

fn check_consistent_hash(hash: &Field<'_>, report: &mut Report) {
    let cookie = hash.get("httpCookie");
    if cookie.is_given() && !cookie.get("name").has_text() {
        cookie.error_once(report, "name required for HttpCookie");
    }
    let mut attributes = BTreeSet::new();
    for attribute in cookie.get("attributes").items() {
        let name = attribute.get("name");
        if !name.has_text() {
            attribute.error_once(report, "cookie attribute name cannot be empty");
        } else if !attributes.insert(name.text()) {
            name.error(report, format!("duplicate cookie attribute name: {}", name.text()));
        }
    }
    let ring = hash.get("minimumRingSize");
    if ring.integer().is_some_and(|size| size != 0) {
        ring.warning(
            report,
            "consistent hash MinimumRingSize is deprecated, use ConsistentHashLB's RingHash configuration instead",
        );
        if hash.get("ringHash").is_given() || hash.get("maglev").is_given() {
            ring.error(report, "only one of MinimumRingSize or Maglev/Ringhash can be specified");
        }
    }
    check_maglev(&hash.get("maglev"), report);
}

fn check_maglev(maglev: &Field<'_>, report: &mut Report) {
    const TOO_LARGE: i64 = 5_000_011;
    if !maglev.is_given() {
        return;
    }
    let size = maglev.get("tableSize");
    match size.integer().unwrap_or(0) {
        0 => size.error_once(report, "tableSize must be set for maglev"),
        TOO_LARGE.. => size.error_once(report, "tableSize must be less than 5000011 for maglev"),
        number if !is_prime(number) => size.error_once(report, "tableSize must be a prime number for maglev"),
        _ => {}
    }
}

/// As Envoy decides it: 1 counts as prime.
fn is_prime(number: i64) -> bool {
    let mut factors = (3..).step_by(2).take_while(|factor| factor * factor <= number);
    number < 4 || (number % 2 == 1 && factors.all(|factor| number % factor != 0))
}

/// Checks a `LocalityLoadBalancerSetting`.
pub fn check_locality(locality: &Field<'_>, has_outlier_detection: bool, report: &mut Report) {
    let distribute = locality.get("distribute");
    if !distribute.is_empty() && !locality.get("failover").is_empty() {
        return locality.error(report, "can not simultaneously specify 'distribute' and 'failover'");
    }
    for entry in distribute.items() {
        let weights: Vec<_> = entry.get("to").entries().map(|(_, weight)| weight.integer().unwrap_or(0)).collect();
        let total = weights.iter().fold(0_i64, |total, weight| total.saturating_add(*weight));
        if weights.iter().any(|weight| !(1..=100).contains(weight)) {
            entry.get("to").error_once(report, "locality weight must be in range [1, 100]");
        } else if total != 100 {
            entry.get("to").error(report, format!("total locality weight {total} != 100"));
        }
    }
    check_failover(locality, "locality lb", has_outlier_detection, report);
}

fn check_failover(setting: &Field<'_>, words: &str, has_outlier_detection: bool, report: &mut Report) {
    let failover = setting.get("failover");
    if !has_outlier_detection && (!failover.is_empty() || !setting.get("failoverPriority").is_empty()) {
        setting.warning(report, "outlier detection policy must be provided for failover");
    }
    for entry in failover.items() {
        let (from, to) = (entry.get("from").text(), entry.get("to").text());
        if from == to {
            entry.error(report, format!("{words} failover settings must specify different regions"));
        }
        if from.contains('/') || to.contains('/') {
            entry.error(report, format!("{words} failover only specify region"));
        }
        if from.contains('*') || to.contains('*') {
            entry.error(report, format!("{words} failover region should not contain '*' wildcard"));
        }
    }
}

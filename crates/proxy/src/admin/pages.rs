//! The pages.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Admin, Answer, Pages};
use crate::telemetry::CertificateState;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// Prometheus' text format.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Admin {
    /// The answer to a GET of `path` with `query`.
    #[must_use]
    pub fn answer(&self, pages: Pages, path: &str, query: &str) -> Answer {
        let all = pages == Pages::All;
        match path {
            "/stats/prometheus" if all || pages == Pages::Metrics => text(200, PROMETHEUS, self.metrics()),
            "/healthz/ready" if all || pages == Pages::Readiness => self.readiness(),
            "/config" if all => page(&self.config()),
            "/connections" if all => page(&json!(self.sidecar.connections.records())),
            "/certs" if all => page(&self.certs()),
            "/policy" if all => self.policy(query),
            _ => text(404, TEXT, "no such page\n".to_owned()),
        }
    }

    fn metrics(&self) -> String {
        let sidecar = &self.sidecar;
        sidecar.metrics.render(&sidecar.connections, &sidecar.refusals, self.certificate().as_ref()) + &sidecar.gate.render()
    }

    fn certificate(&self) -> Option<CertificateState> {
        let credentials = self.sidecar.world.credentials()?;
        let status = self.origin.status();
        let not_after = seconds(credentials.not_after());
        Some(CertificateState {
            not_after,
            renewals: status.renewals,
            failed_renewals: status.failed,
            renewal_due: status.due.map_or(0, seconds),
            failing: !status.last_error.is_empty(),
            clock_skew_ms: status.clock_skew_ms,
        })
    }

    fn readiness(&self) -> Answer {
        if self.stopping.is_cancelled() {
            return text(503, TEXT, "stopping\n".to_owned());
        }
        let now = self.sidecar.world.current();
        let missing = match (now.inbound.is_some(), now.tls.is_some(), now.complete) {
            (true, true, true) => return text(200, TEXT, "ready\n".to_owned()),
            (_, _, false) => "waiting for the first complete configuration\n",
            _ => "waiting for policy and certificate\n",
        };
        text(503, TEXT, missing.to_owned())
    }

    fn config(&self) -> Value {
        let now = self.sidecar.world.current();
        json!({
            "workload": self.origin.workload().to_string(),
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "generation": &*now.generation,
            "source": self.origin.source(),
            "keptSince": self.sidecar.world.kept().map(seconds),
            "ready": now.is_ready(),
            "complete": now.complete,
            "registryOnly": now.registry_only,
            "drainMs": u64::try_from(now.drain.as_millis()).unwrap_or(u64::MAX),
            "inbound": now.inbound.as_deref(),
            "destinations": now.table.destinations().iter().map(|destination| &**destination).collect::<Vec<_>>(),
        })
    }

    fn certs(&self) -> Value {
        let status = self.origin.status();
        let leaf = self.sidecar.world.credentials().map(|credentials| {
            json!({
                "identity": credentials.id().map(ToString::to_string),
                "serial": credentials.serial(),
                "issuer": credentials.info().issuer,
                "notBefore": seconds(credentials.not_before()),
                "notAfter": seconds(credentials.not_after()),
                "renewalDue": status.due.map(seconds),
            })
        });
        let roots = self.sidecar.world.bundle().or_else(|| self.origin.roots());
        let roots: Vec<Value> = roots
            .map(|roots| roots.infos())
            .unwrap_or_default()
            .iter()
            .map(|root| json!({ "serial": root.serial, "subject": root.subject, "notAfter": seconds(root.not_after) }))
            .collect();
        json!({
            "source": self.origin.source(),
            "leaf": leaf,
            "roots": roots,
            "renewals": status.renewals,
            "failedRenewals": status.failed,
            "lastRenewalError": status.last_error,
            "clockSkewMs": status.clock_skew_ms,
        })
    }

    fn policy(&self, query: &str) -> Answer {
        let now = self.sidecar.world.current();
        let Some(inbound) = &now.inbound else { return text(503, TEXT, "no policy has arrived yet\n".to_owned()) };
        let wanted = query.split('&').find_map(|pair| pair.strip_prefix("port="));
        let Some(wanted) = wanted else { return page(&json!(**inbound)) };
        let Ok(port) = wanted.parse::<u16>() else {
            return text(400, TEXT, format!("{wanted:?} is no port\n"));
        };
        let (mode, protocol) = inbound.treatment(port);
        let entry = inbound.port(port);
        page(&json!({
            "port": port,
            "mode": mode,
            "protocol": protocol,
            "decidedBy": entry.map_or(&inbound.decided_by, |entry| &entry.decided_by),
            "service": entry.map(|entry| &*entry.service_host).filter(|host| !host.is_empty()),
            "serverFirst": self.sidecar.greeters.port(port),
        }))
    }
}

fn page(value: &Value) -> Answer {
    let mut body = value.to_string().into_bytes();
    body.push(b'\n');
    Answer { status: 200, content_type: JSON, body }
}

fn text(status: u16, content_type: &'static str, body: String) -> Answer {
    Answer { status, content_type, body: body.into_bytes() }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

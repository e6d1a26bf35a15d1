//! What others ask an istiod for: `/version`, `/debug/syncz` and `/metrics` on 15014, `/ready` on 8080. Reads without
//! secrets, so they are open to whoever reaches the ports, as Istio's.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::Parts;
use crate::names::WorkloadName;
use crate::registry::Proxy;

/// How far one proxy is, in the words of istiod (`pilot/pkg/xds/debug.go`, `SyncStatus`). Kiali takes equal nonces for synced,
/// an empty `…_acked` for stale, and an empty `…_sent` for a type that is not asked for.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct SyncStatus {
    cluster_id: String,
    /// `POD.NAMESPACE`.
    proxy: String,
    proxy_type: &'static str,
    proxy_version: String,
    istio_version: String,
    cluster_sent: String,
    cluster_acked: String,
    listener_sent: String,
    listener_acked: String,
    route_sent: String,
    route_acked: String,
    endpoint_sent: String,
    endpoint_acked: String,
}

impl SyncStatus {
    /// One configuration is sent and acknowledged as a whole: its generation stands for clusters, listeners and endpoints;
    /// routes there are none.
    fn new(cluster: &str, workload: &WorkloadName, proxy: &Proxy) -> Self {
        let number = |generation: u64| if generation == 0 { String::new() } else { generation.to_string() };
        let (sent, acked) = (number(proxy.progress.sent.generation()), number(proxy.progress.acknowledged.generation()));
        Self {
            cluster_id: cluster.to_owned(),
            proxy: format!("{}.{}", workload.name(), workload.namespace()),
            proxy_type: "sidecar",
            proxy_version: proxy.version.clone(),
            istio_version: proxy.version.clone(),
            cluster_sent: sent.clone(),
            cluster_acked: acked.clone(),
            listener_sent: sent.clone(),
            listener_acked: acked.clone(),
            route_sent: String::new(),
            route_acked: String::new(),
            endpoint_sent: sent,
            endpoint_acked: acked,
        }
    }
}

/// The pages of 15014.
pub fn monitoring(parts: Arc<Parts>) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/debug/syncz", get(syncz))
        .route("/metrics", get(super::metrics))
        .with_state(parts)
}

/// The page of 8080: ready while proxies are served and the control plane's own certificate is good.
pub fn readiness(parts: Arc<Parts>) -> Router {
    Router::new().route("/ready", get(super::ready)).with_state(parts)
}

/// A version of three numbers, as Kiali looks for one.
async fn version() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], concat!(env!("CARGO_PKG_VERSION"), "-mutua\n"))
}

async fn syncz(State(parts): State<Arc<Parts>>) -> Json<Vec<SyncStatus>> {
    let now = parts.world.current();
    let cluster = &now.mesh().config.cluster_name;
    let proxies = parts.registry.proxies();
    let connected = proxies.iter().filter(|(_, proxy)| proxy.connected);
    Json(connected.map(|(name, proxy)| SyncStatus::new(cluster, name, proxy)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribute::subscriptions::Progress;
    use crate::revision::{Phase, Revision};

    #[test]
    fn a_generation_stands_for_the_nonces_that_kiali_compares() {
        let at = |generation| Revision::new(generation, Phase::Complete);
        let progress = Progress { sent: at(7), acknowledged: at(6), refused: Vec::new() };
        let mut proxy = Proxy::default();
        (proxy.progress, proxy.version) = (progress, "0.1.0".to_owned());
        let status = SyncStatus::new("Kubernetes", &WorkloadName::new("shop", "web-1"), &proxy);
        let value = serde_json::to_value(status).expect("JSON");
        let expected = serde_json::json!({
            "cluster_id": "Kubernetes", "proxy": "web-1.shop", "proxy_type": "sidecar",
            "proxy_version": "0.1.0", "istio_version": "0.1.0",
            "cluster_sent": "7", "cluster_acked": "6", "listener_sent": "7", "listener_acked": "6",
            "route_sent": "", "route_acked": "", "endpoint_sent": "7", "endpoint_acked": "6",
        });
        assert_eq!(value, expected);
        let fresh = SyncStatus::new("c", &WorkloadName::new("a", "b"), &Proxy::default());
        assert_eq!((fresh.cluster_sent.as_str(), fresh.endpoint_acked.as_str()), ("", ""));
    }
}

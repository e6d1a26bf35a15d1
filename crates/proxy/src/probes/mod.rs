//! Probes of the application by way of the sidecar: the kubelet speaks no mutual TLS, so injection leads its probes here.
//!
//! [`Probers`] is what injection found in the pod (Istio's `ISTIO_KUBE_APP_PROBERS`): by path, what is to be asked of the
//! application. The answers are those of Istio's agent (`pilot/cmd/pilot-agent/status`): HTTP as the application says it,
//! 200 or 500 for TCP and gRPC.

mod grpc;
mod http;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hyper::HeaderMap;
use serde::Deserialize;

use crate::admin::Answer;
use crate::capture::Dialer;

/// Where rewritten probes are asked for.
const GROUPS: [&str; 2] = ["/app-health/", "/app-lifecycle/"];
/// How long the application may take when the probe does not say (Kubernetes' default).
const PATIENCE: Duration = Duration::from_secs(1);
/// The longest that a probe may say.
const LONGEST: Duration = Duration::from_secs(600);

/// The probes of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probers(BTreeMap<String, Prober>);

/// What one probe asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prober {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocket>,
    grpc: Option<Grpc>,
    #[serde(default)]
    timeout_seconds: u64,
}

/// An HTTP request; its headers come with the kubelet's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: u16,
    #[serde(default)]
    scheme: String,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct TcpSocket {
    port: u16,
}

/// A question by `grpc.health.v1`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Grpc {
    port: u16,
    #[serde(default)]
    service: Option<String>,
}

impl Prober {
    fn patience(&self) -> Duration {
        if self.timeout_seconds == 0 { PATIENCE } else { Duration::from_secs(self.timeout_seconds).min(LONGEST) }
    }
}

impl FromStr for Probers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let probers: BTreeMap<String, Prober> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (path, prober) in &probers {
            if !GROUPS.iter().any(|group| path.starts_with(group)) {
                return Err(format!("{path:?} does not begin with {}", GROUPS.join(" or ")));
            }
            let kinds = [prober.http_get.is_some(), prober.tcp_socket.is_some(), prober.grpc.is_some()];
            if kinds.iter().filter(|there| **there).count() != 1 {
                return Err(format!("{path}: exactly one of httpGet, tcpSocket and grpc is expected"));
            }
        }
        Ok(Self(probers))
    }
}

/// Where the application is, and how it is reached.
#[derive(Clone, Copy, Debug)]
pub struct Application {
    /// The pod's own address.
    pub address: IpAddr,
    /// Opens connections that are not captured.
    pub dialer: Dialer,
    /// The port on which rewritten probes arrive.
    pub status_port: u16,
}

impl Default for Application {
    fn default() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), dialer: Dialer::default(), status_port: crate::settings::METRICS_PORT }
    }
}

impl Application {
    async fn connect(&self, port: u16) -> std::io::Result<tokio::net::TcpStream> {
        self.dialer.connect_application(SocketAddr::new(self.address, port), self.address).await
    }
}

/// Whether `path` is that of a rewritten probe.
#[must_use]
pub fn is_probe(path: &str) -> bool {
    GROUPS.iter().any(|group| path.starts_with(group))
}

impl Probers {
    /// The longest that any of them may take.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.0.values().map(Prober::patience).max().unwrap_or_default()
    }

    /// Asks the application what the probe at `path` is there for. `headers` are those of the request.
    pub async fn answer(&self, path: &str, headers: &HeaderMap, application: &Application) -> Answer {
        let Some(prober) = self.0.get(path) else {
            return said(400, "this pod has no such probe\n");
        };
        let asked = async {
            match (&prober.http_get, &prober.tcp_socket, &prober.grpc) {
                (Some(get), ..) => http::ask(get, headers, application).await,
                (None, Some(socket), _) => application.connect(socket.port).await.map(|_| said(200, "")),
                (None, None, Some(grpc)) => grpc::ask(grpc, application).await.map(|()| said(200, "")),
                (None, None, None) => Ok(said(500, "")),
            }
        };
        match tokio::time::timeout(prober.patience(), asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::info!(path, %error, "a probe of the application failed");
                said(500, &format!("{error}\n"))
            }
            Err(_) => {
                tracing::info!(path, "the application did not answer a probe in time");
                said(500, "the application did not answer in time\n")
            }
        }
    }
}

fn said(status: u16, body: &str) -> Answer {
    Answer { status, content_type: "text/plain; charset=utf-8", body: body.as_bytes().to_vec() }
}

#[cfg(test)]
mod tests;

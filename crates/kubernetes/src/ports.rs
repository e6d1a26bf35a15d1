//! What a control plane on Kubernetes listens on beside the port for proxies: webhooks, and what others look for.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use kube::Client;
use mutua_control::{Parts, api};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::inject::Injector;
use crate::webhook::bundle::Bundles;
use crate::webhook::{self, Hooks};
use crate::{inject, install};

/// The arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Ports {
    /// Where the webhooks for injection and validation are served over TLS, such as 0.0.0.0:15017; without it there are none
    #[arg(long, value_name = "ADDR:PORT")]
    pub webhooks: Option<SocketAddr>,
    /// Where /version, /debug/syncz and /metrics are served to Kiali and Prometheus, such as 0.0.0.0:15014
    #[arg(long, value_name = "ADDR:PORT")]
    pub monitoring: Option<SocketAddr>,
    /// Where /ready is served, such as 0.0.0.0:8080: 200 while proxies are served
    #[arg(long, value_name = "ADDR:PORT")]
    pub readiness: Option<SocketAddr>,
    /// What is injected
    #[command(flatten)]
    pub injection: inject::Settings,
}

/// Why a port is not served.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// It cannot be listened on.
    #[error("cannot listen on {address} (--{argument}): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Its argument.
        argument: &'static str,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The template for injection.
    #[error("--template: {0}")]
    Template(#[from] mutua_model::read::InputError),
}

impl Ports {
    /// Whether any of them is asked for.
    #[must_use]
    pub fn any(&self) -> bool {
        self.webhooks.is_some() || self.monitoring.is_some() || self.readiness.is_some()
    }

    /// Serves all of them until `shutdown`.
    ///
    /// # Errors
    /// One cannot be listened on.
    pub async fn serve(
        &self,
        parts: &Arc<Parts>,
        client: &Client,
        namespace: &str,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) -> Result<(), PortError> {
        for (argument, address, router) in [
            ("monitoring", self.monitoring, api::monitoring::monitoring as fn(Arc<Parts>) -> Router),
            ("readiness", self.readiness, api::monitoring::readiness),
        ] {
            let Some(address) = address else { continue };
            let (listener, router, stop) = (listen(argument, address).await?, router(Arc::clone(parts)), shutdown.clone());
            tasks.spawn(async move {
                let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
                if let Err(error) = served {
                    tracing::error!(argument, %error, "a port is not served any more");
                }
            });
        }
        let Some(address) = self.webhooks else { return Ok(()) };
        let listener = listen("webhooks", address).await?;
        let injector = Injector::new(&self.injection, namespace, &parts.world.current().mesh().config)?;
        let names = install::Names::new(&self.injection, namespace);
        let hooks = Arc::new(Hooks { world: Arc::clone(&parts.world), injector });
        tasks.spawn(webhook::serve(hooks, listener, Arc::clone(&parts.own), shutdown.clone()));
        let bundles = Bundles { client: client.clone(), mutating: names.mutating, validating: names.validating };
        tasks.spawn(bundles.keep(Arc::clone(parts)));
        Ok(())
    }
}

async fn listen(argument: &'static str, address: SocketAddr) -> Result<TcpListener, PortError> {
    TcpListener::bind(address).await.map_err(|source| PortError::Listen { address, argument, source })
}

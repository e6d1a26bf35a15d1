//! The discovery service: one task per stream, which follows the stages of changes at its own pace.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mutua_identity::{Compliance, SpiffeId};
use mutua_wire::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use mutua_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::authorize::{entitled, identity, named_workload};
use super::subscriptions::Subscriptions;
use super::view::View;
use crate::compile::Compiler;
use crate::listen::Peer;
use crate::metrics::Metrics;
use crate::names::WorkloadName;
use crate::registry::{Registry, Ticket};
use crate::sign::issued::IssuedLeaves;
use crate::world::World;
use crate::world::stage::Stage;

/// How long a client may take to say who it is.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// Responses that wait to be written: at most one per type is on its way, so this never fills.
const RESPONSES: usize = 8;

/// Serves delta discovery to proxies.
#[derive(Clone)]
pub struct Discovery {
    world: Arc<World>,
    registry: Arc<Registry>,
    leaves: Arc<IssuedLeaves>,
    metrics: Arc<Metrics>,
    compiler: Arc<Compiler>,
    workers: Arc<Semaphore>,
    shutdown: CancellationToken,
}

struct Stream {
    service: Discovery,
    peer: Option<Peer>,
    identity: SpiffeId,
    workload: WorkloadName,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    subscriptions: Subscriptions,
    ticket: Ticket,
    /// When the certificate of the connection ends.
    not_after: Option<SystemTime>,
}

impl Discovery {
    /// A service over these parts. `drain_duration` and `compliance` go into every proxy's settings.
    #[must_use]
    pub fn new(parts: &crate::Parts, drain_duration: Duration, compliance: Compliance, shutdown: CancellationToken) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            world: Arc::clone(&parts.world),
            registry: Arc::clone(&parts.registry),
            leaves: Arc::clone(&parts.leaves),
            metrics: Arc::clone(&parts.metrics),
            compiler: Arc::new(Compiler::new(drain_duration, compliance)),
            workers: Arc::new(Semaphore::new(workers)),
            shutdown,
        }
    }

    /// Computes what a proxy is entitled to: what takes long off the threads that do I/O, and as much at once as there are
    /// processors.
    async fn view(&self, stage: Arc<Stage>, identity: &SpiffeId, workload: &WorkloadName) -> Result<View, Status> {
        let member = Arc::clone(entitled(&stage.target, identity, workload)?);
        if let Some(view) = self.compiler.view_of_known(&stage, &member) {
            return Ok(view);
        }
        let _permit = self.workers.acquire().await.map_err(|_| Status::unavailable("the control plane is stopping"))?;
        // Another proxy that was first may have needed the same.
        if let Some(view) = self.compiler.view_of_known(&stage, &member) {
            return Ok(view);
        }
        let compiler = Arc::clone(&self.compiler);
        let view = tokio::task::spawn_blocking(move || compiler.view(&stage, &member)).await;
        view.map_err(|error| Status::internal(format!("the configuration could not be computed: {error}")))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Discovery {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        // Nothing is read of a caller that proves no identity.
        let identity = identity(&self.world.current(), peer.as_ref())?.clone();
        let (responses, stream) = mpsc::channel(RESPONSES);
        tokio::spawn(run(self.clone(), peer, identity, request.into_inner(), responses));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

async fn run(
    service: Discovery,
    peer: Option<Peer>,
    identity: SpiffeId,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let opened = async {
        let first = tokio::time::timeout(FIRST_MESSAGE, requests.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no first request came"))??;
        let first = first.ok_or_else(|| Status::invalid_argument("the stream ended before its first request"))?;
        let workload = named_workload(first.node.as_ref())?;
        entitled(&service.world.current(), &identity, &workload)?;
        Ok::<_, Status>((first, workload))
    };
    let (first, workload) = match opened.await {
        Ok(opened) => opened,
        Err(status) => {
            tracing::info!(%identity, error = status.message(), "a discovery stream is refused");
            service.metrics.stream_refused(status.code());
            let _ = responses.send(Err(status)).await;
            return;
        }
    };
    let address = peer.as_ref().and_then(|peer| peer.address).map(|address| address.to_string()).unwrap_or_default();
    let version = first.node.as_ref().map(|node| node.user_agent_version.as_str()).unwrap_or_default();
    let ticket = service.registry.connect(&workload, &identity.to_string(), &address, version, SystemTime::now());
    tracing::info!(%workload, %identity, address, "a proxy is connected");
    let registry = Arc::clone(&service.registry);
    let stream = Stream {
        service,
        not_after: peer.as_ref().and_then(|peer| peer.not_after),
        peer,
        identity,
        workload: workload.clone(),
        requests,
        responses: responses.clone(),
        subscriptions: Subscriptions::default(),
        ticket: ticket.clone(),
    };
    let ended = stream.serve(first).await;
    let lost = ended.as_ref().is_err_and(|status| status.code() != Code::Cancelled);
    registry.disconnect(&ticket, lost, SystemTime::now());
    match ended {
        Ok(()) => tracing::info!(%workload, "a proxy has left"),
        Err(status) => {
            tracing::info!(%workload, error = status.message(), "a proxy's discovery stream ends");
            let _ = responses.send(Err(status)).await;
        }
    }
}

impl Stream {
    async fn serve(mut self, first: DeltaDiscoveryRequest) -> Result<(), Status> {
        let mut stages = self.service.world.follow();
        let mut view = self.view(&mut stages).await?;
        self.take_in(&first)?;
        loop {
            self.send(&view).await?;
            let (shutdown, not_after) = (self.service.shutdown.clone(), self.not_after);
            tokio::select! {
                request = self.requests.message() => match request? {
                    Some(request) => self.take_in(&request)?,
                    None => return Ok(()),
                },
                changed = stages.changed() => {
                    changed.map_err(|_| Status::unavailable("the control plane is stopping"))?;
                    view = self.view(&mut stages).await?;
                }
                () = until(not_after) => self.check_certificate()?,
                () = shutdown.cancelled() => return Err(Status::unavailable("the control plane is stopping")),
            }
        }
    }

    async fn view(&self, stages: &mut watch::Receiver<Arc<Stage>>) -> Result<View, Status> {
        let stage = Arc::clone(&stages.borrow_and_update());
        identity(&stage.target, self.peer.as_ref())?;
        self.service.view(stage, &self.identity, &self.workload).await
    }

    fn take_in(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        let before = self.subscriptions.progress().refused.len();
        self.subscriptions.request(request).map_err(|violation| Status::resource_exhausted(violation.to_string()))?;
        let refused = self.subscriptions.progress().refused;
        if request.error_detail.is_some() {
            self.service.metrics.refused(&request.type_url);
        }
        if refused.len() > before
            && let Some(last) = refused.iter().find(|one| one.type_url == request.type_url)
        {
            let (workload, error, generation) = (&self.workload, &last.error, last.revision.generation());
            tracing::warn!(%workload, generation, error, type_url = last.type_url, "a proxy refuses configuration");
        }
        Ok(())
    }

    async fn send(&mut self, view: &View) -> Result<(), Status> {
        for response in self.subscriptions.due(view) {
            self.service.metrics.sent(&response.type_url);
            let sent = self.responses.send(Ok(response)).await;
            sent.map_err(|_| Status::cancelled("the client is gone"))?;
        }
        self.service.registry.progress(&self.ticket, self.subscriptions.progress());
        Ok(())
    }

    /// The stream lives as long as its identity has a valid certificate: the connection's own, or a newer one.
    fn check_certificate(&mut self) -> Result<(), Status> {
        let now = SystemTime::now();
        match self.service.leaves.latest_end(&self.identity) {
            Some(end) if end > now => {
                self.not_after = Some(end);
                Ok(())
            }
            _ => Err(Status::unauthenticated("the certificate of this connection has ended and was not renewed")),
        }
    }
}

async fn until(time: Option<SystemTime>) {
    match time {
        Some(time) => crate::clock::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

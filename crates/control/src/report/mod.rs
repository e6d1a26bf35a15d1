//! Takes the reports of proxies. A report counts for the workload that its sender's certificate is entitled to.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mutua_wire::mesh::mesh_report_server::MeshReport;
use mutua_wire::mesh::{ProxyReport, ReportAck};
use tonic::{Request, Response, Status, Streaming};

use crate::distribute::authorize::{entitled, identity};
use crate::listen::Peer;
use crate::names::WorkloadName;
use crate::registry::Registry;
use crate::traffic::Traffic;
use crate::world::World;

/// Reports that follow each other faster are taken up at this pace; the sender waits.
const PACE: Duration = Duration::from_millis(200);

/// The report service.
#[derive(Clone)]
pub struct Reports {
    world: Arc<World>,
    registry: Arc<Registry>,
    traffic: Arc<Traffic>,
}

impl Reports {
    /// A service over these parts.
    #[must_use]
    pub fn new(parts: &crate::Parts) -> Self {
        let (world, registry, traffic) = (Arc::clone(&parts.world), Arc::clone(&parts.registry), Arc::clone(&parts.traffic));
        Self { world, registry, traffic }
    }
}

#[tonic::async_trait]
impl MeshReport for Reports {
    async fn report(&self, request: Request<Streaming<ProxyReport>>) -> Result<Response<ReportAck>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        identity(&self.world.current(), peer.as_ref())?;
        let mut reports = request.into_inner();
        while let Some(report) = reports.message().await? {
            let workload: WorkloadName =
                report.workload.parse().map_err(|error| Status::invalid_argument(format!("workload: {error}")))?;
            let snapshot = self.world.current();
            let identity = identity(&snapshot, peer.as_ref())?;
            entitled(&snapshot, identity, &workload)?;
            let now = SystemTime::now();
            self.registry.report(&workload, &identity.to_string(), &report, now);
            self.traffic.take(&workload, &report, &snapshot, now);
            tokio::time::sleep(PACE).await;
        }
        Ok(Response::new(ReportAck {}))
    }
}

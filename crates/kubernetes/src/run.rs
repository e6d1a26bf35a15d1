//! A control plane on Kubernetes.

use std::sync::Arc;

use mutua_control::source::status::StatusFile;
use mutua_control::source::{Leader, LeaderError, Platform};
use mutua_control::state::{StateDir, StateError};
use mutua_control::{ControlPlane, Settings, StartError};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::authority::{Authority, AuthorityError};
use crate::lease::{Held, LeaseLeader};
use crate::ports::{PortError, Ports};
use crate::review::TokenReviews;
use crate::roots::Roots;
use crate::statuses::Statuses;
use crate::{Cluster, ClusterError, KubernetesSource};

/// The Lease by which one of several control planes leads.
const LEASE: &str = "mutua-control-plane";

/// Whom tokens of workloads are for, as in Istio.
const AUDIENCE: &str = "istio-ca";

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no way to the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The signing CA.
    #[error("the signing CA: {0}")]
    Authority(#[from] AuthorityError),
    /// Two sources were named.
    #[error("--config and --kubernetes exclude each other: a mesh has one source")]
    TwoSources,
    /// The control plane.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What it serves beside proxies.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Runs a control plane of the mesh in `cluster`, and what it serves beside proxies, until `shutdown`. While another one leads there, it waits.
///
/// # Errors
/// It cannot start, one of its parts fails, or it loses the lead.
pub async fn run(cluster: &Cluster, settings: Settings, ports: &Ports, shutdown: CancellationToken) -> Result<(), RunError> {
    if settings.config.is_some() {
        return Err(RunError::TwoSources);
    }
    let client = cluster.client().await?;
    let leader = LeaseLeader::new(client.clone(), &cluster.namespace, LEASE, &holder());
    let led = tokio::select! {
        led = Box::pin(lead(cluster, client, (settings, ports), &leader, shutdown.clone())) => led,
        () = shutdown.cancelled() => Ok(None),
    };
    let result = match led {
        Ok(Some((running, _keepers))) => running.wait().await.map_err(RunError::from),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    leader.release().await;
    result
}

/// Waits for the lead, takes the CA from its Secret, and starts.
async fn lead(
    cluster: &Cluster,
    client: kube::Client,
    (mut settings, ports): (Settings, &Ports),
    leader: &LeaseLeader,
    shutdown: CancellationToken,
) -> Result<Option<(ControlPlane, JoinSet<()>)>, RunError> {
    let waiting = |who: &str| tracing::info!(who, "another control plane leads {}; waiting", leader.place());
    let held = leader.lead(waiting).await.map_err(StartError::Leader)?;
    let state = Arc::new(StateDir::open(&settings.state)?);
    let authority = Authority::new(client.clone(), &cluster.namespace, Arc::clone(&state));
    // A folder that is named goes before Secrets: whoever mounts them says so.
    let from_secret = settings.ca_dir.is_none();
    if from_secret {
        settings.ca_dir = authority.take().await?;
    }
    let plugged = settings.ca_dir.is_some();
    let platform = Platform {
        source: KubernetesSource::new(&client, &cluster.namespace, Arc::clone(&state)),
        sink: StatusFile::new(Arc::clone(&state)),
        leader: Led(Mutex::new(Some(held))),
        accounts: vec![Arc::new(TokenReviews::new(client.clone(), AUDIENCE))],
    };
    let running = Box::pin(ControlPlane::start_on(settings, Arc::clone(&state), platform, shutdown.clone())).await?;
    let mut keepers = JoinSet::new();
    ports.serve(&running.parts, &client, &cluster.namespace, &mut keepers, &shutdown).await?;
    if from_secret {
        keepers.spawn(authority.keep(plugged));
    }
    keepers.spawn(Roots::new(client.clone(), state).keep());
    keepers.spawn(Statuses::new(client, Arc::clone(&running.parts)).keep());
    Ok(Some((running, keepers)))
}

/// The name of this process for others: that of its pod, else of its machine.
fn holder() -> String {
    let name = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_else(|_| "mutua".to_owned());
    format!("{name}_{}", std::process::id())
}

/// A lead that was taken before the control plane starts: what it starts with depends on it.
struct Led(Mutex<Option<Held>>);

impl Leader for Led {
    type Lease = Held;

    fn place(&self) -> String {
        "already".to_owned()
    }

    async fn lead(&self, _: impl Fn(&str) + Send) -> Result<Held, LeaderError> {
        match self.0.lock().await.take() {
            Some(held) => Ok(held),
            None => std::future::pending().await,
        }
    }
}

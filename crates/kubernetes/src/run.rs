//! A control plane on Kubernetes.

use std::sync::Arc;

use mutua_control::source::Platform;
use mutua_control::source::leader::FileLeader;
use mutua_control::source::status::StatusFile;
use mutua_control::state::{StateDir, StateError};
use mutua_control::{Settings, StartError};
use tokio_util::sync::CancellationToken;

use crate::{Cluster, ClusterError, KubernetesSource};

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no way to the cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// Two sources were named.
    #[error("--config and --kubernetes exclude each other: a mesh has one source")]
    TwoSources,
    /// The control plane.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Runs a control plane of the mesh in `cluster` until `shutdown`.
///
/// # Errors
/// It cannot start, or one of its parts fails.
pub async fn run(cluster: &Cluster, settings: Settings, shutdown: CancellationToken) -> Result<(), RunError> {
    if settings.config.is_some() {
        return Err(RunError::TwoSources);
    }
    let client = cluster.client().await?;
    let state = Arc::new(StateDir::open(&settings.state)?);
    let platform = Platform {
        source: KubernetesSource::new(&client, &cluster.namespace, Arc::clone(&state)),
        sink: StatusFile::new(Arc::clone(&state)),
        leader: FileLeader::new(&state),
    };
    Ok(mutua_control::run_on(settings, state, platform, shutdown).await?)
}

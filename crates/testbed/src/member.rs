//! A sidecar that follows a control plane, in one process with it.

use std::sync::Arc;

use mutua_proxy::certificate::{Certificates, Store};
use mutua_proxy::connections::Direction;
use mutua_proxy::settings::Workload;
use mutua_wire::MeshResource;
use mutua_wire::mesh::Destination;
use tokio_util::sync::CancellationToken;

use crate::Running;
use crate::plane::{Plane, TOKEN};

/// What keeps the certificate of a sidecar.
pub fn keeper(plane: &Plane, folder: &tempfile::TempDir, token: Option<&str>, of: &Running) -> Arc<Certificates> {
    let workload = Workload { namespace: "shop".to_owned(), name: "server".to_owned() };
    let store = Store::open(folder.path().join("state")).unwrap();
    let (token, world) = (token.map(|token| token.to_owned().into()), Arc::clone(&of.sidecar.world));
    Arc::new(Certificates::new(plane.as_seen_by_a_proxy(), workload, store, token, world))
}

/// A sidecar that follows a control plane.
pub struct Member {
    _folder: tempfile::TempDir,
    /// The sidecar.
    pub running: Running,
    /// Its certificate's keeper.
    pub certificates: Arc<Certificates>,
    stop: CancellationToken,
}

impl Member {
    /// Joins, and follows.
    pub async fn join(plane: &Plane) -> Self {
        Self::with(plane, |_| {}).await
    }

    /// As [`Member::join`], with its keeper changed before.
    pub async fn with(plane: &Plane, change: impl FnOnce(&mut Certificates)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let running = Running::start(Direction::Inbound, None).await;
        let mut certificates = keeper(plane, &folder, Some(TOKEN), &running);
        change(Arc::get_mut(&mut certificates).unwrap());
        certificates.obtain().await.unwrap();
        let stop = CancellationToken::new();
        let (keeping, following) = (Arc::clone(&certificates), Arc::clone(&certificates));
        let (first, second) = (stop.clone(), stop.clone());
        tokio::spawn(async move { keeping.keep(first).await });
        tokio::spawn(mutua_proxy::discovery::follow(Arc::clone(&running.sidecar), following, second));
        plane.request(|request| request.type_url == Destination::TYPE_URL).await;
        Self { _folder: folder, running, certificates, stop }
    }

    /// Serial number of the leaf in use.
    pub fn serial(&self) -> String {
        self.certificates.world.credentials().unwrap().serial().to_owned()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

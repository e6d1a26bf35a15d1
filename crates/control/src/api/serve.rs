//! The API's two listeners.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::guard::{Names, check};

/// Why the API could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The TCP address.
    #[error("the API cannot listen on {address}: {source} (--api chooses another address)")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The socket.
    #[error("the API cannot listen on {}: {source}", path.display())]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
}

/// The open listeners.
#[derive(Debug)]
pub struct Bound {
    tcp: TcpListener,
    unix: UnixListener,
    path: PathBuf,
    /// The TCP address in fact.
    pub address: SocketAddr,
}

/// Opens both listeners. A socket that an earlier process left behind is replaced: whoever calls holds the lead over the
/// state folder.
///
/// # Errors
/// An address or path that cannot be opened.
pub async fn bind(address: SocketAddr, path: &Path) -> Result<Bound, BindError> {
    let tcp_error = |source| BindError::Tcp { address, source };
    let tcp = TcpListener::bind(address).await.map_err(tcp_error)?;
    let address = tcp.local_addr().map_err(tcp_error)?;
    let unix = open_socket(path).map_err(|source| BindError::Socket { path: path.to_owned(), source })?;
    Ok(Bound { tcp, unix, path: path.to_owned(), address })
}

/// Makes the socket in a folder that nobody else can enter, and moves it to its place once its mode is right.
fn open_socket(path: &Path) -> io::Result<UnixListener> {
    let folder = path.with_extension("private");
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let inside = folder.join("socket");
    let listener = UnixListener::bind(&inside)?;
    std::fs::set_permissions(&inside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&inside, path)?;
    std::fs::remove_dir(&folder)?;
    Ok(listener)
}

impl Bound {
    /// Serves `router` until `shutdown`: over TCP for reads and under `names` only, over the socket in full.
    ///
    /// # Errors
    /// A listener fails.
    pub async fn serve(self, router: Router, names: Names, shutdown: CancellationToken) -> io::Result<()> {
        let guarded = router.clone().layer(from_fn_with_state(names, check));
        let (over_tcp, over_unix) = (shutdown.clone(), shutdown);
        let tcp = axum::serve(self.tcp, guarded).with_graceful_shutdown(async move { over_tcp.cancelled().await });
        let unix = axum::serve(self.unix, router).with_graceful_shutdown(async move { over_unix.cancelled().await });
        let result = tokio::try_join!(tcp, unix).map(|_| ());
        let _ = std::fs::remove_file(&self.path);
        result
    }
}

//! A small HTTP/1.1 server over TCP and over a socket of the file system: GET only, one request per connection.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use super::{Admin, Answer, Pages};
use crate::probes;

/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one connection may last in all, beside what the application may take for a probe.
const LONGEST: Duration = Duration::from_secs(30);
/// Connections served at once.
const MAX_CLIENTS: usize = 64;
/// The largest request head.
const MAX_HEAD: usize = 16 * 1024;
/// Where others wait until the sidecar serves, and for how long at most.
const WAIT: &str = "/wait/ready";
const READY: &str = "/healthz/ready";
const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes the socket `path` with mode 0600, in place of one that nobody listens on.
///
/// # Errors
/// The socket cannot be made, or somebody listens on it.
pub fn bind_socket(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another sidecar uses this state folder"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves `pages` over TCP, for ever.
pub async fn serve_tcp(admin: Admin, pages: Pages, listener: Arc<TcpListener>) {
    let slots = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => spawn(admin.clone(), pages, stream, slot),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Serves all pages over a socket of the file system, for ever.
pub async fn serve_unix(admin: Admin, listener: Arc<UnixListener>) {
    let slots = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => spawn(admin.clone(), Pages::All, stream, slot),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn spawn<S>(admin: Admin, pages: Pages, stream: S, slot: tokio::sync::OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        serve_connection(admin, pages, stream).await;
        drop(slot);
    });
}

/// Serves `pages` over one connection, to its end or to a bound of time.
pub async fn serve_connection<S>(admin: Admin, pages: Pages, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request: Request<Incoming>| {
        let admin = &admin;
        async move { Ok::<_, Infallible>(respond(admin, pages, &request).await) }
    });
    let longest = LONGEST + admin.sidecar.probers.longest();
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false).max_buf_size(MAX_HEAD);
    // A client that goes away is no event.
    let _ = tokio::time::timeout(longest, server.serve_connection(TokioIo::new(stream), service)).await;
}

async fn respond(admin: &Admin, pages: Pages, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let answer = if request.method() != Method::GET {
        Answer { status: 405, content_type: "text/plain", body: b"GET only\n".to_vec() }
    } else if probes::is_probe(path) {
        admin.sidecar.probers.answer(path, request.headers(), &admin.sidecar.application).await
    } else if path == WAIT && pages != Pages::Metrics {
        wait(admin).await
    } else {
        admin.answer(pages, path, request.uri().query().unwrap_or_default())
    };
    let response = Response::builder().status(answer.status).header("content-type", answer.content_type);
    response.body(Full::new(Bytes::from(answer.body))).unwrap_or_default()
}

/// Readiness, once there is some: for containers that start only when the sidecar serves.
async fn wait(admin: &Admin) -> Answer {
    let mut changes = admin.sidecar.world.follow();
    let ready = async {
        while admin.answer(Pages::Readiness, READY, "").status != 200 {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    // Who has waited in vain is told what is missing.
    let _ = tokio::time::timeout(LONGEST_WAIT, ready).await;
    admin.answer(Pages::Readiness, READY, "")
}

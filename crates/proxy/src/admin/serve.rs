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

/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one connection may last in all.
const LONGEST: Duration = Duration::from_secs(30);
/// Connections served at once.
const MAX_CLIENTS: usize = 64;
/// The largest request head.
const MAX_HEAD: usize = 16 * 1024;
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
        let answer = respond(&admin, pages, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false).max_buf_size(MAX_HEAD);
    // A client that goes away is no event.
    let _ = tokio::time::timeout(LONGEST, server.serve_connection(TokioIo::new(stream), service)).await;
}

fn respond(admin: &Admin, pages: Pages, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let answer = if request.method() == Method::GET {
        admin.answer(pages, request.uri().path(), request.uri().query().unwrap_or_default())
    } else {
        Answer { status: 405, content_type: "text/plain", body: b"GET only\n".to_vec() }
    };
    let response = Response::builder().status(answer.status).header("content-type", answer.content_type);
    response.body(Full::new(Bytes::from(answer.body))).unwrap_or_default()
}

//! The webhooks' server: HTTPS, every wait and every body bounded. A review that fails ends with an answer that says so, and
//! nothing else ends with it.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use mutua_identity::stream::TlsStream;
use mutua_identity::{Credentials, ServerConfig, TlsError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Hooks;
use super::review::{self, ReviewError};

/// How long a handshake, and a request's head, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a review may take in all, with its body: API servers wait 10 seconds, or 30 at most.
const REVIEW: Duration = Duration::from_secs(30);
/// How long a connection serves before it ends between two requests, so that nobody holds a place for good.
const LIFE: Duration = Duration::from_secs(60);
/// Connections at once.
const MAX_CONNECTIONS: usize = 256;
/// Reviews worked on at once.
const MAX_REVIEWS: usize = 16;
/// The largest review: what an API server takes for an object (3 MiB), twice (`object` and `oldObject`), and what is around it.
pub const MAX_BODY: usize = 7 << 20;
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(50);

/// The certificate as it is now: renewals and changes of root are for new connections.
struct Certificate {
    own: Arc<ArcSwap<Credentials>>,
    made: Option<(Arc<Credentials>, ServerConfig)>,
}

impl Certificate {
    fn now(&mut self) -> Result<ServerConfig, TlsError> {
        let own = self.own.load_full();
        match &self.made {
            Some((of, config)) if Arc::ptr_eq(of, &own) => Ok(config.clone()),
            _ => {
                let config = ServerConfig::https(&own)?;
                self.made = Some((own, config.clone()));
                Ok(config)
            }
        }
    }
}

/// Serves under the certificate `own` until `shutdown`.
pub async fn serve(hooks: Arc<Hooks>, listener: TcpListener, own: Arc<ArcSwap<Credentials>>, shutdown: CancellationToken) {
    let mut certificate = Certificate { own, made: None };
    let (places, reviews) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Arc::new(Semaphore::new(MAX_REVIEWS)));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let accepted = accepted.and_then(|(tcp, _)| Ok((tcp, certificate.now().map_err(io::Error::other)?)));
        match accepted {
            Ok((tcp, config)) => {
                let (hooks, reviews) = (Arc::clone(&hooks), Arc::clone(&reviews));
                tokio::spawn(async move {
                    if let Err(error) = connection(hooks, reviews, tcp, &config).await {
                        tracing::debug!(%error, "a connection to the webhooks ended");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the webhooks could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(hooks: Arc<Hooks>, reviews: Arc<Semaphore>, tcp: TcpStream, config: &ServerConfig) -> io::Result<()> {
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let tls =
        tokio::time::timeout(PATIENCE, TlsStream::accept(config, tcp)).await.map_err(|_| late())?.map_err(io::Error::other)?;
    let service = service_fn(move |request| {
        let (hooks, reviews) = (Arc::clone(&hooks), Arc::clone(&reviews));
        async move { Ok::<_, Infallible>(respond(hooks, reviews, request).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PATIENCE))
        .max_concurrent_streams(32)
        .max_header_list_size(16 << 10);
    let serving = server.serve_connection(TokioIo::new(tls), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = tokio::time::sleep(LIFE) => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(REVIEW, serving).await.map_err(|_| late())?
        }
    };
    ended.map_err(io::Error::other)
}

async fn respond(hooks: Arc<Hooks>, reviews: Arc<Semaphore>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let answered = tokio::time::timeout(REVIEW, answer(hooks, reviews, request)).await;
    let (status, kind, body) = match answered {
        Ok(Ok(body)) => (StatusCode::OK, "application/json", body),
        Ok(Err((status, message))) => (status, "text/plain; charset=utf-8", format!("{message}\n").into_bytes()),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", b"the review took too long\n".to_vec()),
    };
    Response::builder().status(status).header("content-type", kind).body(Full::new(Bytes::from(body))).unwrap_or_default()
}

/// Which webhook.
#[derive(Clone, Copy)]
enum Hook {
    Inject,
    Validate,
}

impl Hook {
    /// By its path: Istio's, with whatever stands below.
    fn of(path: &str) -> Option<Self> {
        let under = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if under("/inject") { Some(Self::Inject) } else { under("/validate").then_some(Self::Validate) }
    }
}

async fn answer(hooks: Arc<Hooks>, reviews: Arc<Semaphore>, request: Request<Incoming>) -> Result<Vec<u8>, (StatusCode, String)> {
    let refuse = |status: StatusCode, why: &str| Err((status, why.to_owned()));
    let Some(hook) = Hook::of(request.uri().path()) else { return refuse(StatusCode::NOT_FOUND, "no such webhook") };
    if request.method() != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "reviews are posted");
    }
    let json = request.headers().get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !json {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "a review is application/json");
    }
    let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the review is too large");
        }
        Err(error) => return Err((StatusCode::BAD_REQUEST, error.to_string())),
    };
    let Ok(turn) = reviews.acquire_owned().await else { return refuse(StatusCode::SERVICE_UNAVAILABLE, "stopping") };
    let worked = tokio::task::spawn_blocking(move || work(hook, &hooks, &body, turn)).await;
    match worked {
        Ok(answer) => answer.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string())),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the webhook failed; its log says where"),
    }
}

fn work(hook: Hook, hooks: &Hooks, body: &[u8], _turn: OwnedSemaphorePermit) -> Result<Vec<u8>, ReviewError> {
    let snapshot = hooks.world.current();
    match hook {
        Hook::Inject => review::inject(&hooks.injector, &snapshot, body),
        Hook::Validate => review::validate(&snapshot, body),
    }
}

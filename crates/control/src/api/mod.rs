//! The HTTP API: reads over TCP on loopback, reads and writes over the socket `api.sock` of the state folder.
//!
//! `GET /api/v1/{status,mesh,traffic,plaintext,stream,proxies,certificates,tokens,rollouts,ca,explain}`, `POST /api/v1/tokens`,
//! `POST /api/v1/rollouts/{complete,abort}`, `POST /api/v1/ca/{rotate,abort}`, `GET /readyz`, `GET /metrics`.
//! Names in JSON are camelCase, times RFC 3339; an error is `{"error": "…"}`.

mod ca;
mod certificate_metrics;
mod certificates;
mod explain;
pub mod guard;
mod mesh;
pub mod monitoring;
mod pages;
mod serve;
mod stream;
mod traffic;
mod views;
mod window;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use mutua_policy::ConnectionQuery;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use serve::{BindError, Bound, bind};
use window::Window;

use crate::Parts;
use crate::configure::{self, NotAborted};
use crate::names::WorkloadName;
use crate::sign::reroot;
use crate::sign::rotation::RotationError;
use crate::sign::tokens::{DEFAULT_TTL, TokenError, TokenRecord};
use crate::source::NoWayBack;

/// The largest request body.
const MAX_BODY: usize = 64 * 1024;

/// An answer that is an error: `{"error": "…"}`.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    /// An error with its status and what the caller should know.
    #[must_use]
    pub fn new(status: StatusCode, message: String) -> Self {
        Self { status, message }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(serde_json::json!({ "error": self.message }))).into_response()
    }
}

/// All paths.
///
/// Streams end with `stop`.
pub fn router(parts: Arc<Parts>, stop: CancellationToken) -> Router {
    let surveys = Arc::new(mesh::Surveys::default());
    Router::new()
        .route("/api/v1/mesh", get(async move |State(parts): State<Arc<Parts>>| mesh(&parts, surveys).await))
        .route("/api/v1/stream", get(async move |State(parts): State<Arc<Parts>>| stream::stream(parts, stop)))
        .route("/api/v1/traffic", get(traffic))
        .route("/api/v1/plaintext", get(plaintext))
        .route("/api/v1/status", get(status))
        .route("/api/v1/proxies", get(proxies))
        .route("/api/v1/certificates", get(certificates))
        .route("/api/v1/tokens", get(tokens).post(create_token))
        .route("/api/v1/rollouts", get(rollouts))
        .route("/api/v1/rollouts/complete", post(complete))
        .route("/api/v1/rollouts/abort", post(abort))
        .route("/api/v1/ca", get(ca_status))
        .route("/api/v1/ca/rotate", post(ca_rotate))
        .route("/api/v1/ca/abort", post(ca_abort))
        .route("/api/v1/explain", get(explain))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .fallback(pages::page)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(parts)
}

async fn status(State(parts): State<Arc<Parts>>) -> Json<views::StatusView> {
    Json(views::status(&parts))
}

async fn mesh(parts: &Arc<Parts>, surveys: Arc<mesh::Surveys>) -> Result<Json<Arc<mesh::MeshView>>, Failure> {
    let snapshot = parts.world.current();
    let view = tokio::task::spawn_blocking(move || surveys.of(&snapshot)).await;
    view.map(Json).map_err(|error| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn traffic(State(parts): State<Arc<Parts>>, window: Window) -> Json<traffic::TrafficView> {
    Json(traffic::traffic(&parts, window.0, SystemTime::now()))
}

async fn plaintext(State(parts): State<Arc<Parts>>, window: Window) -> Json<traffic::PlaintextView> {
    Json(traffic::plaintext(&parts, window.0, SystemTime::now()))
}

async fn proxies(State(parts): State<Arc<Parts>>) -> Json<views::ProxiesView> {
    Json(views::proxies(&parts))
}

async fn rollouts(State(parts): State<Arc<Parts>>) -> Json<Vec<views::RolloutView>> {
    Json(views::rollouts(&parts))
}

/// For an emergency: the change under way is in force at once, without waiting for anybody.
async fn complete(State(parts): State<Arc<Parts>>) -> Json<Vec<views::RolloutView>> {
    tracing::warn!(generation = parts.world.current().generation, "the change under way is completed at once, as asked");
    parts.world.complete();
    parts.rollouts.enter(&parts.world.stage());
    Json(views::rollouts(&parts))
}

/// The change under way is taken back: the mesh goes to what was in force before it.
async fn abort(State(parts): State<Arc<Parts>>) -> Result<Json<Vec<views::RolloutView>>, Failure> {
    configure::abort(&parts).await.map_err(|error| {
        let status = match error {
            NotAborted::NothingUnderWay | NotAborted::SameConfiguration | NotAborted::NoWayBack(NoWayBack::Forgotten) => {
                StatusCode::CONFLICT
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failure::new(status, error.to_string())
    })?;
    Ok(Json(views::rollouts(&parts)))
}

async fn certificates(State(parts): State<Arc<Parts>>) -> Json<certificates::CertificatesView> {
    Json(certificates::certificates(&parts, SystemTime::now()))
}

async fn ca_status(State(parts): State<Arc<Parts>>) -> Json<ca::CaView> {
    Json(ca::view(&parts))
}

async fn ca_rotate(State(parts): State<Arc<Parts>>) -> Result<Json<ca::CaView>, Failure> {
    reroot::begin(&parts).map_err(|error| unchanged(&error))?;
    Ok(Json(ca::view(&parts)))
}

async fn ca_abort(State(parts): State<Arc<Parts>>) -> Result<Json<ca::CaView>, Failure> {
    reroot::abort(&parts).map_err(|error| unchanged(&error))?;
    Ok(Json(ca::view(&parts)))
}

fn unchanged(error: &RotationError) -> Failure {
    let status = match error {
        RotationError::Plugged
        | RotationError::PutBack
        | RotationError::UnderWay
        | RotationError::None
        | RotationError::TooLate => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Failure::new(status, error.to_string())
}

async fn tokens(State(parts): State<Arc<Parts>>) -> Json<Vec<TokenRecord>> {
    Json(parts.tokens.list())
}

#[derive(Deserialize)]
struct TokenRequest {
    workload: String,
    ttl_seconds: Option<u64>,
}

#[derive(Serialize)]
struct TokenAnswer {
    token: String,
    workload: WorkloadName,
    identity: String,
}

async fn create_token(
    State(parts): State<Arc<Parts>>,
    request: Result<Json<TokenRequest>, JsonRejection>,
) -> Result<Json<TokenAnswer>, Failure> {
    let Json(request) = request.map_err(|error| Failure::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let wrong = |error: String| Failure::new(StatusCode::BAD_REQUEST, error);
    let workload: WorkloadName =
        request.workload.parse().map_err(|error: crate::names::NotAWorkload| wrong(error.to_string()))?;
    let snapshot = parts.world.current();
    let member = snapshot.member(&workload).ok_or_else(|| {
        let message = format!("the mesh has no workload {workload}: add its WorkloadEntry or Pod to the configuration first");
        Failure::new(StatusCode::NOT_FOUND, message)
    })?;
    let identity = snapshot.identity_of(member).map_err(|error| Failure::new(StatusCode::FORBIDDEN, error.to_string()))?;
    let ttl = request.ttl_seconds.map_or(DEFAULT_TTL, Duration::from_secs);
    let token = parts.tokens.create(workload.clone(), ttl, SystemTime::now()).map_err(|error| {
        let status = match &error {
            TokenError::Ttl => StatusCode::BAD_REQUEST,
            TokenError::TooMany => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Failure::new(status, error.to_string())
    })?;
    tracing::info!(%workload, ttl = ttl.as_secs(), "a join token is made");
    Ok(Json(TokenAnswer { token: token.reveal().to_owned(), workload, identity: identity.to_string() }))
}

async fn ready(State(parts): State<Arc<Parts>>) -> Result<&'static str, Failure> {
    match certificates::dead(&parts, SystemTime::now()) {
        Some(dead) => Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, dead.to_owned())),
        None => Ok("ready\n"),
    }
}

async fn metrics(State(parts): State<Arc<Parts>>) -> impl IntoResponse {
    let kind = [(axum::http::header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let text = parts.metrics.text(views::readings(&parts));
    let certificates = certificate_metrics::metrics(&parts, SystemTime::now());
    // OpenMetrics ends with this line.
    (kind, format!("{}{certificates}# EOF\n", text.trim_end_matches("# EOF\n")))
}

#[derive(Deserialize)]
struct ExplainQuery {
    from: Option<String>,
    to: Option<String>,
    subset: Option<String>,
    workload: Option<String>,
}

async fn explain(State(parts): State<Arc<Parts>>, Query(query): Query<ExplainQuery>) -> Result<Response, Failure> {
    let snapshot = parts.world.current();
    match (query.workload, query.from, query.to) {
        (Some(workload), None, None) => explain::explain_workload(&snapshot, &parts.registry, &workload),
        (None, Some(from), Some(to)) => {
            let asked = ConnectionQuery { from, to, subset: query.subset };
            explain::explain_connection(&snapshot, &parts.registry, &asked, parts.compliance)
        }
        _ => Err(Failure::new(StatusCode::BAD_REQUEST, "ask with from and to, or with workload".to_owned())),
    }
}

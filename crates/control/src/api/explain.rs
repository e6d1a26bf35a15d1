//! Decisions of the running mesh, in the JSON form of `mutua explain`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use mutua_identity::Compliance;
use mutua_policy::{ConnectionQuery, QueryError};

use super::Failure;
use crate::registry::Registry;
use crate::world::Snapshot;

/// What a workload accepts, and what its sidecar has learned of its ports.
pub fn explain_workload(snapshot: &Snapshot, registry: &Registry, workload: &str) -> Result<Response, Failure> {
    let mut answer = snapshot.engine.explain_workload(workload).map_err(|error| failure(&error))?;
    if let Ok(name) = answer.workload.parse() {
        answer.server_first = registry.server_first(&name);
    }
    Ok(Json(answer).into_response())
}

/// What becomes of a connection, and what the sidecars of its endpoints have learned of their ports.
pub fn explain_connection(
    snapshot: &Snapshot,
    registry: &Registry,
    query: &ConnectionQuery,
    compliance: Compliance,
) -> Result<Response, Failure> {
    let mut answer = snapshot.engine.explain_connection(query).map_err(|error| failure(&error))?;
    for endpoint in &mut answer.endpoints {
        let workload = endpoint.workload.as_ref().and_then(|name| name.parse().ok());
        endpoint.server_first = workload.and_then(|name| registry.server_first(&name).remove(&endpoint.port));
    }
    let answer = if compliance == Compliance::Pqc { answer.with_tls_1_3_only() } else { answer };
    Ok(Json(answer).into_response())
}

fn failure(error: &QueryError) -> Failure {
    let status = match error {
        QueryError::UnknownWorkload { .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    Failure::new(status, error.to_string())
}

//! A probe by `grpc.health.v1.Health/Check`, in plaintext, as the kubelet does it.

use std::io;

use hyper_util::rt::TokioIo;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::{Application, Grpc};
use crate::control_plane::chain;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SERVING`.
const SERVING: i32 = 1;

/// Whether the application says that it serves.
pub(super) async fn ask(grpc: &Grpc, application: &Application) -> io::Result<()> {
    let (application, port) = (*application, grpc.port);
    let connector =
        tower::service_fn(move |_: tonic::transport::Uri| async move { application.connect(port).await.map(TokioIo::new) });
    let connected = Endpoint::from_static("http://application").connect_with_connector(connector).await;
    let channel = connected.map_err(|error| io::Error::other(chain(&error)))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| io::Error::other(chain(&error)))?;
    let question = tonic::Request::new(Request { service: grpc.service.clone().unwrap_or_default() });
    let codec = ProstCodec::<Request, Response>::default();
    let answer = client.unary(question, PathAndQuery::from_static("/grpc.health.v1.Health/Check"), codec).await;
    let status =
        answer.map_err(|status| io::Error::other(format!("{:?}: {}", status.code(), status.message())))?.into_inner().status;
    if status == SERVING { Ok(()) } else { Err(io::Error::other(format!("the application says status {status}, not SERVING"))) }
}

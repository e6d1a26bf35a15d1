//! gRPC by tonic: a server that answers with what it is told, and its callers. Any service serves for that: the mesh's own
//! are at hand, one that asks once and one that streams both ways.

use std::net::SocketAddr;

use mutua_wire::certificate::istio_certificate_service_client::IstioCertificateServiceClient;
use mutua_wire::certificate::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use mutua_wire::certificate::{IstioCertificateRequest, IstioCertificateResponse};
use mutua_wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mutua_wire::discovery::aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer};
use mutua_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::PATIENCE;

/// The name of the trailer with the number of messages of a stream.
const COUNT: &str = "x-count";

/// A running server.
#[derive(Clone, Copy)]
pub struct Grpc {
    /// Where it listens.
    pub address: SocketAddr,
}

impl Grpc {
    /// Starts one.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(IstioCertificateServiceServer::new(Echo))
            .add_service(AggregatedDiscoveryServiceServer::new(Echo));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address }
    }
}

struct Echo;

#[tonic::async_trait]
impl IstioCertificateService for Echo {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        Ok(Response::new(IstioCertificateResponse { cert_chain: vec![request.into_inner().csr] }))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Echo {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (send, answers) = mpsc::channel(1);
        let mut requests = request.into_inner();
        tokio::spawn(async move {
            let mut count = 0;
            while let Some(request) = requests.message().await? {
                count += 1;
                let nonce = request.response_nonce;
                let _ = send.send(Ok(DeltaDiscoveryResponse { nonce, ..Default::default() })).await;
            }
            let mut end = Status::new(Code::OutOfRange, "the caller has said all");
            end.metadata_mut().insert(COUNT, count.into());
            let _ = send.send(Err(end)).await;
            Ok::<_, Status>(())
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}

/// A channel to `http://HOST:PORT` or `unix:PATH`; it connects when it is used, again when a connection has ended.
#[must_use]
pub fn channel(uri: &str) -> Channel {
    Endpoint::from_shared(uri.to_owned()).unwrap().timeout(PATIENCE).connect_lazy()
}

/// Asks once.
///
/// # Errors
/// The call failed.
pub async fn ask(channel: &Channel, text: &str) -> Result<(), Status> {
    let request = IstioCertificateRequest { csr: text.to_owned(), ..Default::default() };
    let answer = IstioCertificateServiceClient::new(channel.clone()).create_certificate(request).await?;
    assert_eq!(answer.into_inner().cert_chain, [text]);
    Ok(())
}

/// A stream both ways.
pub struct Talk {
    send: mpsc::Sender<DeltaDiscoveryRequest>,
    answers: Streaming<DeltaDiscoveryResponse>,
    said: usize,
}

impl Talk {
    /// Opens one.
    ///
    /// # Errors
    /// The call failed.
    pub async fn open(channel: &Channel) -> Result<Self, Status> {
        let (send, requests) = mpsc::channel(1);
        let mut client = AggregatedDiscoveryServiceClient::new(channel.clone());
        let answers = client.delta_aggregated_resources(ReceiverStream::new(requests)).await?.into_inner();
        Ok(Self { send, answers, said: 0 })
    }

    /// Says `text` and hears it.
    ///
    /// # Errors
    /// The stream has ended.
    pub async fn say(&mut self, text: &str) -> Result<(), Status> {
        let _ = self.send.send(DeltaDiscoveryRequest { response_nonce: text.to_owned(), ..Default::default() }).await;
        self.said += 1;
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("an answer in time")?;
        assert!(answer.expect("an answer before the end").nonce == text, "the answer to these {} bytes", text.len());
        Ok(())
    }

    /// Ends the caller's direction: the server ends its own with trailers that say how much it heard.
    pub async fn end(mut self) {
        drop(self.send);
        let end = tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("an end in time").unwrap_err();
        assert_eq!((end.code(), end.message()), (Code::OutOfRange, "the caller has said all"));
        assert_eq!(end.metadata().get(COUNT).unwrap().to_str().unwrap(), self.said.to_string());
    }
}

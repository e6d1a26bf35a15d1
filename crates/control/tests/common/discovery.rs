//! A discovery client that answers by hand.

use std::collections::BTreeMap;

use mutua_identity::Credentials;
use mutua_wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mutua_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status as ErrorDetail};
use mutua_wire::node::{WILDCARD, sidecar_node};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Mesh, PATIENCE};

pub struct Client {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    node: Option<Node>,
}

impl Client {
    /// Opens a stream for a workload; nothing is asked for yet.
    pub async fn open(mesh: &Mesh, credentials: Option<&Credentials>, workload: &str) -> Result<Self, Status> {
        let (namespace, name) = workload.split_once('/').expect("NAMESPACE/NAME");
        Self::open_as(mesh, credentials, sidecar_node(namespace, name, "", "10.1.0.1", "test")).await
    }

    pub async fn open_as(mesh: &Mesh, credentials: Option<&Credentials>, node: Node) -> Result<Self, Status> {
        let channel = mesh.channel(credentials).await.map_err(|error| Status::unknown(error.to_string()))?;
        let (requests, stream) = mpsc::channel(8);
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client.delta_aggregated_resources(ReceiverStream::new(stream)).await?.into_inner();
        Ok(Self { requests, responses, node: Some(node) })
    }

    pub async fn send(&mut self, mut request: DeltaDiscoveryRequest) {
        request.node = self.node.take();
        self.requests.send(request).await.expect("the stream is open");
    }

    pub async fn subscribe(&mut self, type_url: &str, names: &[&str], held: BTreeMap<String, String>) {
        let resource_names_subscribe = names.iter().map(|name| (*name).to_owned()).collect();
        let (type_url, initial_resource_versions) = (type_url.to_owned(), held);
        let request =
            DeltaDiscoveryRequest { type_url, resource_names_subscribe, initial_resource_versions, ..Default::default() };
        self.send(request).await;
    }

    pub async fn subscribe_all(&mut self, type_url: &str) {
        self.subscribe(type_url, &[WILDCARD], BTreeMap::new()).await;
    }

    pub async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let message = tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("an answer in time");
        message.map(|response| response.expect("the stream goes on"))
    }

    /// Whether nothing comes for a while.
    pub async fn quiet(&mut self) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(700), self.responses.message()).await.is_err()
    }

    pub async fn ack(&mut self, response: &DeltaDiscoveryResponse) {
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        self.send(DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() }).await;
    }

    pub async fn nack(&mut self, response: &DeltaDiscoveryResponse, message: &str) {
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        let error_detail = Some(ErrorDetail { code: 13, message: message.to_owned() });
        self.send(DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() }).await;
    }
}

pub fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

pub fn versions(response: &DeltaDiscoveryResponse) -> BTreeMap<String, String> {
    response.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())).collect()
}

//! Follows the control plane: delta discovery over mutual TLS. The last state stays in force while there is no
//! connection; each response is taken over whole and acknowledged, or refused whole with the reason.

use std::sync::Arc;

use mutua_wire::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use mutua_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status as Refused};
use mutua_wire::mesh::{Destination, InboundPolicy, PeerWorkload, ProxySettings, TrustBundle};
use mutua_wire::node::{WILDCARD, sidecar_node};
use mutua_wire::{MeshResource, mesh};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::certificate::Certificates;
use crate::control_plane::{Backoff, chain};
use crate::kept::Kept;
use crate::sidecar::Sidecar;
use crate::world::{Change, labels};

/// Subscribed to whole, in this order.
pub(crate) const TYPES: [&str; 4] =
    [TrustBundle::TYPE_URL, ProxySettings::TYPE_URL, InboundPolicy::TYPE_URL, Destination::TYPE_URL];
/// Requests that wait to be written.
const REQUESTS: usize = 64;
/// gRPC's INTERNAL, which xDS clients give for a refused response.
const INTERNAL: i32 = 13;
/// Bytes of an error text.
const MAX_ERROR: usize = 1000;

/// Follows the control plane until `stop`.
pub async fn follow(sidecar: Arc<Sidecar>, certificates: Arc<Certificates>, stop: CancellationToken) {
    let Some(mut questions) = sidecar.peers.questions() else { return };
    let mut backoff = Backoff::new();
    loop {
        let serial = certificates.world.credentials().map(|credentials| credentials.serial().to_owned());
        let ended = tokio::select! {
            ended = session(&sidecar, &certificates, &mut questions, &mut backoff) => ended,
            () = renewed(&certificates, serial.as_deref()) => {
                // The stream lives as long as its certificate: a new one begins with the new certificate at once.
                continue;
            }
            () = sidecar.reconnect.notified() => continue,
            () = stop.cancelled() => return,
        };
        tracing::warn!(error = ended, "no connection to the control plane; the last configuration stays in force");
        tokio::select! {
            () = tokio::time::sleep(backoff.pause()) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Waits until another certificate than `serial` is in use.
async fn renewed(certificates: &Certificates, serial: Option<&str>) {
    let mut changes = certificates.world.follow();
    loop {
        let now = certificates.world.credentials();
        if now.as_ref().map(mutua_identity::Credentials::serial) != serial {
            return;
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// One connection, to its end. Returns why it ended.
async fn session(
    sidecar: &Sidecar,
    certificates: &Certificates,
    questions: &mut mpsc::Receiver<std::net::IpAddr>,
    backoff: &mut Backoff,
) -> String {
    let world = &certificates.world;
    let (credentials, roots, domain) = (world.credentials(), certificates.roots(), world.trust_domain());
    let channel = certificates.control_plane.channel(credentials.as_ref(), roots.as_ref(), domain.as_ref()).await;
    let channel = match channel {
        Ok(channel) => channel,
        Err(error) => return error.to_string(),
    };
    let reports = crate::report::send(sidecar, certificates, channel.clone());
    tokio::select! {
        ended = discover(sidecar, certificates, channel, questions, backoff) => ended,
        ended = reports => ended,
    }
}

async fn discover(
    sidecar: &Sidecar,
    certificates: &Certificates,
    channel: Channel,
    questions: &mut mpsc::Receiver<std::net::IpAddr>,
    backoff: &mut Backoff,
) -> String {
    let (requests, stream) = mpsc::channel(REQUESTS);
    let node = node(certificates).await;
    for request in subscriptions(sidecar, certificates, node) {
        if requests.send(request).await.is_err() {
            return "the stream is closed".to_owned();
        }
    }
    let opened = AggregatedDiscoveryServiceClient::new(channel).delta_aggregated_resources(ReceiverStream::new(stream)).await;
    let mut responses = match opened {
        Ok(response) => response.into_inner(),
        Err(status) => return chain(&status),
    };
    loop {
        let request = tokio::select! {
            response = responses.message() => match response {
                Ok(Some(response)) => {
                    *backoff = Backoff::new();
                    answer(sidecar, &certificates.kept, &response)
                }
                Ok(None) => return "the control plane ended the stream".to_owned(),
                Err(status) => return chain(&status),
            },
            Some(address) = questions.recv() => by_name(vec![address.to_string()]),
        };
        if requests.send(request).await.is_err() {
            return "the stream is closed".to_owned();
        }
    }
}

async fn node(certificates: &Certificates) -> Node {
    let workload = &certificates.workload;
    let address = certificates.control_plane.own_address().await.to_string();
    let credentials = certificates.world.credentials();
    let account = credentials.as_ref().and_then(|credentials| credentials.id()).map_or("", |id| id.service_account());
    sidecar_node(&workload.namespace, &workload.name, account, &address, env!("CARGO_PKG_VERSION"))
}

/// The requests that open a stream.
fn subscriptions(sidecar: &Sidecar, certificates: &Certificates, node: Node) -> Vec<DeltaDiscoveryRequest> {
    let mut requests: Vec<DeltaDiscoveryRequest> = TYPES
        .iter()
        .map(|type_url| DeltaDiscoveryRequest {
            type_url: (*type_url).to_owned(),
            resource_names_subscribe: vec![WILDCARD.to_owned()],
            initial_resource_versions: certificates
                .kept
                .versions(type_url, sidecar.world.versions(type_url))
                .into_iter()
                .collect(),
            ..DeltaDiscoveryRequest::default()
        })
        .collect();
    requests[0].node = Some(node);
    let known: Vec<String> = sidecar.peers.addresses().iter().map(ToString::to_string).collect();
    if !known.is_empty() {
        requests.push(by_name(known));
    }
    requests
}

fn by_name(addresses: Vec<String>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: PeerWorkload::TYPE_URL.to_owned(),
        resource_names_subscribe: addresses,
        ..DeltaDiscoveryRequest::default()
    }
}

/// Takes a response over, and says so or why not.
#[must_use]
pub fn answer(sidecar: &Sidecar, kept: &Kept, response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    let error_detail = match take_over(sidecar, kept, response) {
        Ok(()) => None,
        Err(message) => {
            tracing::error!(type_url = response.type_url, message, "a configuration is refused; the last one stays in force");
            Some(Refused { code: INTERNAL, message: message.chars().take(MAX_ERROR).collect() })
        }
    };
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail,
        ..DeltaDiscoveryRequest::default()
    }
}

fn take_over(sidecar: &Sidecar, kept: &Kept, response: &DeltaDiscoveryResponse) -> Result<(), String> {
    if response.type_url == PeerWorkload::TYPE_URL {
        return learn(sidecar, response);
    }
    let (was_ready, by_kept) = (sidecar.world.current().is_ready(), sidecar.world.kept().is_some());
    let change = Change {
        type_url: &response.type_url,
        generation: &response.system_version_info,
        resources: &response.resources,
        removed: &response.removed_resources,
    };
    sidecar.world.apply(&change).map_err(|error| error.to_string())?;
    // Of a type that is not known here, nothing is in force.
    if !TYPES.contains(&change.type_url) {
        return Ok(());
    }
    // On the disk before the control plane is told, so that no restart goes back behind what it counts on.
    kept.keep(&change);
    if by_kept {
        tracing::info!(generation = response.system_version_info, "the control plane is followed again");
    }
    let now = sidecar.world.current();
    if !was_ready && now.is_ready() {
        let destinations = now.table.destinations().len();
        tracing::info!(generation = &*now.generation, destinations, "the first complete configuration is in force");
    }
    Ok(())
}

fn learn(sidecar: &Sidecar, response: &DeltaDiscoveryResponse) -> Result<(), String> {
    for resource in &response.resources {
        let any = resource.resource.as_ref().ok_or("a peer without content")?;
        let peer = mesh::PeerWorkload::unpack(any).map_err(|error| error.to_string())?;
        if let Ok(address) = resource.name.parse() {
            sidecar.peers.learn(address, peer.labels.as_ref().map(|known| labels(Some(known))));
        }
    }
    for address in response.removed_resources.iter().filter_map(|name| name.parse().ok()) {
        sidecar.peers.learn(address, None);
    }
    Ok(())
}

//! A control plane that does what the test says, over the true protocols.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use mutua_identity::stream::TlsStream;
use mutua_identity::{Ca, ServerConfig, TrustDomain};
use mutua_proxy::capture::Dialer;
use mutua_proxy::control_plane::ControlPlane;
use mutua_wire::certificate::istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer};
use mutua_wire::certificate::{IstioCertificateRequest, IstioCertificateResponse};
use mutua_wire::discovery::aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer};
use mutua_wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use mutua_wire::mesh::mesh_report_server::{MeshReport, MeshReportServer};
use mutua_wire::mesh::{ProxyReport, ReportAck};
use mutua_wire::{MeshResource, content_version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::{PATIENCE, SERVER};

/// The identity of the control plane.
pub const ISTIOD: &str = "spiffe://cluster.local/ns/istio-system/sa/istiod";
/// The token that it accepts.
pub const TOKEN: &str = "a-good-token";

/// Makes the answer to a request for a certificate of the CA, the request and what a good CA would answer.
pub type Forge = Box<dyn Fn(&Ca, &str, Vec<String>) -> Vec<String> + Send>;

/// What the control plane saw, and what it is to do.
pub struct Shared {
    ca: Ca,
    /// How long leaves live.
    pub ttl: Mutex<Duration>,
    /// Refuses every request for a certificate, as if it could not sign.
    pub broken: AtomicBool,
    /// Refuses with this code.
    pub refusal: Mutex<Option<tonic::Code>>,
    /// Answers only after this time.
    pub delay: Mutex<Duration>,
    /// Answers in place of the good CA.
    pub forge: Mutex<Option<Forge>>,
    /// Requests for a certificate so far.
    pub asked: AtomicU64,
    /// Leaves issued so far.
    pub issued: AtomicU64,
    /// Discovery streams opened so far.
    pub streams: AtomicU64,
    /// Every discovery request.
    pub requests: Mutex<Vec<DeltaDiscoveryRequest>>,
    /// Every report.
    pub reports: Mutex<Vec<ProxyReport>>,
    responses: broadcast::Sender<DeltaDiscoveryResponse>,
    folder: tempfile::TempDir,
}

/// A running control plane.
#[derive(Clone)]
pub struct Plane {
    /// What its services share.
    pub shared: Arc<Shared>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Plane {
    /// Starts one with a CA of its own.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(folder.path(), &TrustDomain::new("cluster.local").unwrap()).unwrap();
        let own = ca.sign_server(&ISTIOD.parse().unwrap(), &["localhost".to_owned()], Duration::from_secs(3600)).unwrap();
        let config = ServerConfig::control_plane(&own, ca.bundle()).unwrap();
        let shared = Arc::new(Shared {
            ca,
            ttl: Mutex::new(Duration::from_secs(3600)),
            broken: AtomicBool::new(false),
            refusal: Mutex::default(),
            delay: Mutex::default(),
            forge: Mutex::default(),
            asked: AtomicU64::new(0),
            issued: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            requests: Mutex::default(),
            reports: Mutex::default(),
            responses: broadcast::channel(64).0,
            folder,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, incoming) = mpsc::channel(16);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (config, accepted) = (config.clone(), accepted.clone());
                tokio::spawn(async move {
                    if let Ok(tls) = TlsStream::accept(&config, stream).await {
                        let _ = accepted.send(Ok::<_, std::io::Error>(Secured(tls))).await;
                    }
                });
            }
        });
        let plane = Self { shared, address };
        let server = tonic::transport::Server::builder()
            .add_service(IstioCertificateServiceServer::new(plane.clone()))
            .add_service(AggregatedDiscoveryServiceServer::new(plane.clone()))
            .add_service(MeshReportServer::new(plane.clone()));
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(incoming)));
        plane
    }

    /// What a proxy is told of it.
    pub fn as_seen_by_a_proxy(&self) -> ControlPlane {
        ControlPlane {
            address: self.address.to_string(),
            identity: ISTIOD.parse().unwrap(),
            roots: self.shared.ca.bundle().clone(),
            dialer: Dialer::default(),
        }
    }

    /// The folder of its CA.
    pub fn folder(&self) -> &std::path::Path {
        self.shared.folder.path()
    }

    /// Its root, PEM.
    pub fn roots(&self) -> Vec<String> {
        self.shared.ca.bundle().roots_pem()
    }

    /// Sends a resource on every open stream.
    pub fn send<M: MeshResource>(&self, nonce: &str, name: &str, message: &M) {
        let any = message.pack();
        let version = content_version(&any.value);
        let resource = Resource { name: name.to_owned(), version, resource: Some(any), aliases: Vec::new() };
        let response = DeltaDiscoveryResponse {
            system_version_info: "7".to_owned(),
            resources: vec![resource],
            type_url: M::TYPE_URL.to_owned(),
            nonce: nonce.to_owned(),
            removed_resources: Vec::new(),
        };
        self.shared.responses.send(response).unwrap();
    }

    /// The first request that fits, once there is one.
    pub async fn request(&self, fits: impl Fn(&DeltaDiscoveryRequest) -> bool) -> DeltaDiscoveryRequest {
        let find = || self.shared.requests.lock().unwrap().iter().find(|request| fits(request)).cloned();
        until("a request", || find().is_some()).await;
        find().unwrap()
    }
}

/// Waits until `holds`.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[derive(Clone)]
struct Caller(Option<String>);

struct Secured(TlsStream<TcpStream>);

impl Connected for Secured {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller(self.0.peer_id().map(ToString::to_string))
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Plane {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.shared.asked.fetch_add(1, Ordering::Relaxed);
        if self.shared.broken.load(Ordering::Relaxed) {
            return Err(Status::unavailable("the signing key is away"));
        }
        let delay = *self.shared.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        if let Some(code) = *self.shared.refusal.lock().unwrap() {
            return Err(Status::new(code, "too many requests"));
        }
        let by_token = request.metadata().get("authorization").map(|value| value.to_str().unwrap() == format!("Bearer {TOKEN}"));
        let by_certificate = request.extensions().get::<Caller>().is_some_and(|caller| caller.0.as_deref() == Some(SERVER));
        if by_token == Some(false) || (by_token.is_none() && !by_certificate) {
            return Err(Status::unauthenticated("the token is not known or was used"));
        }
        let ttl = *self.shared.ttl.lock().unwrap();
        let issued = self.shared.ca.sign(&request.get_ref().csr, &SERVER.parse().unwrap(), ttl).unwrap();
        self.shared.issued.fetch_add(1, Ordering::Relaxed);
        let mut cert_chain = issued.chain_pem;
        cert_chain.push(self.roots().concat());
        if let Some(forge) = &*self.shared.forge.lock().unwrap() {
            cert_chain = forge(&self.shared.ca, &request.get_ref().csr, cert_chain);
        }
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Plane {
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (send, stream) = mpsc::channel(16);
        let mut responses = self.shared.responses.subscribe();
        let mut requests = request.into_inner();
        let shared = Arc::clone(&self.shared);
        shared.streams.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    request = requests.message() => match request {
                        Ok(Some(request)) => shared.requests.lock().unwrap().push(request),
                        _ => return,
                    },
                    Ok(response) = responses.recv() => {
                        if send.send(Ok(response)).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl MeshReport for Plane {
    async fn report(&self, request: Request<Streaming<ProxyReport>>) -> Result<Response<ReportAck>, Status> {
        let mut reports = request.into_inner();
        while let Some(report) = reports.message().await? {
            self.shared.reports.lock().unwrap().push(report);
        }
        Ok(Response::new(ReportAck {}))
    }
}

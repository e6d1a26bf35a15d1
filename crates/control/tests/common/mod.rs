//! A control plane on loopback, and clients of it that share no code with the proxy.
#![allow(dead_code)]

pub mod discovery;

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use mutua_control::settings::Settings;
use mutua_control::sign::jwks::JwtSettings;
use mutua_control::{ControlPlane, StartError};
use mutua_identity::stream::TlsStream;
use mutua_identity::{ClientConfig, Credentials, PrivateKey, SpiffeId, TrustBundle, certificate_request};
use mutua_wire::certificate::istio_certificate_service_client::IstioCertificateServiceClient;
use mutua_wire::certificate::{IstioCertificateRequest, IstioCertificateResponse};
use mutua_wire::mesh::ProxyReport;
use mutua_wire::mesh::mesh_report_client::MeshReportClient;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const FRONT: &str = "spiffe://cluster.local/ns/shop/sa/front";

/// Two workloads, each with a service, and one that runs as the control plane's account.
pub const SHOP: &str = include_str!("shop.yaml");

pub struct Mesh {
    pub folder: tempfile::TempDir,
    pub plane: Option<ControlPlane>,
    pub shutdown: CancellationToken,
    pub listen: std::net::SocketAddr,
    pub api: std::net::SocketAddr,
}

pub fn settings(folder: &Path) -> Settings {
    Settings {
        config: Some(folder.join("config")),
        state: folder.join("state"),
        listen: "127.0.0.1:0".parse().expect("an address"),
        ca_dir: None,
        api: "127.0.0.1:0".parse().expect("an address"),
        advertise: vec!["mesh.example.com".to_owned()],
        leaf_ttl: None,
        jwt: JwtSettings::default(),
        drain_duration: Duration::from_secs(45),
        // Changes at once; the tests of stages set it.
        stage_timeout: Duration::ZERO,
        compliance_policy: String::new(),
    }
}

impl Mesh {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("config")).expect("made");
        std::fs::write(folder.path().join("config/shop.yaml"), SHOP).expect("written");
        let mut settings = settings(folder.path());
        change(&mut settings);
        Self::over(folder, settings).await.expect("starts")
    }

    pub async fn over(folder: tempfile::TempDir, settings: Settings) -> Result<Self, StartError> {
        let shutdown = CancellationToken::new();
        let plane = Box::pin(ControlPlane::start(settings, shutdown.clone())).await?;
        let (listen, api) = (plane.listen, plane.api);
        Ok(Self { folder, plane: Some(plane), shutdown, listen, api })
    }

    /// Stops it, and starts another over the same folders.
    pub async fn restart(self) -> Self {
        self.restart_with(|_| {}).await
    }

    pub async fn restart_with(self, change: impl FnOnce(&mut Settings)) -> Self {
        self.restart_after(|| {}, change).await
    }

    /// As [`Mesh::restart_with`]; `meanwhile` is done while none runs.
    pub async fn restart_after(mut self, meanwhile: impl FnOnce(), change: impl FnOnce(&mut Settings)) -> Self {
        self.shutdown.cancel();
        self.plane.take().expect("running").wait().await.expect("stops cleanly");
        meanwhile();
        let mut settings = settings(self.folder.path());
        change(&mut settings);
        Self::over(self.folder, settings).await.expect("starts again")
    }

    pub fn write(&self, name: &str, text: &str) {
        let (temporary, path) = (self.folder.path().join("config/.new"), self.folder.path().join("config").join(name));
        std::fs::write(&temporary, text).expect("written");
        std::fs::rename(temporary, path).expect("renamed");
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join("config").join(name)).expect("removed");
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("state/api.sock")
    }

    pub fn roots(&self) -> TrustBundle {
        let pem = std::fs::read_to_string(self.folder.path().join("state/root-cert.pem")).expect("the root file is there");
        TrustBundle::from_pem(&pem).expect("holds roots")
    }

    /// Calls the API over its socket.
    pub async fn api(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let stream = UnixStream::connect(self.socket()).await.expect("the socket answers");
        let (status, text) = exchange(stream, method, path, "localhost", &[], body).await;
        (status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)))
    }

    /// Calls the API over TCP.
    pub async fn http(&self, method: &str, path: &str, host: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let stream = TcpStream::connect(self.api).await.expect("the API answers");
        exchange(stream, method, path, host, headers, "").await
    }

    pub async fn get(&self, path: &str) -> serde_json::Value {
        let (status, answer) = self.api("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    pub async fn token(&self, workload: &str) -> String {
        let body = serde_json::json!({ "workload": workload, "ttl_seconds": 60 }).to_string();
        let (status, answer) = self.api("POST", "/api/v1/tokens", &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// A channel to the control plane, with the client's certificate or none.
    pub async fn channel(&self, credentials: Option<&Credentials>) -> Result<Channel, tonic::transport::Error> {
        self.channel_to("spiffe://cluster.local/ns/istio-system/sa/istiod", credentials).await
    }

    /// As [`Mesh::channel`], to a control plane of this identity.
    pub async fn channel_to(&self, id: &str, credentials: Option<&Credentials>) -> Result<Channel, tonic::transport::Error> {
        let expected: SpiffeId = id.parse().expect("an id");
        let config = ClientConfig::control_plane(credentials, &self.roots(), &[expected]).expect("a configuration");
        let address = self.listen;
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let config = config.clone();
            async move {
                let tcp = TcpStream::connect(address).await?;
                let tls = TlsStream::connect(&config, None, tcp).await.map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(tls))
            }
        });
        Endpoint::from_static("http://control-plane").connect_with_connector(connector).await
    }

    /// Asks for a certificate for `key`, with a token or a certificate.
    pub async fn create(
        &self,
        key: &PrivateKey,
        token: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<IstioCertificateResponse, Status> {
        let csr = certificate_request(key).expect("a request");
        self.create_from(IstioCertificateRequest { csr, ..IstioCertificateRequest::default() }, token, credentials).await
    }

    /// Renews at a control plane of this identity, which it may not have yet.
    pub async fn create_as(
        &self,
        id: &str,
        key: &PrivateKey,
        credentials: Option<&Credentials>,
    ) -> Result<IstioCertificateResponse, Status> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let channel = loop {
            match self.channel_to(id, credentials).await {
                Ok(channel) => break channel,
                Err(error) if tokio::time::Instant::now() > deadline => return Err(Status::unknown(error.to_string())),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let csr = certificate_request(key).expect("a request");
        let request = Request::new(IstioCertificateRequest { csr, ..IstioCertificateRequest::default() });
        Ok(IstioCertificateServiceClient::new(channel).create_certificate(request).await?.into_inner())
    }

    /// Opens a stream of reports under this leaf; they go out by what is returned.
    pub async fn reports(&self, leaf: &Credentials) -> mpsc::Sender<ProxyReport> {
        let (reports, stream) = mpsc::channel(4);
        let channel = self.channel(Some(leaf)).await.expect("connects");
        tokio::spawn(async move { MeshReportClient::new(channel).report(ReceiverStream::new(stream)).await.ok() });
        reports
    }

    pub async fn create_from(
        &self,
        message: IstioCertificateRequest,
        token: Option<&str>,
        credentials: Option<&Credentials>,
    ) -> Result<IstioCertificateResponse, Status> {
        let channel = self.channel(credentials).await.map_err(|error| Status::unknown(error.to_string()))?;
        let mut request = Request::new(message);
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
        }
        Ok(IstioCertificateServiceClient::new(channel).create_certificate(request).await?.into_inner())
    }

    /// Joins as a workload.
    pub async fn join(&self, workload: &str) -> Credentials {
        let (key, token) = (PrivateKey::generate().expect("a key"), self.token(workload).await);
        let answer = self.create(&key, Some(&token), None).await.expect("joins");
        credentials(&key, &answer)
    }

    /// Waits until `check` holds of what the API answers at `path`.
    pub async fn until(&self, path: &str, check: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if check(&answer) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path} stays {answer:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The chain without the root bundle, which is its last element.
pub fn credentials(key: &PrivateKey, answer: &IstioCertificateResponse) -> Credentials {
    let (_roots, chain) = answer.cert_chain.split_last().expect("a chain ends with the roots");
    assert!(!chain.is_empty(), "a chain begins with the leaf");
    Credentials::new(key, chain).expect("the leaf is for the key")
}

async fn exchange<S>(stream: S, method: &str, path: &str, host: &str, headers: &[(&str, &str)], body: &str) -> (u16, String)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let mut request = hyper::Request::builder().method(method).uri(path).header("content-type", "application/json");
    for (name, value) in [("host", host)].iter().chain(headers) {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(bytes.to_vec()).expect("text"))
}

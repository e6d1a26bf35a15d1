//! A mesh in one process: sidecars over loopback, with the capture rules' answer given by the test.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use mutua_identity::{Ca, Credentials, PrivateKey, TrustDomain, certificate_request};
use mutua_proxy::access_log::AccessLogger;
use mutua_proxy::capture::{Capture, Dialer, bind};
use mutua_proxy::connections::{Direction, Outcome, Record};
use mutua_proxy::reasons::Reason;
use mutua_proxy::sidecar::Sidecar;
use mutua_proxy::world::{Change, World};
use mutua_wire::discovery::Resource;
use mutua_wire::{MeshResource, mesh};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::wire;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The identity of callers.
pub const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
/// The identity of the called workload.
pub const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";

/// A certificate authority.
pub struct Authority {
    ca: Ca,
    folder: tempfile::TempDir,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one, of the trust domain `cluster.local`.
    pub fn new() -> Self {
        Self::made_at(SystemTime::now())
    }

    /// One whose root's ten years began at `now`.
    pub fn made_at(now: SystemTime) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create_at(folder.path(), &TrustDomain::new("cluster.local").unwrap(), now).unwrap();
        Self { ca, folder }
    }

    /// One that is plugged in, from the files of `folder` as they are now.
    pub fn plugged(folder: &std::path::Path) -> Self {
        Self { ca: Ca::from_dir(folder).unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    /// The roots and revocation lists, as the control plane sends them.
    pub fn trust(&self) -> mesh::TrustBundle {
        let (roots, revocation_lists) = (self.roots(), self.bundle().revocations_pem());
        mesh::TrustBundle { roots, revocation_lists, ..Default::default() }
    }

    /// A leaf for `id`, good for an hour.
    pub fn leaf(&self, id: &str) -> Credentials {
        self.leaf_for(id, Duration::from_secs(3600))
    }

    /// A leaf for `id` that ends after `ttl`.
    pub fn leaf_for(&self, id: &str, ttl: Duration) -> Credentials {
        let key = PrivateKey::generate().unwrap();
        let csr = certificate_request(&key).unwrap();
        let issued = self.ca.sign(&csr, &id.parse().unwrap(), ttl).unwrap();
        Credentials::new(&key, &issued.chain_pem).unwrap()
    }

    /// A leaf for `id` that was issued when a clock showed `now`, and ends `ttl` later.
    pub fn leaf_at(&self, now: SystemTime, id: &str, ttl: Duration) -> Credentials {
        let key = PrivateKey::generate().unwrap();
        let issued = self.ca.sign_at(now, &certificate_request(&key).unwrap(), &id.parse().unwrap(), ttl).unwrap();
        Credentials::new(&key, &issued.chain_pem).unwrap()
    }

    /// A leaf without any SPIFFE id.
    pub fn nameless_leaf(&self) -> Credentials {
        self.odd_leaf("subjectAltName=DNS:nobody.example\nextendedKeyUsage=clientAuth\n")
    }

    /// A leaf with these extensions, as openssl writes them.
    pub fn odd_leaf(&self, extensions: &str) -> Credentials {
        let key = PrivateKey::generate().unwrap();
        Credentials::new(&key, &[self.odd(&key.to_pkcs8_pem(), extensions, &["-days", "1"])]).unwrap()
    }

    /// A certificate for the owner of a key, PEM, with these extensions, which our own CA would not sign: openssl does,
    /// with the life that its options say.
    pub fn odd(&self, key_pem: &str, extensions: &str, life: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("odd.key"), key_pem).unwrap();
        openssl(folder.path(), &["req", "-new", "-key", "odd.key", "-subj", "/O=odd", "-out", "odd.csr"]);
        let csr = std::fs::read_to_string(folder.path().join("odd.csr")).unwrap();
        signed_by_openssl(self.folder.path(), &csr, extensions, life)
    }

    /// One whose signer is `certificate_pem`, whatever it is.
    pub fn of(key_pem: &str, certificate_pem: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ca-cert.pem", "cert-chain.pem", "root-cert.pem"] {
            std::fs::write(folder.path().join(name), certificate_pem).unwrap();
        }
        std::fs::write(folder.path().join("ca-key.pem"), key_pem).unwrap();
        Self { ca: Ca::from_dir(folder.path()).unwrap(), folder }
    }

    /// Its root, PEM.
    pub fn roots(&self) -> Vec<String> {
        self.ca.bundle().roots_pem()
    }

    /// Its root.
    pub fn bundle(&self) -> &mutua_identity::TrustBundle {
        self.ca.bundle()
    }
}

/// Signs a request with the CA of `folder` by openssl: with these extensions, and the life that its options say.
pub fn signed_by_openssl(folder: &std::path::Path, csr_pem: &str, extensions: &str, life: &[&str]) -> String {
    let work = tempfile::tempdir().unwrap();
    for (name, text) in [("odd.csr", csr_pem), ("odd.ext", extensions), ("odd.cnf", ODD), ("index.txt", "")] {
        std::fs::write(work.path().join(name), text).unwrap();
    }
    let [certificate, key] = ["ca-cert.pem", "ca-key.pem"].map(|name| folder.join(name).to_string_lossy().into_owned());
    let by = ["ca", "-config", "odd.cnf", "-batch", "-notext", "-cert", &certificate, "-keyfile", &key];
    openssl(work.path(), &[&by[..], life, &["-in", "odd.csr", "-extfile", "odd.ext", "-out", "odd.pem"]].concat());
    std::fs::read_to_string(work.path().join("odd.pem")).unwrap()
}

fn openssl(folder: &std::path::Path, arguments: &[&str]) {
    let output = std::process::Command::new("openssl").args(arguments).current_dir(folder).output();
    let output = output.expect("openssl is installed (apt-get install openssl)");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const ODD: &str = "\
[ca]
default_ca = odd
[odd]
database = index.txt
rand_serial = yes
new_certs_dir = .
default_md = sha256
policy = any
[any]
organizationName = optional
";

/// The capture rules of a test: every connection wanted to go to one place.
#[derive(Clone, Default)]
pub struct Wanted(Arc<Mutex<Option<SocketAddr>>>);

impl Wanted {
    /// Every later connection wanted to go to `address`.
    pub fn set(&self, address: SocketAddr) {
        *self.0.lock().unwrap() = Some(address);
    }
}

impl Capture for Wanted {
    fn original_destination(&self, _: &TcpStream) -> io::Result<SocketAddr> {
        self.0.lock().unwrap().ok_or_else(|| io::Error::other("not captured"))
    }
}

/// A running sidecar with one listener.
pub struct Running {
    /// The sidecar.
    pub sidecar: Arc<Sidecar>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its connections wanted to go.
    pub wanted: Wanted,
    /// Its connections' tasks.
    pub tasks: TaskTracker,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Running {
    /// Starts one that has no configuration yet.
    pub async fn start(direction: Direction, credentials: Option<Credentials>) -> Self {
        Self::with(direction, credentials, |_| {}).await
    }

    /// As [`Running::start`], with the sidecar changed before it serves.
    pub async fn with(direction: Direction, credentials: Option<Credentials>, change: impl FnOnce(&mut Sidecar)) -> Self {
        let world = Arc::new(World::default());
        if let Some(credentials) = credentials {
            world.set_credentials(credentials).unwrap();
        }
        let wanted = Wanted::default();
        let mut sidecar = Sidecar::new(world, Dialer::default(), Box::new(wanted.clone()), AccessLogger::silent());
        change(&mut sidecar);
        let sidecar = Arc::new(sidecar);
        let listener = Arc::new(bind("127.0.0.1:0".parse().unwrap()).unwrap());
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tokio::spawn(Arc::clone(&sidecar).serve(listener, direction, tasks.clone(), stop.clone()));
        tokio::spawn(mutua_proxy::drain::follow(Arc::clone(&sidecar), stop.clone()));
        Self { sidecar, address, wanted, tasks, stop }
    }

    /// Sends the sidecar one resource.
    pub fn put<M: MeshResource>(&self, name: &str, message: &M) {
        self.try_put(name, message).unwrap();
    }

    /// As [`Running::put`].
    ///
    /// # Errors
    /// The sidecar refuses it.
    pub fn try_put<M: MeshResource>(&self, name: &str, message: &M) -> Result<(), mutua_proxy::world::ApplyError> {
        let any = message.pack();
        let version = mutua_wire::content_version(&any.value);
        let resource = Resource { name: name.to_owned(), version, resource: Some(any), aliases: Vec::new() };
        let (type_url, resources) = (M::TYPE_URL, [resource]);
        self.sidecar.world.apply(&Change { type_url, generation: "1", resources: &resources, removed: &[] })
    }

    /// Everything a sidecar needs before it serves.
    pub fn configure(&self, authority: &Authority, inbound: &mesh::InboundPolicy) {
        self.put("default", &authority.trust());
        self.put("default", &wire::settings(mesh::OutboundPolicy::AllowAny));
        self.put("shop/it", inbound);
    }

    /// The only connection's record once `fits`.
    pub async fn record(&self, fits: impl Fn(&Record) -> bool) -> Record {
        let deadline = SystemTime::now() + PATIENCE;
        loop {
            let records = self.sidecar.connections.records();
            if let Some(record) = records.iter().rev().find(|record| fits(record)) {
                return record.clone();
            }
            assert!(SystemTime::now() < deadline, "no such record among {records:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The last closed connection's record, once there is one.
    pub async fn closed(&self) -> Record {
        self.record(|record| record.state == "closed").await
    }

    /// The record of a connection refused for `reason`, once there is one.
    pub async fn refused(&self, reason: Reason) -> Record {
        let record = self.record(|record| record.reason == Some(reason)).await;
        assert_eq!(record.outcome, Some(Outcome::Refused), "{record:#?}");
        record
    }
}

/// An application that answers what it is told.
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    /// What came, by connection.
    pub seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl App {
    /// Echoes until the peer's end, then ends itself. Each connection's bytes are kept in `seen`.
    pub async fn echo() -> Self {
        Self::speaking(b"").await
    }

    /// Says `greeting` first, then echoes.
    pub async fn speaking(greeting: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let at = {
                        let mut kept = kept.lock().unwrap();
                        kept.push(Vec::new());
                        kept.len() - 1
                    };
                    stream.write_all(greeting).await.ok();
                    let mut buffer = vec![0; 16 * 1024];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        kept.lock().unwrap()[at].extend_from_slice(&buffer[..count]);
                        if stream.write_all(&buffer[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// What came so far, by connection.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().clone()
    }
}

/// Reads `count` bytes.
pub async fn read_exactly(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("in time").expect("bytes");
    bytes
}

/// What comes until the end.
///
/// # Errors
/// What ended it instead.
pub async fn read_to_end(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("in time").map(|_| bytes)
}

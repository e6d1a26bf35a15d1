//! A mesh's certificates, and two sessions that talk to each other without a socket.

#![allow(dead_code, reason = "each test file uses a part")]

use std::time::Duration;

use mutua_identity::{
    Ca, ClientConfig, Credentials, PeerExpectation, PrivateKey, ServerConfig, ServerPolicy, Session, SpiffeId, TlsError,
    TrustBundle, TrustDomain, certificate_request,
};

pub const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

pub fn domain() -> TrustDomain {
    TrustDomain::new("cluster.local").unwrap()
}

/// A CA of its own with a leaf per identity.
pub struct Mesh {
    pub folder: tempfile::TempDir,
    pub ca: Ca,
}

impl Mesh {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(folder.path(), &domain()).unwrap();
        Self { folder, ca }
    }

    pub fn bundle(&self) -> &TrustBundle {
        self.ca.bundle()
    }

    pub fn leaf(&self, id: &str) -> Credentials {
        let key = PrivateKey::generate().unwrap();
        let id: SpiffeId = id.parse().unwrap();
        let issued = self.ca.sign(&certificate_request(&key).unwrap(), &id, Duration::from_secs(600)).unwrap();
        Credentials::new(&key, &issued.chain_pem[..issued.chain_pem.len() - 1]).unwrap()
    }

    pub fn server(&self) -> ServerConfig {
        self.server_with(&ServerPolicy { trust_domains: vec![domain()], ..Default::default() })
    }

    pub fn server_with(&self, policy: &ServerPolicy) -> ServerConfig {
        ServerConfig::mesh(&self.leaf(CART), self.bundle(), policy).unwrap()
    }

    pub fn client(&self, ids: &[&str]) -> ClientConfig {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let peer = PeerExpectation { ids, trust_domains: vec![domain()] };
        ClientConfig::mesh(&self.leaf("spiffe://cluster.local/ns/shop/sa/front"), self.bundle(), &peer).unwrap()
    }
}

/// One end: its session, the bytes that came in and were not used yet, and what it read.
pub struct End {
    pub session: Session,
    pub incoming: Vec<u8>,
    pub plain: Vec<u8>,
    pub error: Option<TlsError>,
}

impl End {
    pub fn new(session: Session) -> Self {
        Self { session, incoming: Vec::new(), plain: Vec::new(), error: None }
    }

    /// Takes `bytes` in pieces of `chunk`; returns what is to be sent.
    pub fn take(&mut self, bytes: &[u8], chunk: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in bytes.chunks(chunk) {
            if self.error.is_some() {
                break;
            }
            self.incoming.extend_from_slice(piece);
            match self.session.read(&mut self.incoming, &mut self.plain, &mut out) {
                Ok(used) => drop(self.incoming.drain(..used)),
                Err(error) => self.error = Some(error),
            }
        }
        out
    }
}

/// Lets two ends talk until neither has anything to say.
pub fn run(client: &mut End, server: &mut End, chunk: usize) {
    let mut to_server = Vec::new();
    if !client.session.is_established() {
        client.session.start(&mut to_server).unwrap();
    }
    exchange(client, server, to_server, chunk);
}

/// Delivers `to_server`, then the answers, until there are none.
pub fn exchange(client: &mut End, server: &mut End, mut to_server: Vec<u8>, chunk: usize) {
    for _ in 0..32 {
        let to_client = server.take(&to_server, chunk);
        to_server = client.take(&to_client, chunk);
        if to_server.is_empty() {
            return;
        }
    }
    panic!("the ends never fell silent");
}

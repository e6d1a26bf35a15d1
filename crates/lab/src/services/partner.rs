//! A TLS server outside the mesh, with a certification authority of its own.

use std::fs;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use mutua_identity::{Ca, Credentials, PrivateKey, ServerConfig, ServerPolicy, SpiffeId, TrustDomain, certificate_request};
use serde_json::json;

use super::http::{MARKER_HEADER, read_message, write_response};
use super::tls::TlsStream;

/// The files that its callers are given.
#[derive(Clone, Debug)]
pub struct PartnerFiles {
    /// The root of its authority.
    pub roots: PathBuf,
    /// A client certificate of its authority, and the key.
    pub client_certificate: PathBuf,
    /// The key.
    pub client_key: PathBuf,
}

impl PartnerFiles {
    /// Where they stand in a folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            roots: folder.join("partner-root.pem"),
            client_certificate: folder.join("partner-client.pem"),
            client_key: folder.join("partner-client-key.pem"),
        }
    }
}

/// The server.
pub struct Partner {
    simple: ServerConfig,
    mutual: ServerConfig,
}

const TRUST_DOMAIN: &str = "partner.example";
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

impl Partner {
    /// Makes an authority, a server certificate for `names`, and the files for callers, in `folder`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn new(folder: &Path, names: &[String]) -> io::Result<Self> {
        let trust_domain = TrustDomain::new(TRUST_DOMAIN).map_err(io::Error::other)?;
        let authority = folder.join("authority");
        fs::create_dir_all(&authority)?;
        let ca = Ca::load_or_create(&authority, &trust_domain).map_err(io::Error::other)?;
        let id = |account| SpiffeId::new(trust_domain.clone(), "partner", account).map_err(io::Error::other);
        let credentials: Credentials = ca.sign_server(&id("server")?, names, LIFETIME).map_err(io::Error::other)?;
        let key = PrivateKey::generate().map_err(io::Error::other)?;
        let request = certificate_request(&key).map_err(io::Error::other)?;
        let issued = ca.sign(&request, &id("customer")?, LIFETIME).map_err(io::Error::other)?;
        let files = PartnerFiles::in_folder(folder);
        fs::write(&files.client_certificate, issued.chain_pem.concat())?;
        fs::write(&files.client_key, key.to_pkcs8_pem().as_bytes())?;
        // Last, because who waits for these files waits for this one.
        fs::write(&files.roots, ca.bundle().to_pem())?;
        let policy = ServerPolicy { trust_domains: vec![trust_domain], ..ServerPolicy::default() };
        Ok(Self {
            simple: ServerConfig::control_plane(&credentials, ca.bundle()).map_err(io::Error::other)?,
            mutual: ServerConfig::mesh(&credentials, ca.bundle(), &policy).map_err(io::Error::other)?,
        })
    }

    /// Serves until the process ends: on `simple` to everybody, on `mutual` to callers with a certificate.
    ///
    /// # Errors
    /// A port cannot be listened on.
    pub fn serve(&self, simple: SocketAddr, mutual: SocketAddr) -> io::Result<()> {
        let second = (TcpListener::bind(mutual)?, self.mutual.clone());
        let first = (TcpListener::bind(simple)?, self.simple.clone());
        thread::scope(|scope| {
            for (listener, config) in [first, second] {
                scope.spawn(move || accept(&listener, &config));
            }
        });
        Ok(())
    }
}

fn accept(listener: &TcpListener, config: &ServerConfig) {
    for stream in listener.incoming().flatten() {
        let config = config.clone();
        // A machine that cannot start a thread drops this caller and goes on.
        let _ = thread::Builder::new().spawn(move || answer(&config, stream));
    }
}

fn answer(config: &ServerConfig, socket: TcpStream) -> io::Result<()> {
    let stream = TlsStream::accept(config, socket)?;
    let negotiated = stream.negotiated();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_message(&mut reader)? {
        let tls = negotiated.as_ref().map(|tls| {
            let client = tls.peer_id.as_ref().map(ToString::to_string);
            json!({ "version": tls.version, "cipher": tls.cipher_suite, "group": tls.group, "client": client })
        });
        let body = json!({ "service": "partner", "marker": request.header(MARKER_HEADER), "tls": tls });
        write_response(reader.get_mut(), 200, &body)?;
    }
    Ok(())
}

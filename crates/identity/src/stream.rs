//! A TLS stream over tokio, for the gRPC connection between proxies and the control plane.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{CertificateInfo, CertificateName, ClientConfig, ServerConfig, SpiffeId, TlsError, TlsErrorKind, certificate};

/// A TLS connection over `S`, with what the peer proved.
pub struct TlsStream<S> {
    inner: tokio_rustls::TlsStream<S>,
    peer: Option<CertificateInfo>,
    peer_id: Option<SpiffeId>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Accepts a connection; `h2` is negotiated.
    ///
    /// # Errors
    /// The handshake failed.
    pub async fn accept(config: &ServerConfig, stream: S) -> Result<Self, TlsError> {
        let accepted = tokio_rustls::TlsAcceptor::from(std::sync::Arc::clone(&config.http)).accept(stream).await;
        Ok(Self::new(accepted.map_err(|error| failure(&error))?.into()))
    }

    /// Connects; `server_name` is sent as SNI, none when `None`.
    ///
    /// # Errors
    /// The handshake failed, or `server_name` is none.
    pub async fn connect(config: &ClientConfig, server_name: Option<&str>, stream: S) -> Result<Self, TlsError> {
        let name = match server_name {
            None => ServerName::IpAddress(IpAddr::from([0, 0, 0, 0]).into()),
            Some(name) => ServerName::try_from(name.to_owned())
                .map_err(|_| TlsError::new(TlsErrorKind::Configuration, format!("{name:?} is no server name")))?,
        };
        let connected = tokio_rustls::TlsConnector::from(std::sync::Arc::clone(&config.inner)).connect(name, stream).await;
        Ok(Self::new(connected.map_err(|error| failure(&error))?.into()))
    }

    /// The peer's SPIFFE id, when it showed a certificate with exactly one.
    #[must_use]
    pub fn peer_id(&self) -> Option<&SpiffeId> {
        self.peer_id.as_ref()
    }

    /// When the peer's certificate ends.
    #[must_use]
    pub fn peer_not_after(&self) -> Option<SystemTime> {
        self.peer.as_ref().map(|peer| peer.not_after)
    }

    /// The names of the peer's certificate and of those between it and its root.
    #[must_use]
    pub fn peer_path(&self) -> Vec<CertificateName> {
        CertificateName::path(self.inner.get_ref().1.peer_certificates().unwrap_or_default())
    }

    fn new(inner: tokio_rustls::TlsStream<S>) -> Self {
        let leaf = inner.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = leaf.and_then(|leaf| CertificateInfo::from_der(leaf).ok());
        let peer_id = leaf.and_then(|leaf| certificate::spiffe_id(leaf).ok());
        Self { inner, peer, peer_id }
    }
}

fn failure(error: &io::Error) -> TlsError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(inner) => TlsError::from(inner.clone()),
        None => TlsError::new(TlsErrorKind::Closed, error.to_string()),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

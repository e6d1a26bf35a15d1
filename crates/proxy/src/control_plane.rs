//! Connections to the control plane: its identity is what counts, never the name that was dialled.

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use mutua_identity::stream::TlsStream;
use mutua_identity::{ClientConfig, Credentials, SpiffeId, TlsError, TrustBundle, TrustDomain};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::capture::{Dialer, source_towards};
use crate::dns::{Resolver, Upstream};

/// Silence after which the control plane is asked whether it still lives.
const PING: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PONG: Duration = Duration::from_secs(10);
/// How long the TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Where the control plane is and how it is known.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    /// `HOST:PORT`.
    pub address: String,
    /// The identity it must prove.
    pub identity: SpiffeId,
    /// The roots given at the start.
    pub roots: TrustBundle,
    /// How connections are opened.
    pub dialer: Dialer,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TLS cannot be set up.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The control plane cannot be reached, or is not the one expected.
    #[error("{address}: {reason}")]
    Unreachable {
        /// What was dialled.
        address: String,
        /// Why.
        reason: String,
    },
}

impl ControlPlane {
    /// A connection that shows `credentials`, if given. `roots`: those that the control plane sent last, instead of those
    /// of the start. `domain`: the trust domain that it named last; it may prove its identity there, in that of the
    /// certificate it gave us, or in that of the start.
    ///
    /// # Errors
    /// It cannot be reached or does not prove its identity.
    pub async fn channel(
        &self,
        credentials: Option<&Credentials>,
        roots: Option<&TrustBundle>,
        domain: Option<&TrustDomain>,
    ) -> Result<Channel, ConnectError> {
        let given = credentials.and_then(Credentials::id).map(SpiffeId::trust_domain);
        let mut expected = vec![self.identity.clone()];
        expected.extend(
            given.into_iter().chain(domain).filter_map(|domain| {
                SpiffeId::new(domain.clone(), self.identity.namespace(), self.identity.service_account()).ok()
            }),
        );
        let config = ClientConfig::control_plane(credentials, roots.unwrap_or(&self.roots), &expected)?;
        let this = self.clone();
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let (this, config) = (this.clone(), config.clone());
            async move { this.connect(&config).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://control-plane")
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true);
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| ConnectError::Unreachable { address: self.address.clone(), reason: chain(&error) })
    }

    async fn connect(&self, config: &ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.addresses().await? {
            match self.dialer.connect(address).await {
                Ok(stream) => {
                    let secured = tokio::time::timeout(HANDSHAKE, TlsStream::connect(config, None, stream)).await;
                    let secured =
                        secured.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no complete TLS handshake in time"))?;
                    return secured.map_err(io::Error::other);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Asked of the name servers directly: the sidecar's own DNS may wait for the control plane.
    async fn addresses(&self) -> io::Result<Vec<std::net::SocketAddr>> {
        Resolver::new(Upstream::of_machine(self.dialer)).lookup(&self.address).await
    }

    /// The address of this machine as the control plane's network sees it; unspecified when unknown.
    pub async fn own_address(&self) -> std::net::IpAddr {
        let unknown = std::net::IpAddr::from([0, 0, 0, 0]);
        let Ok(addresses) = self.addresses().await else { return unknown };
        let Some(address) = addresses.first() else { return unknown };
        source_towards(*address).unwrap_or(unknown)
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A number in 0..=1000 by chance, for spreading what many proxies do. Not for secrets.
#[must_use]
pub(crate) fn chance() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    u32::try_from(random % 1001).unwrap_or(0)
}

/// Growing pauses with jitter between attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(5);

    pub(crate) fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The pause before the next attempt: between half of the step and all of it.
    pub(crate) fn pause(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(Self::LAST);
        step / 2 + step * chance() / 2000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses[0] >= Backoff::FIRST / 2 && pauses[0] <= Backoff::FIRST);
        assert!(pauses.iter().all(|pause| *pause <= Backoff::LAST));
        assert!(pauses[19] >= Backoff::LAST / 2);
    }
}

//! Istio's certificate service: the names in a certificate come from who the caller has proved to be, never from its
//! request.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use mutua_identity::{Ca, IdentityError, Issued, SpiffeId};
use mutua_wire::certificate::istio_certificate_service_server::IstioCertificateService;
use mutua_wire::certificate::{IstioCertificateRequest, IstioCertificateResponse};
use mutua_wire::node::{AUTHORIZATION, REQUEST_WORKLOAD, metadata_string};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::issued::IssuedLeaves;
use super::tokens::{TokenError, Tokens};
use crate::listen::Peer;
use crate::metrics::Metrics;
use crate::settings::MAX_LEAF_TTL;
use crate::world::World;

/// The largest certificate request that is looked at.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// Signs for authenticated callers.
#[derive(Clone)]
pub struct Signer {
    world: Arc<World>,
    ca: Arc<ArcSwap<Ca>>,
    tokens: Arc<Tokens>,
    leaves: Arc<IssuedLeaves>,
    metrics: Arc<Metrics>,
    leaf_ttl: LeafTtl,
}

/// How long leaves live.
#[derive(Clone, Copy, Debug)]
pub struct LeafTtl {
    /// When the caller asks for nothing.
    pub default: Duration,
    /// At most; an operator who sets a life means it for those too who ask for more.
    pub ceiling: Option<Duration>,
}

/// How a caller has proved who it is.
enum Caller {
    /// By a certificate of this mesh that is still valid.
    Certificate(SpiffeId),
    /// By a join token, which is not used up yet.
    Token { token: String, identity: SpiffeId, asked: Option<String> },
}

impl Signer {
    /// A signer over these parts.
    #[must_use]
    pub fn new(parts: &crate::Parts, leaf_ttl: LeafTtl) -> Self {
        Self {
            world: Arc::clone(&parts.world),
            ca: Arc::clone(&parts.ca),
            tokens: Arc::clone(&parts.tokens),
            leaves: Arc::clone(&parts.leaves),
            metrics: Arc::clone(&parts.metrics),
            leaf_ttl,
        }
    }

    fn create(&self, request: &Request<IstioCertificateRequest>) -> Result<IstioCertificateResponse, Status> {
        let (now, message) = (SystemTime::now(), request.get_ref());
        if message.csr.len() > MAX_REQUEST_BYTES {
            return Err(signing_error(tonic::Code::InvalidArgument, "the certificate request is too large"));
        }
        let peer = request.extensions().get::<Peer>();
        let key = mutua_identity::issuer::public_key_digest(&message.csr);
        let caller = self.authenticate(peer, request.metadata(), message, key.as_deref(), now)?;
        let ttl = self.ttl(message.validity_duration)?;
        let identity = match &caller {
            Caller::Certificate(identity) | Caller::Token { identity, .. } => identity.clone(),
        };
        let issued = self.ca.load().sign(&message.csr, &identity, ttl).map_err(|error| refused(&error))?;
        if let Caller::Token { token, asked, .. } = &caller {
            let key = key.map_err(|error| refused(&error))?;
            // The token is used up, on the disk, before the certificate leaves the house.
            self.tokens.redeem(token, asked.as_deref(), &key, now).map_err(|error| self.not_joined(&error))?;
        }
        self.note(&identity, &issued, matches!(caller, Caller::Token { .. }), now);
        Ok(IstioCertificateResponse { cert_chain: issued.chain_pem })
    }

    fn authenticate(
        &self,
        peer: Option<&Peer>,
        metadata: &MetadataMap,
        message: &IstioCertificateRequest,
        key: Result<&str, &IdentityError>,
        now: SystemTime,
    ) -> Result<Caller, Status> {
        let snapshot = self.world.current();
        if let Some(identity) = peer.and_then(|peer| peer.identity.as_ref()) {
            if peer.and_then(|peer| peer.not_after).is_some_and(|end| end <= now) {
                return Err(self.unauthenticated("the client certificate has ended"));
            }
            if peer.is_some_and(|peer| snapshot.trust.roots.revokes(&peer.path)) {
                return Err(self.unauthenticated("the client certificate is revoked"));
            }
            let known = snapshot.known_as(identity).map_err(|error| self.unauthenticated(&error.to_string()))?;
            return Ok(Caller::Certificate(known));
        }
        let token =
            bearer(metadata).ok_or_else(|| self.unauthenticated("neither a client certificate nor a join token was shown"))?;
        let key = key.map_err(refused)?;
        let asked = metadata_string(message.metadata.as_ref(), REQUEST_WORKLOAD).map(ToOwned::to_owned);
        let workload = self.tokens.check(token, asked.as_deref(), key, now).map_err(|error| self.not_joined(&error))?;
        let member = snapshot.member(&workload);
        let member = member.ok_or_else(|| self.unauthenticated(&format!("the mesh has no workload {workload}")))?;
        let identity = snapshot.identity_of(member).map_err(|error| self.unauthenticated(&error.to_string()))?;
        Ok(Caller::Token { token: token.to_owned(), identity, asked })
    }

    fn ttl(&self, requested: i64) -> Result<Duration, Status> {
        let asked = u64::try_from(requested).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let ttl = match asked {
            None => self.leaf_ttl.default,
            Some(asked) if asked > MAX_LEAF_TTL => {
                let error = IdentityError::TtlTooLong { requested: asked.as_secs(), allowed: MAX_LEAF_TTL.as_secs() };
                return Err(refused(&error));
            }
            Some(asked) => asked,
        };
        Ok(self.leaf_ttl.ceiling.map_or(ttl, |ceiling| ttl.min(ceiling)))
    }

    fn note(&self, identity: &SpiffeId, issued: &Issued, joined: bool, now: SystemTime) {
        self.leaves.issued(identity, &issued.serial, now, issued.not_after);
        self.metrics.issued(joined);
        tracing::info!(%identity, serial = issued.serial, by = if joined { "token" } else { "certificate" }, "a certificate is issued");
    }

    fn not_joined(&self, error: &TokenError) -> Status {
        if let TokenError::State(error) = error {
            tracing::error!(%error, "a join could not be recorded, and no certificate was given out");
            return Status::unavailable(format!("the join could not be recorded: {error}"));
        }
        self.unauthenticated(&error.to_string())
    }

    fn unauthenticated(&self, reason: &str) -> Status {
        self.metrics.authentication_failed();
        tracing::warn!(reason, "a certificate request is refused");
        Status::unauthenticated(format!("request authenticate failure: {reason}"))
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Signer {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.metrics.requested();
        let signer = self.clone();
        let answer = tokio::task::spawn_blocking(move || signer.create(&request)).await;
        let answer = answer.map_err(|error| signing_error(tonic::Code::Internal, &error.to_string()))?;
        answer.map(Response::new)
    }
}

fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let value = metadata.get(AUTHORIZATION)?.to_str().ok()?;
    let token = value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer "))?.trim();
    (!token.is_empty() && token.len() <= 4096).then_some(token)
}

/// The status of a signing error, as istiod maps its kinds.
fn refused(error: &IdentityError) -> Status {
    let code = match error {
        IdentityError::Request(_) | IdentityError::Malformed { .. } | IdentityError::TtlTooLong { .. } => {
            tonic::Code::InvalidArgument
        }
        _ => tonic::Code::Internal,
    };
    signing_error(code, &error.to_string())
}

fn signing_error(code: tonic::Code, reason: &str) -> Status {
    Status::new(code, format!("CSR signing error ({reason})"))
}

//! Istio's certificate service: the names in a certificate come from who the caller has proved to be, never from its
//! request.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use mutua_identity::issuer::{Account, CertificateRequest, MAX_JWT};
use mutua_identity::{Ca, IdentityError, Issued, SpiffeId};
use mutua_wire::certificate::istio_certificate_service_server::IstioCertificateService;
use mutua_wire::certificate::{IstioCertificateRequest, IstioCertificateResponse};
use mutua_wire::node::{AUTHORIZATION, REQUEST_WORKLOAD, metadata_string};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::accounts::{AccountError, AccountTokens};
use super::issued::IssuedLeaves;
use super::tokens::{self, TokenError, Tokens};
use crate::listen::Peer;
use crate::metrics::Metrics;
use crate::settings::MAX_LEAF_TTL;
use crate::world::World;

/// The largest certificate request that is looked at.
const MAX_REQUEST_BYTES: usize = 16 * 1024;
/// The longest token that is looked at, with the word before it.
const MAX_TOKEN_BYTES: usize = MAX_JWT + 16;

/// The key in the request's metadata under which Istio's node proxies name whom they act for.
const IMPERSONATED: &str = "ImpersonatedIdentity";

/// Signs for authenticated callers.
#[derive(Clone)]
pub struct Signer {
    world: Arc<World>,
    ca: Arc<ArcSwap<Ca>>,
    tokens: Arc<Tokens>,
    accounts: Arc<[Arc<dyn AccountTokens>]>,
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
    /// By a token of its service account; the word for such tokens.
    Account(SpiffeId, &'static str),
    /// By a join token, which is looked at once the request is read.
    Join(String),
}

impl Caller {
    fn by(&self) -> &'static str {
        match self {
            Self::Certificate(_) => "certificate",
            Self::Account(_, kind) => kind,
            Self::Join(_) => "token",
        }
    }
}

impl Signer {
    /// A signer over these parts.
    #[must_use]
    pub fn new(parts: &crate::Parts, leaf_ttl: LeafTtl) -> Self {
        Self {
            world: Arc::clone(&parts.world),
            ca: Arc::clone(&parts.ca),
            tokens: Arc::clone(&parts.tokens),
            accounts: parts.accounts.clone(),
            leaves: Arc::clone(&parts.leaves),
            metrics: Arc::clone(&parts.metrics),
            leaf_ttl,
        }
    }

    fn create(&self, message: &IstioCertificateRequest, caller: &Caller) -> Result<IstioCertificateResponse, Status> {
        let now = SystemTime::now();
        let request = CertificateRequest::from_pem(&message.csr);
        let (identity, redeemed) = match caller {
            Caller::Certificate(identity) | Caller::Account(identity, _) => (identity.clone(), None),
            Caller::Join(token) => {
                let key = request.as_ref().map_err(refused)?.key_digest();
                (self.joins(token, asked(message), &key, now)?, Some((token, key)))
            }
        };
        let ttl = self.ttl(message.validity_duration)?;
        let request = request.map_err(|error| refused(&error))?;
        let issued = self.ca.load().sign_request(&request, &identity, ttl).map_err(|error| refused(&error))?;
        if let Some((token, key)) = redeemed {
            // The token is used up, on the disk, before the certificate leaves the house.
            self.tokens.redeem(token, asked(message), &key, now).map_err(|error| self.not_joined(&error))?;
        }
        self.note(&identity, &issued, caller.by(), now);
        Ok(IstioCertificateResponse { cert_chain: issued.chain_pem })
    }

    /// Who the caller is. As in Istio the first proof that holds counts: its certificate, then its token.
    async fn authenticate(&self, request: &Request<IstioCertificateRequest>) -> Result<Caller, Status> {
        if metadata_string(request.get_ref().metadata.as_ref(), IMPERSONATED).is_some_and(|identity| !identity.is_empty()) {
            self.metrics.authentication_failed();
            tracing::warn!("a certificate request for another identity than the caller's is refused");
            // No account of this mesh is trusted to act for others; the text is istiod's.
            return Err(Status::unauthenticated("request impersonation authentication failure"));
        }
        let certificate = request.extensions().get::<Peer>().and_then(|peer| self.by_certificate(peer));
        let reason = match certificate {
            Some(Ok(identity)) => return Ok(Caller::Certificate(identity)),
            Some(Err(reason)) => reason,
            None => "neither a client certificate nor a token was shown".to_owned(),
        };
        let token = bearer(request.metadata()).map_err(|fault| self.unauthenticated(fault))?;
        let token = token.ok_or_else(|| self.unauthenticated(&reason))?;
        if tokens::is_join_token(token) {
            return Ok(Caller::Join(token.to_owned()));
        }
        self.by_account(token, asked(request.get_ref())).await
    }

    /// What the certificate proves that the caller has shown, if any.
    fn by_certificate(&self, peer: &Peer) -> Option<Result<SpiffeId, String>> {
        let identity = peer.identity.as_ref()?;
        let snapshot = self.world.current();
        if peer.not_after.is_some_and(|end| end <= SystemTime::now()) {
            return Some(Err("the client certificate has ended".to_owned()));
        }
        if snapshot.trust.roots.revokes(&peer.path) {
            return Some(Err("the client certificate is revoked".to_owned()));
        }
        Some(snapshot.known_as(identity).map_err(|error| error.to_string()))
    }

    /// The workload that a join token is for.
    fn joins(&self, token: &str, asked: Option<&str>, key: &str, now: SystemTime) -> Result<SpiffeId, Status> {
        let workload = self.tokens.check(token, asked, key, now).map_err(|error| self.not_joined(&error))?;
        let snapshot = self.world.current();
        let member = snapshot.member(&workload);
        let member = member.ok_or_else(|| self.unauthenticated(&format!("the mesh has no workload {workload}")))?;
        snapshot.identity_of(member).map_err(|error| self.unauthenticated(&error.to_string()))
    }

    /// Asks in turn those who know tokens of service accounts.
    async fn by_account(&self, token: &str, asked: Option<&str>) -> Result<Caller, Status> {
        let mut fault = AccountError::Refused(
            "the token is no join token of this mesh, and no keys for others are known (mutua control-plane --jwks)".to_owned(),
        );
        for known in self.accounts.iter() {
            match known.account(token, SystemTime::now()).await {
                Ok(account) => {
                    let identity = self.may_have(&account, asked).map_err(|reason| self.unauthenticated(&reason))?;
                    return Ok(Caller::Account(identity, known.kind()));
                }
                Err(error) => fault = error,
            }
        }
        Err(match fault {
            AccountError::Refused(reason) => self.unauthenticated(&reason),
            AccountError::Unavailable(reason) => {
                tracing::warn!(reason, "a caller's token cannot be verified now");
                Status::unavailable(format!("the token cannot be verified now: {reason}"))
            }
        })
    }

    /// The identity of an account of the mesh, as which the workload has to run that the caller names, if it names one.
    fn may_have(&self, account: &Account, asked: Option<&str>) -> Result<SpiffeId, String> {
        let snapshot = self.world.current();
        let (namespace, name) = (account.namespace.as_str(), account.name.as_str());
        if snapshot.is_control_plane(namespace, name) {
            return Err(format!(
                "{namespace}/{name} is the control plane's own service account: no certificate is issued for it"
            ));
        }
        let identity = SpiffeId::new(snapshot.trust_domain.clone(), namespace, name).map_err(|error| error.to_string())?;
        let identity = snapshot.known_as(&identity).map_err(|error| error.to_string())?;
        let Some(asked) = asked else { return Ok(identity) };
        let workload = asked.parse().ok().and_then(|asked| snapshot.member(&asked));
        match workload {
            Some(member) if member.name.namespace() == namespace && member.account == name => Ok(identity),
            _ => {
                let asked: String = asked.chars().take(128).collect();
                Err(format!("the token is of service account {namespace}/{name}, as which no workload {asked:?} runs"))
            }
        }
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

    fn note(&self, identity: &SpiffeId, issued: &Issued, by: &'static str, now: SystemTime) {
        self.leaves.issued(identity, &issued.serial, now, issued.not_after);
        self.metrics.issued(by);
        tracing::info!(%identity, serial = issued.serial, by, "a certificate is issued");
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
        if request.get_ref().csr.len() > MAX_REQUEST_BYTES {
            return Err(signing_error(tonic::Code::InvalidArgument, "the certificate request is too large"));
        }
        let caller = self.authenticate(&request).await?;
        let (signer, message) = (self.clone(), request.into_inner());
        let answer = tokio::task::spawn_blocking(move || signer.create(&message, &caller)).await;
        let answer = answer.map_err(|error| signing_error(tonic::Code::Internal, &error.to_string()))?;
        answer.map(Response::new)
    }
}

/// The token that the caller shows; the fault of one that is not looked at.
fn bearer(metadata: &MetadataMap) -> Result<Option<&str>, &'static str> {
    let Some(value) = metadata.get(AUTHORIZATION) else { return Ok(None) };
    if value.len() > MAX_TOKEN_BYTES {
        return Err("the token is too long");
    }
    let value = value.to_str().map_err(|_| "the token is no text")?;
    let token = value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")).unwrap_or_default().trim();
    Ok(Some(token).filter(|token| !token.is_empty()))
}

/// The workload that the caller names.
fn asked(message: &IstioCertificateRequest) -> Option<&str> {
    metadata_string(message.metadata.as_ref(), REQUEST_WORKLOAD)
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

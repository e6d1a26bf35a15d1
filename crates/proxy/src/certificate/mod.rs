//! The workload's certificate: asked for with a join token, kept over restarts, renewed at half of its life. A failed
//! renewal never drops a valid certificate.

mod store;
mod token;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mutua_identity::schedule::{renewal_due, retry_pause};
use mutua_identity::{Credentials, PrivateKey, SpiffeId, TrustBundle, TrustDomain, certificate_request};
use mutua_wire::certificate::IstioCertificateRequest;
use mutua_wire::certificate::istio_certificate_service_client::IstioCertificateServiceClient;
use mutua_wire::node::{AUTHORIZATION, REQUEST_WORKLOAD};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};

pub use store::{Store, StoreError};
pub use token::Token;

use crate::control_plane::{Backoff, ConnectError, ControlPlane, chain, chance};
use crate::discovery::TYPES;
use crate::kept::Kept;
use crate::settings::Workload;
use crate::world::{ApplyError, World};

/// How long one request for a certificate may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The longest sleep: a machine that slept, or a changed clock, is noticed after it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The longest answer of the CA that is read: a chain and a bundle of roots, bytes.
const LONGEST_ANSWER: usize = 256 * 1024;

/// How far the CA dates a leaf back (Istio's two minutes).
const BACKDATED: Duration = Duration::from_secs(120);

/// How far `ours` is ahead of `theirs`, in milliseconds; times of certificates have whole seconds.
fn skew(theirs: SystemTime, ours: SystemTime) -> i64 {
    let milliseconds = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    ours.duration_since(theirs).map_or_else(|error| -milliseconds(error.duration()), milliseconds)
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The control plane refused the request for good.
    #[error("the control plane refuses a certificate for {workload}: {message}")]
    Refused {
        /// The workload.
        workload: String,
        /// The control plane's words.
        message: String,
    },
    /// There is neither a valid certificate nor a token.
    #[error("there is no valid certificate in {0}, and no --token-file to join with")]
    NoToken(String),
    /// The control plane cannot be reached.
    #[error("control plane {0}")]
    Connect(#[from] ConnectError),
    /// The control plane could not answer.
    #[error("control plane: {0}")]
    Unavailable(String),
    /// The control plane answered with a certificate that must not be used; the running one stays.
    #[error("the control plane's answer is not used: {0}")]
    BadAnswer(String),
    /// The answer, or a key, cannot be used.
    #[error("certificate: {0}")]
    Unusable(#[from] mutua_identity::IdentityError),
    /// The certificate does not go with roots and policy.
    #[error("{0}")]
    Apply(#[from] ApplyError),
    /// The state folder.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// What the last renewals came to.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Renewals since the start.
    pub renewals: u64,
    /// Failed attempts since the start.
    pub failed: u64,
    /// The last failure, empty after a success.
    pub last_error: String,
    /// When renewal is due.
    pub due: Option<SystemTime>,
    /// Our clock minus the CA's at the last renewal, in milliseconds: the CA dates a leaf back by two minutes.
    pub clock_skew_ms: i64,
}

/// Keeps the certificate.
pub struct Certificates {
    /// Whom to ask.
    pub control_plane: ControlPlane,
    /// For whom.
    pub workload: Workload,
    /// Where key and certificate are kept.
    pub store: Store,
    /// The join token.
    pub token: Option<Token>,
    /// The configuration that is kept beside it.
    pub kept: Kept,
    /// How long one request for a certificate may take.
    pub patience: Duration,
    /// What uses the certificate.
    pub world: Arc<World>,
    status: Mutex<Status>,
}

impl Certificates {
    /// A keeper that has nothing yet.
    #[must_use]
    pub fn new(control_plane: ControlPlane, workload: Workload, store: Store, token: Option<Token>, world: Arc<World>) -> Self {
        let kept = Kept::new(store.clone(), &workload);
        Self { control_plane, workload, store, token, kept, patience: PATIENCE, world, status: Mutex::default() }
    }

    /// What the last renewals came to.
    #[must_use]
    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    /// The first certificate: the kept one while it is valid, else by the token. Goes on while the control plane cannot
    /// be reached.
    ///
    /// # Errors
    /// There is nothing to join with, or the control plane refuses for good.
    pub async fn obtain(&self) -> Result<(), CertificateError> {
        if let Some((credentials, issued)) = self.store.load()? {
            if credentials.not_after() > SystemTime::now() && self.is_kept_for_us(&credentials) {
                self.schedule(&credentials, issued);
                self.world.set_credentials(credentials)?;
                self.restore();
                return Ok(());
            }
            tracing::info!("the kept certificate has ended or is another workload's; joining anew");
        }
        if self.token.is_none() {
            return Err(CertificateError::NoToken(self.store.folder().display().to_string()));
        }
        let mut backoff = Backoff::new();
        loop {
            match self.ask(false).await {
                Ok(()) => return Ok(()),
                Err(
                    error @ (CertificateError::Connect(_) | CertificateError::Unavailable(_) | CertificateError::BadAnswer(_)),
                ) => {
                    tracing::warn!(%error, "joining will be tried again");
                    tokio::time::sleep(backoff.pause()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Puts the kept configuration in force beside the kept certificate: as if the connection to the control plane had been
    /// lost a moment ago. What cannot be used is forgotten, and the sidecar starts as a new one.
    fn restore(&self) {
        let restored = self.kept.load(&TYPES).map_err(|error| error.to_string()).and_then(|kept| {
            let Some(kept) = kept else { return Ok(None) };
            let written = kept.iter().map(|one| one.written).max().unwrap_or(SystemTime::UNIX_EPOCH);
            let changes: Vec<_> = kept.iter().map(crate::kept::KeptType::change).collect();
            self.world.restore(&changes, written).map_err(|error| error.to_string())?;
            Ok(Some(written))
        });
        match restored {
            Ok(Some(written)) => {
                let (generation, written) = (&*self.world.current().generation, time::OffsetDateTime::from(written));
                tracing::info!(generation, %written, "the configuration kept in the state folder is in force");
            }
            Ok(None) => {}
            Err(reason) => {
                tracing::error!(reason, "the kept configuration is refused; the sidecar waits for the control plane");
                self.kept.clear(&TYPES);
            }
        }
    }

    /// The roots by which the control plane is known: those it sent last. While they are only the kept ones, those of the
    /// command line count too: the root may have changed meanwhile.
    #[must_use]
    pub fn roots(&self) -> Option<TrustBundle> {
        let sent = self.world.bundle()?;
        Some(if self.world.kept().is_some() { sent.union(&self.control_plane.roots) } else { sent })
    }

    /// Renews until `stop`.
    pub async fn keep(&self, stop: CancellationToken) {
        let mut failures = 0;
        let mut pause = Duration::ZERO;
        let mut changes = self.world.follow();
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.until_due().max(pause).min(LONGEST_SLEEP)) => {}
                Ok(()) = changes.changed(), if pause.is_zero() => {}
                () = stop.cancelled() => return,
            }
            if !self.until_due().is_zero() {
                continue;
            }
            let left = self.world.credentials().map_or(Duration::ZERO, |credentials| {
                credentials.not_after().duration_since(SystemTime::now()).unwrap_or_default()
            });
            match self.ask(!left.is_zero()).await {
                Ok(()) => {
                    // Times in certificates have whole seconds: a new one may still be dated before what is asked for.
                    let again = self.world.must_renew();
                    (failures, pause) = (0, if again { Duration::from_secs(1) } else { Duration::ZERO });
                    let mut status = self.lock();
                    status.renewals += 1;
                    status.last_error.clear();
                }
                Err(error) => {
                    failures += 1;
                    pause = retry_pause(failures, left);
                    tracing::warn!(%error, left_seconds = left.as_secs(), "the certificate could not be renewed");
                    let mut status = self.lock();
                    status.failed += 1;
                    status.last_error = error.to_string();
                }
            }
        }
    }

    /// How long until a renewal is due; none when the control plane asks for one at once.
    fn until_due(&self) -> Duration {
        if self.world.must_renew() {
            return Duration::ZERO;
        }
        self.lock().due.map_or(Duration::ZERO, |due| due.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Asks for a certificate: with the current one, or with the token. The key of an unanswered request with a token is
    /// used again, because the control plane answers the same token and key once more.
    async fn ask(&self, renew: bool) -> Result<(), CertificateError> {
        let current = if renew { self.world.credentials() } else { None };
        let key = match &current {
            Some(_) => PrivateKey::generate()?,
            None => self.store.join_key()?,
        };
        let mut request = Request::new(self.request(&key)?);
        request.set_timeout(self.patience);
        if current.is_none() {
            let token =
                self.token.as_ref().ok_or_else(|| CertificateError::NoToken(self.store.folder().display().to_string()))?;
            let value = format!("Bearer {}", token.now().await).parse();
            let value = value.map_err(|_| CertificateError::Refused {
                workload: self.workload.to_string(),
                message: "the token file does not hold a token".to_owned(),
            })?;
            request.metadata_mut().insert(AUTHORIZATION, value);
        }
        let channel =
            self.control_plane.channel(current.as_ref(), self.roots().as_ref(), self.world.trust_domain().as_ref()).await?;
        let mut client = IstioCertificateServiceClient::new(channel).max_decoding_message_size(LONGEST_ANSWER);
        let answer = client.create_certificate(request).await.map_err(|status| self.refused(&status))?;
        let credentials = self.check(&key, answer.into_inner().cert_chain, current.as_ref())?;
        self.take_over(&credentials)
    }

    /// The certificate in an answer, when it may take the place of `current`: it is for our key and our identity, valid
    /// now and as long as it says, below the roots in force, and not older than what runs.
    fn check(
        &self,
        key: &PrivateKey,
        mut chain_pem: Vec<String>,
        current: Option<&Credentials>,
    ) -> Result<Credentials, CertificateError> {
        let bad = |error: mutua_identity::IdentityError| CertificateError::BadAnswer(error.to_string());
        // The last element is the bundle of roots, which comes by discovery; it counts only while there is none.
        let sent = chain_pem.pop().ok_or_else(|| CertificateError::BadAnswer("it is empty".to_owned()))?;
        let credentials = Credentials::new(key, &chain_pem).map_err(bad)?;
        let expected = current.and_then(Credentials::id);
        let account = |id: &SpiffeId| id.service_account().to_owned();
        if !self.is_ours(&credentials) || expected.is_some_and(|id| credentials.id().map(account) != Some(account(id))) {
            let id = credentials.id().map_or_else(|| "nobody".to_owned(), ToString::to_string);
            return Err(CertificateError::BadAnswer(format!("it is a certificate for {id}, not for {}", self.workload)));
        }
        let roots = match self.roots().filter(|_| current.is_some()) {
            Some(roots) => roots,
            None => TrustBundle::from_pem(&sent).map_err(bad)?,
        };
        credentials.check_chain(&roots, SystemTime::now()).map_err(bad)?;
        match current {
            Some(current)
                if credentials.not_before() < current.not_before() && credentials.not_after() <= current.not_after() =>
            {
                Err(CertificateError::BadAnswer(format!(
                    "certificate {} is older than {} in use",
                    credentials.serial(),
                    current.serial()
                )))
            }
            _ => Ok(credentials),
        }
    }

    fn take_over(&self, credentials: &Credentials) -> Result<(), CertificateError> {
        // What cannot be used together with policy and roots changes nothing, neither here nor on the disk.
        self.world.set_credentials(credentials.clone())?;
        self.schedule(credentials, SystemTime::now());
        self.lock().clock_skew_ms = skew(credentials.not_before() + BACKDATED, SystemTime::now());
        if let Err(error) = self.store.save(credentials) {
            // The certificate is good all the same; only a restart would have to join anew.
            tracing::error!(%error, "the certificate could not be kept on disk");
        }
        tracing::info!(serial = credentials.serial(), "a new certificate is in use");
        Ok(())
    }

    fn request(&self, key: &PrivateKey) -> Result<IstioCertificateRequest, CertificateError> {
        let workload = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(self.workload.to_string())) };
        let fields = [(REQUEST_WORKLOAD.to_owned(), workload)].into_iter().collect();
        Ok(IstioCertificateRequest {
            csr: certificate_request(key)?,
            metadata: Some(prost_types::Struct { fields }),
            ..IstioCertificateRequest::default()
        })
    }

    fn refused(&self, status: &tonic::Status) -> CertificateError {
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument => {
                CertificateError::Refused { workload: self.workload.to_string(), message: status.message().to_owned() }
            }
            _ => CertificateError::Unavailable(format!("{} ({:?})", chain(status), status.code())),
        }
    }

    /// The account is the control plane's to say; a renewal is held to the account of the certificate in use. The trust
    /// domain is that of the start, or the one that the control plane has named since.
    fn is_ours(&self, credentials: &Credentials) -> bool {
        let domain = |domain: &TrustDomain| {
            domain == self.control_plane.identity.trust_domain() || self.world.trust_domain().as_ref() == Some(domain)
        };
        credentials.id().is_some_and(|id| id.namespace() == self.workload.namespace && domain(id.trust_domain()))
    }

    /// Whether a kept certificate is of this workload. Its trust domain may be one that the control plane named in a former
    /// run: without a token that counts, because there is no other way back.
    fn is_kept_for_us(&self, credentials: &Credentials) -> bool {
        let ours = || credentials.id().is_some_and(|id| id.namespace() == self.workload.namespace);
        self.is_ours(credentials) || (self.token.is_none() && ours())
    }

    fn schedule(&self, credentials: &Credentials, issued: SystemTime) {
        self.lock().due = Some(renewal_due(issued, credentials.not_after(), chance()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

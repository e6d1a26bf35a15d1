//! Who leads of several control planes of a cluster: by a Lease, as other controllers do (client-go's `leaderelection`).
//!
//! Nobody's clock is compared with another's: a lease counts as given up when it has not changed for its duration while it
//! was looked at.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease as Record, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use mutua_control::source::{Leader, LeaderError, Lease};
use tokio::time::Instant;

/// How long a lead holds that is not renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How long a holder tries to renew before it stops: sooner than anybody else may lead.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, or asked for.
const RETRY: Duration = Duration::from_secs(2);

/// The times of a lease.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How long a lead holds that is not renewed; whole seconds.
    pub duration: Duration,
    /// How long a holder tries to renew before it stops.
    pub deadline: Duration,
    /// How often it is renewed, or asked for.
    pub retry: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { duration: DURATION, deadline: DEADLINE, retry: RETRY }
    }
}

/// Leads by holding a Lease of the control plane's namespace.
#[derive(Clone)]
pub struct LeaseLeader {
    shared: Arc<Shared>,
}

struct Shared {
    leases: Api<Record>,
    name: String,
    /// Who we are.
    holder: String,
    times: Times,
}

/// The held lead.
pub struct Held {
    leader: LeaseLeader,
    /// The record as we wrote it last, and when.
    record: Record,
    renewed: Instant,
}

/// What came of asking.
enum Asked {
    /// We lead.
    Ours(Record),
    /// Somebody else does.
    Theirs(Record),
}

impl LeaseLeader {
    /// The lease `name` in `namespace`, held as `holder`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, holder: &str) -> Self {
        Self::with(client, namespace, (name, holder), Times::default())
    }

    /// As [`LeaseLeader::new`], with other times.
    #[must_use]
    pub fn with(client: Client, namespace: &str, (name, holder): (&str, &str), times: Times) -> Self {
        let leases = Api::namespaced(client, namespace);
        Self { shared: Arc::new(Shared { leases, name: name.to_owned(), holder: holder.to_owned(), times }) }
    }

    /// Gives the lead up, if it is ours, so that the next need not wait until it ends.
    pub async fn release(&self) {
        let shared = &self.shared;
        let known = shared.leases.get_opt(&shared.name).await.ok().flatten();
        let Some(mut record) = known.filter(|record| holder(record) == Some(&shared.holder)) else { return };
        record.spec =
            Some(LeaseSpec { holder_identity: Some(String::new()), lease_duration_seconds: Some(1), ..self.spec(&record) });
        if let Err(error) = shared.leases.replace(&shared.name, &PostParams::default(), &record).await {
            tracing::debug!(%error, "the lead is not given up; it ends by itself");
        }
    }

    /// Asks for the lead. `seen` is the record that was seen last, and since when it is what it is.
    async fn ask(&self, seen: &mut Option<(Record, Instant)>) -> Result<Asked, kube::Error> {
        let shared = &self.shared;
        let Some(known) = shared.leases.get_opt(&shared.name).await? else {
            let metadata = ObjectMeta { name: Some(shared.name.clone()), ..ObjectMeta::default() };
            let record = Record { metadata, spec: Some(self.spec(&Record::default())) };
            return shared.leases.create(&PostParams::default(), &record).await.map(Asked::Ours);
        };
        let since = match seen {
            Some((record, since)) if record.spec == known.spec => *since,
            _ => seen.insert((known.clone(), Instant::now())).1,
        };
        let seconds = known.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
        let duration = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        let free = holder(&known).is_none_or(|holder| holder.is_empty() || *holder == shared.holder);
        if !free && since.elapsed() < duration {
            return Ok(Asked::Theirs(known));
        }
        self.write(known).await.map(Asked::Ours)
    }

    /// Writes the record as ours; refused when somebody has changed it since it was read.
    async fn write(&self, mut record: Record) -> Result<Record, kube::Error> {
        record.spec = Some(self.spec(&record));
        self.shared.leases.replace(&self.shared.name, &PostParams::default(), &record).await
    }

    fn spec(&self, before: &Record) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let known = before.spec.clone().unwrap_or_default();
        let ours = known.holder_identity.as_ref() == Some(&self.shared.holder);
        let seconds = i32::try_from(self.shared.times.duration.as_secs()).unwrap_or(i32::MAX);
        LeaseSpec {
            holder_identity: Some(self.shared.holder.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: if ours { known.acquire_time.clone() } else { now.clone() },
            renew_time: now,
            lease_transitions: Some(known.lease_transitions.unwrap_or_default() + i32::from(!ours)),
            ..known
        }
    }

    fn lost(&self, reason: String) -> LeaderError {
        LeaderError { what: format!("the lease {}", self.shared.name), source: reason.into() }
    }
}

impl Leader for LeaseLeader {
    type Lease = Held;

    fn place(&self) -> String {
        format!("by the Lease {}", self.shared.name)
    }

    async fn lead(&self, waiting: impl Fn(&str) + Send) -> Result<Held, LeaderError> {
        let (mut seen, mut told, mut failed) = (None, false, false);
        loop {
            match self.ask(&mut seen).await {
                Ok(Asked::Ours(record)) => {
                    return Ok(Held { leader: self.clone(), record, renewed: Instant::now() });
                }
                Ok(Asked::Theirs(record)) => {
                    if !std::mem::replace(&mut told, true) {
                        waiting(holder(&record).map_or("nobody", String::as_str));
                    }
                }
                // Somebody else was faster.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(%error, "the lead cannot be asked for; trying again");
                    }
                }
            }
            tokio::time::sleep(self.shared.times.retry).await;
        }
    }
}

impl Lease for Held {
    async fn lost(&mut self) -> LeaderError {
        let times = self.leader.shared.times;
        loop {
            tokio::time::sleep(times.retry).await;
            let left = times.deadline.saturating_sub(self.renewed.elapsed());
            let renewed = tokio::time::timeout(left, self.leader.write(self.record.clone())).await;
            let reason = match renewed {
                Ok(Ok(record)) => {
                    (self.record, self.renewed) = (record, Instant::now());
                    continue;
                }
                Ok(Err(kube::Error::Api(status))) if status.code == 409 || status.code == 404 => {
                    match self.leader.shared.leases.get_opt(&self.leader.shared.name).await {
                        // Something else was changed on it.
                        Ok(Some(known)) if holder(&known) == Some(&self.leader.shared.holder) => {
                            self.record = known;
                            continue;
                        }
                        Ok(Some(known)) => {
                            let who = holder(&known).cloned().unwrap_or_default();
                            return self.leader.lost(format!("it is held by {who:?} now; this control plane leads no more"));
                        }
                        Ok(None) => "it was deleted".to_owned(),
                        Err(error) => error.to_string(),
                    }
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the API server does not answer".to_owned(),
            };
            if self.renewed.elapsed() >= times.deadline {
                return self.leader.lost(format!("it could not be renewed for {} s: {reason}", times.deadline.as_secs()));
            }
        }
    }
}

fn holder(record: &Record) -> Option<&String> {
    record.spec.as_ref()?.holder_identity.as_ref()
}

//! Keeps the world up with its source: a valid change comes into force, an invalid one is told of and changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mutua_identity::Ca;
use mutua_model::Severity;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::revision::Phase;
use crate::sign::reroot;
use crate::source::watch::Watch;
use crate::source::{NoWayBack, Reading, Rejected, Sink, Source};
use crate::start::{Parts, ROOT_FILE};
use crate::state::{PUBLIC, StateDir};
use crate::world::ApplyError;

/// How often a generation that could not be recorded (a full disk) is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Why a change is not taken back.
#[derive(Debug, thiserror::Error)]
pub enum NotAborted {
    /// None is under way.
    #[error(
        "no change is under way; to go back to an earlier configuration put the earlier files back: that goes through its stages as well"
    )]
    NothingUnderWay,
    /// One is under way that changes no configuration, or leads back already.
    #[error(
        "the change under way leads to the configuration from before it; a change of root is taken back by `mutua ca rotate --abort`"
    )]
    SameConfiguration,
    /// The configuration from before is not there.
    #[error(transparent)]
    NoWayBack(#[from] NoWayBack),
    /// The way back cannot be begun.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The control plane is stopping.
    #[error("the control plane is stopping")]
    Stopping,
}

/// Asks for the change under way to be taken back.
pub type Abort = oneshot::Sender<Result<(), NotAborted>>;

/// Takes the change under way back; returns when the way back has begun.
///
/// # Errors
/// None is under way, or there is no way back.
pub async fn abort(parts: &Parts) -> Result<(), NotAborted> {
    let (reply, answer) = oneshot::channel();
    parts.aborts.send(reply).await.map_err(|_| NotAborted::Stopping)?;
    answer.await.map_err(|_| NotAborted::Stopping)?
}

/// Where configuration comes from and where its status goes.
pub struct Configuration<S, K> {
    /// The source.
    pub source: S,
    /// The sink.
    pub sink: K,
    /// What was read last and could be used.
    pub reading: Reading,
    /// The state folder.
    pub state: Arc<StateDir>,
    /// Those who ask for the change under way to be taken back.
    pub aborts: mpsc::Receiver<Abort>,
}

enum Event {
    Content(Reading),
    SigningCa,
    Retry,
    Stage,
    Abort(Abort),
}

/// Follows the source, and the signing CA's folder when there is one, until `shutdown`.
pub async fn reread<S: Source, K: Sink>(
    mut configuration: Configuration<S, K>,
    parts: &Parts,
    ca_dir: Option<PathBuf>,
    shutdown: CancellationToken,
) {
    let mut ca_watch = ca_dir.as_deref().map(Watch::new);
    let mut stages = parts.world.follow();
    let mut pending: Option<Reading> = None;
    configuration.source.keep(&configuration.reading);
    configuration.source.in_force(&configuration.reading);
    configuration.source.needed(&parts.world.needed());
    tell(&configuration.sink, parts).await;
    warn_of(parts);
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            reading = configuration.source.next() => Event::Content(reading),
            () = changed(&mut ca_watch) => Event::SigningCa,
            Ok(()) = stages.changed() => Event::Stage,
            Some(abort) = configuration.aborts.recv() => Event::Abort(abort),
            () = parts.retrust.notified() => Event::Retry,
            () = tokio::time::sleep(RETRY), if pending.is_some() => Event::Retry,
        };
        let resigned = matches!(event, Event::SigningCa);
        let known = pending.is_none() && !matches!(event, Event::Content(_));
        let reading = match event {
            Event::Content(reading) => reading,
            Event::Stage => {
                stages.mark_unchanged();
                configuration.source.needed(&parts.world.needed());
                continue;
            }
            Event::Abort(reply) => {
                let done = take_back(&mut configuration, parts);
                if done.is_ok() {
                    pending = None;
                }
                // Whoever asked may have gone away.
                let _ = reply.send(done);
                tell(&configuration.sink, parts).await;
                continue;
            }
            Event::Retry => pending.take().unwrap_or_else(|| configuration.reading.clone()),
            Event::SigningCa => {
                if !ca_dir.as_deref().is_some_and(|folder| reroot::replaced(parts, folder)) {
                    continue;
                }
                pending.take().unwrap_or_else(|| configuration.reading.clone())
            }
        };
        pending = apply(&mut configuration, parts, reading, known);
        if resigned {
            // Under the old signer it would end with that one, whether or not the roots are the same.
            parts.keeper.renew();
        }
        tell(&configuration.sink, parts).await;
    }
}

/// Puts a reading into force. `known`: it is in force already, and only whom to trust may be new. Returns it when that is
/// to be tried again.
fn apply<S: Source, K: Sink>(
    configuration: &mut Configuration<S, K>,
    parts: &Parts,
    reading: Reading,
    known: bool,
) -> Option<Reading> {
    let ca = parts.ca.load();
    if reading.mesh.is_ok() {
        configuration.source.keep(&reading);
    }
    let trust = parts.trust();
    let applied = if known { parts.world.retrust(&reading, &trust) } else { parts.world.apply(&reading, &trust) };
    match applied {
        Ok(changed) => {
            if changed {
                tracing::info!(generation = parts.world.current().generation, "a new configuration is in force");
                warn_of(parts);
                write_roots(&configuration.state, &ca);
            }
            configuration.source.in_force(&reading);
            configuration.reading = reading;
            None
        }
        Err(error) => {
            parts.metrics.config_error();
            let generation = parts.world.current().generation;
            tracing::error!(%error, generation, "the configuration is not put into force; what ran keeps running");
            // The first stands in the message above.
            for diagnostic in parts.world.status().diagnostics.iter().skip(1) {
                tracing::error!("{diagnostic}");
            }
            matches!(error, ApplyError::State(_)).then_some(reading)
        }
    }
}

/// Logs what is worth knowing about the configuration in force, above all what was passed over.
fn warn_of(parts: &Parts) {
    let status = parts.world.status();
    let warnings = || status.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Warning);
    for warning in warnings().take(MOST_LOGGED) {
        tracing::warn!("{warning}");
    }
    let more = warnings().count().saturating_sub(MOST_LOGGED);
    if more > 0 {
        tracing::warn!(more, "further warnings are left out; `mutua validate` lists them");
    }
}

/// So many warnings of one configuration are logged.
const MOST_LOGGED: usize = 20;

/// Leads the mesh back to what was in force at both ends before the changes under way, through stages as well.
fn take_back<S: Source, K>(configuration: &mut Configuration<S, K>, parts: &Parts) -> Result<(), NotAborted> {
    let stage = parts.world.stage();
    let oldest = stage.accepted.first().filter(|_| stage.phase != Phase::Complete).ok_or(NotAborted::NothingUnderWay)?;
    if oldest.content == stage.target.content {
        return Err(NotAborted::SameConfiguration);
    }
    let ca = parts.ca.load();
    let reading = configuration.source.give_up(&oldest.content)?;
    parts.world.apply(&reading, &parts.trust())?;
    write_roots(&configuration.state, &ca);
    parts.world.note_rejected(&Rejected::given_up());
    parts.rollouts.aborted(stage.target.generation);
    configuration.reading = reading;
    let (aborted, generation) = (stage.target.generation, parts.world.current().generation);
    tracing::warn!(aborted, generation, "the change under way is taken back, as asked");
    Ok(())
}

fn write_roots(state: &StateDir, ca: &Ca) {
    if let Err(error) = state.write(ROOT_FILE, ca.bundle().to_pem().as_bytes(), PUBLIC) {
        tracing::error!(%error, "the root bundle for joining workloads is not up to date");
    }
}

async fn tell(sink: &impl Sink, parts: &Parts) {
    if let Err(error) = sink.write(&parts.world.status()).await {
        tracing::warn!(%error, "the status is not written");
    }
}

async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "configure_tests.rs"]
mod tests;

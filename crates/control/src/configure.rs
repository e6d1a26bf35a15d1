//! Keeps the world up with its source: a valid change comes into force, an invalid one is told of and changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mutua_identity::Ca;
use tokio_util::sync::CancellationToken;

use crate::revision::Phase;
use crate::sign::reroot;
use crate::source::watch::Watch;
use crate::source::{Reading, Sink, Source};
use crate::start::{Parts, ROOT_FILE};
use crate::state::{PUBLIC, StateDir};
use crate::world::ApplyError;

/// How often a generation that could not be recorded (a full disk) is tried again.
const RETRY: Duration = Duration::from_secs(2);

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
}

enum Event {
    Content(Reading),
    SigningCa,
    Retry,
    Stage,
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
    configuration.source.in_force(&configuration.reading);
    if parts.world.stage().phase == Phase::Complete {
        configuration.source.completed();
    }
    tell(&configuration.sink, parts).await;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            reading = configuration.source.next() => Event::Content(reading),
            () = changed(&mut ca_watch) => Event::SigningCa,
            Ok(()) = stages.changed() => Event::Stage,
            () = parts.retrust.notified() => Event::Retry,
            () = tokio::time::sleep(RETRY), if pending.is_some() => Event::Retry,
        };
        let resigned = matches!(event, Event::SigningCa);
        let reading = match event {
            Event::Content(reading) => reading,
            Event::Stage => {
                if stages.borrow_and_update().phase == Phase::Complete {
                    configuration.source.completed();
                }
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
        pending = apply(&mut configuration, parts, reading);
        if resigned {
            // Under the old signer it would end with that one, whether or not the roots are the same.
            parts.keeper.renew();
        }
        tell(&configuration.sink, parts).await;
    }
}

/// Puts a reading into force. Returns it when that is to be tried again.
fn apply<S: Source, K: Sink>(configuration: &mut Configuration<S, K>, parts: &Parts, reading: Reading) -> Option<Reading> {
    let ca = parts.ca.load();
    match parts.world.apply(&reading, &parts.trust()) {
        Ok(changed) => {
            if changed {
                tracing::info!(generation = parts.world.current().generation, "a new configuration is in force");
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
                tracing::error!(
                    "{}:{}:{}: {}: {}",
                    diagnostic.file,
                    diagnostic.line,
                    diagnostic.column,
                    diagnostic.path,
                    diagnostic.message
                );
            }
            matches!(error, ApplyError::State(_)).then_some(reading)
        }
    }
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

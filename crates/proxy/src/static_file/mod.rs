//! `--static FILE`: the effective resources from a file, for a sidecar without a control plane. The schema stands in
//! docs/static.md. Certificates are files too; SIGHUP reads everything anew.

mod fields;
mod schema;
mod yaml;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mutua_identity::{Credentials, PrivateKey, TrustBundle};
use mutua_wire::discovery::Resource;
use mutua_wire::mesh::{self, Destination, InboundPolicy, ProxySettings};
use mutua_wire::{MeshResource, content_version};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::fields::{Field, Wrong};
use self::schema::{Contents, Named};
use crate::settings::Workload;
use crate::sidecar::Sidecar;
use crate::world::{ApplyError, Change, World};

/// The largest file that is read.
const MAX_BYTES: u64 = 16 << 20;
/// The largest file of certificates or of a key.
const MAX_CERTIFICATES: u64 = 1 << 20;

/// Why a static configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StaticError {
    /// The file itself cannot be read.
    #[error("--static {}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something in the file is wrong.
    #[error("{}:{line}: {}{message}", file.display(), if field.is_empty() { String::new() } else { format!("{field}: ") })]
    Field {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The field, as in `destinations[0]/ports[1]/tls/mode`; empty for the file as a whole.
        field: String,
        /// What is wrong, and what is allowed.
        message: String,
    },
    /// A running sidecar cannot become another workload's.
    #[error("{}: workload: a running sidecar stays {was}", file.display())]
    OtherWorkload {
        /// The file.
        file: PathBuf,
        /// The workload that runs.
        was: String,
    },
    /// The parts do not go together.
    #[error("{}: {error}", file.display())]
    Apply {
        /// The file.
        file: PathBuf,
        /// Why.
        error: ApplyError,
    },
}

/// A static configuration, read and checked, with its certificates.
pub struct StaticConfig {
    file: PathBuf,
    /// The workload that the sidecar stands for.
    pub workload: Workload,
    credentials: Credentials,
    resources: Vec<(&'static str, Vec<Resource>)>,
}

impl StaticConfig {
    /// Reads `file` and the certificate files that it names, which are looked for beside it.
    ///
    /// # Errors
    /// A file that cannot be read, or the first thing that is wrong, with line and field.
    pub fn read(file: &Path) -> Result<Self, StaticError> {
        let unreadable = |reason: String| StaticError::Unreadable { file: file.to_owned(), reason };
        let text = bounded(file, MAX_BYTES).map_err(|error| unreadable(error.to_string()))?;
        Self::from_text(file, &text).map_err(|wrong| {
            let Wrong { line, field, message } = wrong;
            StaticError::Field { file: file.to_owned(), line, field, message }
        })
    }

    fn from_text(file: &Path, text: &str) -> Result<Self, Wrong> {
        let tree = yaml::read(text)?;
        let contents = schema::contents(&Field::root(&tree))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        let credentials = credentials(folder, &contents)?;
        let roots = roots(folder, &contents.roots)?;
        let Contents { workload, mut inbound, mut destinations, settings, .. } = contents;
        let own = credentials.id().map(|id| id.trust_domain().as_str().to_owned());
        let expected = destinations.iter_mut().flat_map(|destination| &mut destination.ports);
        let expected = expected.filter_map(|port| port.tls.as_mut()).map(|tls| &mut tls.trust_domains);
        for domains in expected.chain([&mut inbound.trust_domains]).filter(|domains| domains.is_empty()) {
            domains.extend(own.clone());
        }
        let named = destinations.iter().map(|one| resource(&format!("{}/{}", one.namespace, one.host), one)).collect();
        Ok(Self {
            file: file.to_owned(),
            credentials,
            resources: vec![
                (mesh::TrustBundle::TYPE_URL, vec![resource("default", &roots)]),
                (ProxySettings::TYPE_URL, vec![resource("default", &settings)]),
                (InboundPolicy::TYPE_URL, vec![resource(&workload.to_string(), &inbound)]),
                (Destination::TYPE_URL, named),
            ],
            workload,
        })
    }

    /// Puts the configuration in force; destinations that it no longer names are gone.
    ///
    /// # Errors
    /// The parts do not go together: what is in force of them stays.
    pub fn apply(&self, world: &World) -> Result<(), StaticError> {
        let failed = |error| StaticError::Apply { file: self.file.clone(), error };
        world.set_credentials(self.credentials.clone()).map_err(failed)?;
        for (type_url, resources) in &self.resources {
            let mut gone = world.versions(type_url);
            gone.retain(|name, _| resources.iter().all(|resource| resource.name != *name));
            let removed: Vec<String> = gone.into_keys().collect();
            world.apply(&Change { type_url, generation: "static", resources, removed: &removed }).map_err(failed)?;
        }
        Ok(())
    }
}

/// Reads `file` anew at each SIGHUP, until `stop`. What cannot be used changes nothing.
pub async fn follow(file: PathBuf, workload: Workload, sidecar: Arc<Sidecar>, stop: CancellationToken) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            () = stop.cancelled() => return,
        }
        let taken = StaticConfig::read(&file).and_then(|config| match config.workload == workload {
            true => config.apply(&sidecar.world),
            false => Err(StaticError::OtherWorkload { file: file.clone(), was: workload.to_string() }),
        });
        match taken {
            Ok(()) => tracing::info!(file = %file.display(), "the configuration was read anew"),
            Err(error) => tracing::error!(%error, "the last configuration stays in force"),
        }
    }
}

fn credentials(folder: &Path, contents: &Contents) -> Result<Credentials, Wrong> {
    let chain = load(folder, &contents.chain)?;
    let key = load(folder, &contents.key)?;
    let key = PrivateKey::from_pem(&key).map_err(|error| wrong(&contents.key, &error.to_string()))?;
    let credentials = Credentials::new(&key, &[chain]).map_err(|error| wrong(&contents.chain, &error.to_string()))?;
    if credentials.id().is_none() {
        return Err(wrong(&contents.chain, "the certificate has no single SPIFFE id among its URI names"));
    }
    if credentials.not_after() <= std::time::SystemTime::now() {
        return Err(wrong(&contents.chain, "the certificate has ended"));
    }
    Ok(credentials)
}

fn roots(folder: &Path, files: &[Named]) -> Result<mesh::TrustBundle, Wrong> {
    let mut bundle = mesh::TrustBundle::default();
    for file in files {
        let text = load(folder, file)?;
        let roots = TrustBundle::from_pem(&text).map_err(|error| wrong(file, &error.to_string()))?;
        bundle.roots.extend(roots.roots_pem());
    }
    Ok(bundle)
}

fn load(folder: &Path, file: &Named) -> Result<String, Wrong> {
    bounded(&folder.join(&file.path), MAX_CERTIFICATES).map_err(|error| wrong(file, &error.to_string()))
}

/// A text of at most `most` bytes, however large its file says it is: a device has no size.
fn bounded(path: &Path, most: u64) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    if read as u64 > most {
        return Err(std::io::Error::other(format!("has more than {most} bytes")));
    }
    Ok(text)
}

fn wrong(file: &Named, message: &str) -> Wrong {
    Wrong { message: format!("{}: {message}", file.path.display()), ..file.at.clone() }
}

fn resource<M: MeshResource>(name: &str, message: &M) -> Resource {
    let any = message.pack();
    Resource { name: name.to_owned(), version: content_version(&any.value), resource: Some(any), aliases: Vec::new() }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

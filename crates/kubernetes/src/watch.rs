//! Follows one kind: a paged list first, then a watch that is resumed; after a compaction of the server's history the list
//! again. A kind that is not installed counts as one without objects until it is.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::core::ApiResource;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use mutua_model::read::Piece;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::kinds::{Shape, Watched};
use crate::object::{Object, Shaped};
use crate::shapes;
use crate::store::{Entry, Name};

/// How often a kind that is not installed is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// How many looks in a row must miss a kind that was listed before its objects count as gone: a server that has just
/// started may not know it yet, and without its policies the mesh would be open.
const MISSED: usize = 2;
/// The pauses between attempts while the API server refuses or is away.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// How often the log is told that a kind still cannot be read.
const REMIND: Duration = Duration::from_secs(60);
/// How many objects one page of a list holds.
pub const PAGE: u32 = 500;

/// What has happened to one kind.
#[derive(Debug)]
pub enum Change {
    /// These are all objects that there are.
    All(Vec<(Name, Entry)>),
    /// An object is new or has changed.
    Apply(Name, Entry),
    /// An object is gone.
    Delete(Name),
}

/// A change of the kind at a position of [`crate::kinds::WATCHED`].
pub type Changes = mpsc::Sender<(usize, Change)>;

/// Follows a kind for as long as somebody listens. `namespace` is the control plane's.
pub async fn follow(client: Client, at: usize, kind: &'static Watched, namespace: String, changes: Changes) {
    let told = Told { at, changes };
    let watching = Watching { client, kind, namespace };
    match kind.shape {
        Shape::MetadataOnly => watching.run::<shapes::MetadataOnly>(&told).await,
        Shape::Configuration => watching.run::<shapes::Configuration>(&told).await,
        Shape::Service => watching.run::<shapes::Service>(&told).await,
        Shape::EndpointSlice => watching.run::<shapes::EndpointSlice>(&told).await,
        Shape::Pod => watching.run::<shapes::Pod>(&told).await,
    }
}

/// Whom changes are told to.
struct Told {
    at: usize,
    changes: Changes,
}

impl Told {
    /// Returns whether anybody listens.
    async fn tell(&self, change: Change) -> bool {
        self.changes.send((self.at, change)).await.is_ok()
    }
}

struct Watching {
    client: Client,
    kind: &'static Watched,
    namespace: String,
}

/// Why a version is followed no longer.
enum Ended {
    /// The server does not serve it, or not any more.
    Missing {
        /// Whether it was listed before.
        listed: bool,
    },
    /// Nobody listens.
    Stopped,
}

impl Watching {
    async fn run<S: Shaped>(&self, told: &Told) {
        let versions = self.kind.resources();
        let (mut listed, mut missed) = (false, 0);
        loop {
            for resource in &versions {
                match self.follow_version::<S>(resource, told).await {
                    Ended::Stopped => return,
                    Ended::Missing { listed: true } => (listed, missed) = (true, 0),
                    Ended::Missing { listed: false } => {}
                }
            }
            missed += 1;
            if !listed || missed >= MISSED {
                if !told.tell(Change::All(Vec::new())).await {
                    return;
                }
                listed = false;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn follow_version<S: Shaped>(&self, resource: &ApiResource, told: &Told) -> Ended {
        let api = match self.kind.only {
            None => Api::<Object<S>>::all_with(self.client.clone(), resource),
            Some(_) => Api::namespaced_with(self.client.clone(), &self.namespace, resource),
        };
        let mut config = watcher::Config::default().page_size(PAGE);
        if let Some(name) = self.kind.only {
            config = config.fields(&format!("metadata.name={name}"));
        }
        let mut events = pin!(watcher(api, config));
        let (mut listed, mut complete, mut trouble) = (Vec::new(), false, Trouble::default());
        while let Some(event) = events.next().await {
            let change = match event {
                Err(error) if is_missing(&error) => break,
                Err(error) => {
                    trouble.met(resource, &error).await;
                    continue;
                }
                Ok(Event::Init) => {
                    listed = Vec::new();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    listed.extend(entry(resource, object));
                    continue;
                }
                Ok(Event::InitDone) => {
                    complete = true;
                    Change::All(std::mem::take(&mut listed))
                }
                Ok(Event::Delete(object)) => Change::Delete(name(&object)),
                Ok(Event::Apply(object)) => match entry(resource, object) {
                    Some((name, entry)) => Change::Apply(name, entry),
                    None => continue,
                },
            };
            trouble.over(resource);
            if !told.tell(change).await {
                return Ended::Stopped;
            }
        }
        Ended::Missing { listed: complete }
    }
}

/// Reads an object; lists of built-in kinds leave out what kind it is.
pub fn entry<S: Shaped>(resource: &ApiResource, object: Object<S>) -> Option<(Name, Entry)> {
    let name = name(&object);
    let mut value = object.value;
    if let Some(map) = value.as_object_mut() {
        map.insert("apiVersion".to_owned(), Value::String(resource.api_version.clone()));
        map.insert("kind".to_owned(), Value::String(resource.kind.clone()));
    }
    Piece::read(&value).map(|piece| (name, Entry::new(piece, &value)))
}

fn name<S: Shaped>(object: &Object<S>) -> Name {
    let meta = object.meta();
    Name { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
}

fn is_missing(error: &watcher::Error) -> bool {
    let client = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error,
        watcher::Error::WatchError(status) => return status.code == 404,
        watcher::Error::NoResourceVersion => return false,
    };
    is_missing_kind(client)
}

/// Whether the server does not serve the kind that was asked for.
pub fn is_missing_kind(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Errors in a row.
#[derive(Default)]
struct Trouble {
    count: usize,
    told: Option<(String, Instant)>,
}

impl Trouble {
    /// Logs an error that is new, or was not told of for a while, and waits.
    async fn met(&mut self, resource: &ApiResource, error: &watcher::Error) {
        // That history was compacted is the way of things, and the list follows at once.
        if matches!(error, watcher::Error::WatchError(status) if status.code == 410) {
            return;
        }
        let text = error.to_string();
        let known = self.told.as_ref().is_some_and(|(told, when)| *told == text && when.elapsed() < REMIND);
        if !known {
            tracing::warn!(
                error = text,
                "{} cannot be read from the API server; what is known of them stays in force",
                resource.plural
            );
            self.told = Some((text, Instant::now()));
        }
        tokio::time::sleep(PAUSES[self.count.min(PAUSES.len() - 1)]).await;
        self.count += 1;
    }

    fn over(&mut self, resource: &ApiResource) {
        if std::mem::take(&mut self.count) > 0 {
            tracing::info!("{} can be read from the API server again", resource.plural);
            self.told = None;
        }
    }
}

//! A cluster read once, for commands.

use kube::api::ListParams;
use kube::core::ApiResource;
use kube::{Api, Client};
use mutua_model::read::Loaded;

use crate::kinds::{Shape, WATCHED, Watched};
use crate::object::{Object, Shaped};
use crate::shapes;
use crate::store::{Entry, Name, Store};
use crate::watch::{Change, PAGE, entry, is_missing_kind};
use crate::{Cluster, ClusterError};

/// The mesh of a cluster as it is now. Invalid objects are not part of it; what is wrong with them is among the diagnostics.
///
/// # Errors
/// There is no way to the cluster, or it does not list a kind: a policy might be missing.
pub async fn read(cluster: &Cluster) -> Result<Loaded, ClusterError> {
    let client = cluster.client().await?;
    let mut store = Store::default();
    for (at, kind) in WATCHED.iter().enumerate() {
        let listing = Listing { client: &client, kind, namespace: &cluster.namespace };
        let all = match kind.shape {
            Shape::MetadataOnly => listing.all::<shapes::MetadataOnly>().await,
            Shape::Configuration => listing.all::<shapes::Configuration>().await,
            Shape::Service => listing.all::<shapes::Service>().await,
            Shape::EndpointSlice => listing.all::<shapes::EndpointSlice>().await,
            Shape::Pod => listing.all::<shapes::Pod>().await,
        };
        let all = all.map_err(|source| ClusterError::List { plural: kind.plural, source })?;
        store.take((at, Change::All(all)));
    }
    let mut loaded = store.load(None);
    loaded.diagnostics.extend(store.refused().cloned());
    Ok(loaded)
}

struct Listing<'a> {
    client: &'a Client,
    kind: &'static Watched,
    namespace: &'a str,
}

impl Listing<'_> {
    /// All objects, in the first version that the cluster serves.
    async fn all<S: Shaped>(&self) -> Result<Vec<(Name, Entry)>, kube::Error> {
        for resource in self.kind.resources() {
            match self.version::<S>(&resource).await {
                Err(error) if is_missing_kind(&error) => {}
                answer => return answer,
            }
        }
        Ok(Vec::new())
    }

    async fn version<S: Shaped>(&self, resource: &ApiResource) -> Result<Vec<(Name, Entry)>, kube::Error> {
        let (api, mut parameters) = match self.kind.only {
            None => (Api::<Object<S>>::all_with(self.client.clone(), resource), ListParams::default()),
            Some(name) => (
                Api::namespaced_with(self.client.clone(), self.namespace, resource),
                ListParams::default().fields(&format!("metadata.name={name}")),
            ),
        };
        parameters = parameters.limit(PAGE);
        let mut all = Vec::new();
        loop {
            let page = api.list(&parameters).await?;
            all.extend(page.items.into_iter().filter_map(|object| entry(resource, object)));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(all),
            }
        }
    }
}

//! A small API server of Kubernetes over HTTP on loopback: as much of the protocol as a client meets, with the faults
//! that clusters have (compacted history, cut watches, kinds that are not installed, missing permissions).

mod answer;
mod discovery;
mod store;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{Method, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch as channel;

use store::{Failure, Key, Store};
pub use store::{KINDS, KindInfo};

/// Who a token stands for.
#[derive(Clone, Debug)]
pub struct TokenUser {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
    /// Its groups.
    pub groups: Vec<String>,
    /// The audiences that it is for.
    pub audiences: Vec<String>,
}

/// The server.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
    /// Where it listens.
    pub address: SocketAddr,
}

struct Shared {
    store: Mutex<Store>,
    /// The newest resource version, for those who watch.
    revision: channel::Sender<u64>,
    /// Counts up when all watches are to end.
    cuts: channel::Sender<u64>,
    /// Counts up when a bookmark is to be sent on all watches.
    bookmarks: channel::Sender<u64>,
    tokens: Mutex<BTreeMap<String, TokenUser>>,
    /// Answers with this status to requests for this plural.
    refusals: Mutex<BTreeMap<String, u16>>,
    requests: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ApiServer {
    /// Starts one that knows the core kinds and those of Istio, and holds nothing.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            store: Mutex::new(Store::default()),
            revision: channel::Sender::new(1),
            cuts: channel::Sender::new(0),
            bookmarks: channel::Sender::new(0),
            tokens: Mutex::default(),
            refusals: Mutex::default(),
            requests: Mutex::default(),
        });
        let router = Router::new().fallback(serve).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { shared, address }
    }

    /// A kubeconfig for it.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster: {{server: 'http://{}'}}\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: test}}\nusers:\n- name: test\n  user: {{}}\n",
            self.address
        )
    }

    /// Creates or replaces an object, whoever wrote it before.
    pub fn put(&self, object: &Value) {
        self.change(|store| store.put(object.clone()));
    }

    /// Creates or replaces each object of a YAML text.
    pub fn put_yaml(&self, text: &str) {
        for document in text.split("\n---").map(|part| part.trim_start_matches(['-', '\n'])) {
            if !document.trim().is_empty() {
                self.put(&serde_saphyr::from_str::<Value>(document).unwrap());
            }
        }
    }

    /// The object, if it is there.
    #[must_use]
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        lock(&self.shared.store).get(&Key::new(plural, namespace, name)).cloned()
    }

    /// Deletes an object that is there.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.change(|store| store.delete(&Key::new(plural, namespace, name)));
    }

    /// Takes a kind away, as if its CustomResourceDefinition was not applied; its objects go.
    pub fn uninstall(&self, plural: &str) {
        lock(&self.shared.store).uninstalled.insert(plural.to_owned());
        self.cut();
    }

    /// Brings a kind back.
    pub fn install(&self, plural: &str) {
        lock(&self.shared.store).uninstalled.remove(plural);
    }

    /// Forgets what was changed so far: watches that resume from before are Gone.
    pub fn compact(&self) {
        lock(&self.shared.store).compact();
    }

    /// Ends every open watch.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|count| *count += 1);
    }

    /// Sends a bookmark on every open watch.
    pub fn bookmark(&self) {
        self.shared.bookmarks.send_modify(|count| *count += 1);
    }

    /// Answers every request for this plural with `status`; `None` ends that.
    pub fn refuse(&self, plural: &str, status: Option<u16>) {
        let mut refusals = lock(&self.shared.refusals);
        match status {
            Some(status) => refusals.insert(plural.to_owned(), status),
            None => refusals.remove(plural),
        };
    }

    /// A token that TokenReview knows.
    pub fn token(&self, token: &str, user: TokenUser) {
        lock(&self.shared.tokens).insert(token.to_owned(), user);
    }

    /// Every request so far, `METHOD path?query`.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Store) -> Result<T, Failure>) {
        let revision = {
            let mut store = lock(&self.shared.store);
            if let Err(failure) = change(&mut store) {
                panic!("{}", failure.message);
            }
            store.revision
        };
        self.shared.revision.send_replace(revision);
    }
}

/// What a path names.
struct Target {
    info: &'static KindInfo,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
}

/// `/api/v1/…` or `/apis/GROUP/VERSION/…`.
fn target(path: &str, store: &Store) -> Option<Target> {
    let mut parts = path.trim_matches('/').split('/');
    let (group, version) = match parts.next()? {
        "api" => ("", parts.next()?),
        "apis" => (parts.next()?, parts.next()?),
        _ => return None,
    };
    let mut rest: Vec<&str> = parts.collect();
    let namespace = (rest.len() > 2 && rest[0] == "namespaces" && rest[2] != "status").then(|| rest[1].to_owned());
    if namespace.is_some() {
        rest.drain(..2);
    }
    let info = KINDS.iter().find(|info| info.group == group && info.plural == rest[0] && info.versions.contains(&version))?;
    if store.uninstalled.contains(info.plural) {
        return None;
    }
    let part = |at: usize| rest.get(at).map(|part| (*part).to_owned());
    Some(Target { info, namespace, name: part(1), subresource: part(2) })
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    headers: http::HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    lock(&shared.requests).push(format!("{method} {uri}"));
    if let Some(document) = discovery::document(uri.path(), &lock(&shared.store)) {
        return answer::json(200, &document);
    }
    let Some(target) = target(uri.path(), &lock(&shared.store)) else {
        return answer::failure(&Failure::new(404, "NotFound", "the server could not find the requested resource"));
    };
    if let Some(status) = lock(&shared.refusals).get(target.info.plural) {
        let message = format!("{} is forbidden: User \"test\" cannot list resource", target.info.plural);
        return answer::failure(&Failure::new(*status, if *status == 403 { "Forbidden" } else { "InternalError" }, &message));
    }
    let body: Value = match body.is_empty() {
        true => Value::Null,
        false => match serde_saphyr::from_slice(&body) {
            Ok(body) => body,
            Err(error) => return answer::failure(&Failure::new(400, "BadRequest", &error.to_string())),
        },
    };
    let watching = query.get("watch").is_some_and(|value| value == "true" || value == "1");
    if method == Method::GET && watching {
        return watch::open(&shared, &target, &query);
    }
    if target.info.plural == "tokenreviews" {
        return answer::json(201, &review(&shared, body));
    }
    let content = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let answered = {
        let mut store = lock(&shared.store);
        let answered = answer::of(&mut store, &method, &target, &query, (&content, body));
        shared.revision.send_replace(store.revision);
        answered
    };
    match answered {
        Ok((status, value)) => answer::json(status, &value),
        Err(failure) => answer::failure(&failure),
    }
}

fn review(shared: &Shared, mut review: Value) -> Value {
    let tokens = lock(&shared.tokens);
    let asked: Vec<String> = serde_json::from_value(review["spec"]["audiences"].clone()).unwrap_or_default();
    let user = review["spec"]["token"].as_str().and_then(|token| tokens.get(token));
    let user = user.filter(|user| asked.is_empty() || asked.iter().any(|audience| user.audiences.contains(audience)));
    review["status"] = match user {
        None => json!({"authenticated": false, "error": "invalid bearer token"}),
        Some(user) => {
            let both: Vec<&String> = asked.iter().filter(|audience| user.audiences.contains(audience)).collect();
            json!({"authenticated": true, "audiences": both, "user": {"username": user.username, "groups": user.groups}})
        }
    };
    review["spec"]["token"] = Value::Null;
    review
}

fn body_of(value: &Value) -> Body {
    Body::from(value.to_string())
}

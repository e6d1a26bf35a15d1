//! Watches: lines of JSON until the client goes, the time is over, or the test cuts them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::answer::{self, Filter};
use super::store::Failure;
use super::{Shared, Target, lock};

/// Opens a watch from `resourceVersion` on.
pub fn open(shared: &Arc<Shared>, target: &Target, query: &BTreeMap<String, String>) -> Response {
    let filter = Filter::new(target, query);
    let from = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let seconds = query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(300);
    let bookmarks = query.get("allowWatchBookmarks").is_some_and(|value| value == "true");
    let kind = (target.info.kind, answer::api_version(target.info));
    let (lines, body) = mpsc::channel::<Bytes>(64);
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let all = follow(&shared, &filter, from, (bookmarks, kind), &lines);
        // The time of the watch is over: it ends as real ones do.
        let _ = tokio::time::timeout(Duration::from_secs(seconds), all).await;
    });
    let stream = ReceiverStream::new(body).map(Ok::<_, std::convert::Infallible>);
    let response = Response::builder().header("content-type", "application/json").body(Body::from_stream(stream));
    response.unwrap()
}

async fn follow(
    shared: &Shared,
    filter: &Filter,
    mut at: u64,
    (bookmarks, (kind, version)): (bool, (&'static str, String)),
    lines: &mpsc::Sender<Bytes>,
) {
    let (mut revisions, mut cuts, mut marks) =
        (shared.revision.subscribe(), shared.cuts.subscribe(), shared.bookmarks.subscribe());
    loop {
        let found = {
            let store = lock(&shared.store);
            if at < store.compacted {
                let gone = Failure::new(410, "Expired", &format!("too old resource version: {at} ({})", store.revision));
                Err(json!({"type": "ERROR", "object": gone.status()}))
            } else {
                let news = store.log.iter().filter(|event| event.revision > at && filter.holds(&event.key, &event.object));
                let events: Vec<Value> =
                    news.map(|event| json!({"type": event.kind, "object": filter.shown(&event.object)})).collect();
                at = store.revision;
                Ok(events)
            }
        };
        match found {
            Err(gone) => {
                // Whoever reads no more need not be told.
                let _ = lines.send(line(&gone)).await;
                return;
            }
            Ok(events) => {
                for event in events {
                    if lines.send(line(&event)).await.is_err() {
                        return;
                    }
                }
            }
        }
        tokio::select! {
            _ = revisions.changed() => {}
            _ = cuts.changed() => return,
            _ = marks.changed(), if bookmarks => {
                let object = json!({"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": at.to_string()}});
                let _ = lines.send(line(&json!({"type": "BOOKMARK", "object": object}))).await;
            }
            () = lines.closed() => return,
        }
    }
}

fn line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}

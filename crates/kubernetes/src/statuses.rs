//! What became of each policy, written back to it: is it valid, what does `analyze` find on it, is it in force at both ends.
//!
//! Istio's schema makes `status.conditions` one list that has one owner, so ours are put among those of others, by a patch
//! that the API server refuses when the object has changed meanwhile. Nothing is written that stands there already.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Client};
use mutua_control::Parts;
use mutua_control::revision::Phase;
use mutua_control::source::Status;
use mutua_control::world::stage::Stage;
use mutua_model::{Kind, Mesh, Meta, ObjectRef, Severity};
use mutua_policy::findings::{Asked, analyze};
use serde_json::{Value, json};

use crate::kinds::WATCHED;
use crate::roots::MANAGER;

/// How long the mesh must have been quiet before anything is written.
const QUIET: Duration = Duration::from_secs(1);
/// How often it is looked whether an object was refused, which changes nothing of the mesh.
const LOOK: Duration = Duration::from_secs(2);
/// How long to wait after the API server refused.
const RETRY: Duration = Duration::from_secs(5);
/// How many codes a message names.
const MOST_CODES: usize = 8;

/// One condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

/// Is it valid, and taken over as it stands?
const ACCEPTED: &str = "mutua.io/Accepted";
/// Is there nothing that `mutua analyze` finds on it?
const ANALYZED: &str = "mutua.io/NoFindings";
/// Does every receiver and every sender follow it?
const ENFORCED: &str = "mutua.io/Enforced";

/// Writes statuses.
pub struct Statuses {
    client: Client,
    parts: Arc<Parts>,
    /// What each object was told last.
    told: HashMap<ObjectRef, Vec<Condition>>,
}

impl Statuses {
    /// Of the policies of a running control plane.
    #[must_use]
    pub fn new(client: Client, parts: Arc<Parts>) -> Self {
        Self { client, parts, told: HashMap::new() }
    }

    /// Keeps them for as long as this runs.
    pub async fn keep(mut self) {
        let mut stages = self.parts.world.follow();
        let mut written = None;
        loop {
            let now = (Arc::clone(&stages.borrow_and_update()), self.parts.world.status());
            let known = |(stage, status): &(Arc<Stage>, Status)| Arc::ptr_eq(stage, &now.0) && *status == now.1;
            if !written.as_ref().is_some_and(known) {
                written = self.write(&now.0, &now.1).await.then_some(now);
            }
            let wait = if written.is_some() { LOOK } else { RETRY };
            if let Ok(Err(_)) = tokio::time::timeout(wait, stages.changed()).await {
                return;
            }
            tokio::time::sleep(QUIET).await;
        }
    }

    /// Tells every policy what is new for it. Returns whether all were told.
    async fn write(&mut self, stage: &Arc<Stage>, status: &Status) -> bool {
        let refused: HashMap<String, String> = status
            .diagnostics
            .iter()
            .filter(|found| found.severity == Severity::Error)
            .map(|found| (found.object.clone(), format!("{}: {}", found.path, found.message)))
            .collect();
        let judged = Arc::clone(stage);
        let wanted = tokio::task::spawn_blocking(move || wanted(&judged, &refused)).await;
        let Ok(wanted) = wanted else { return false };
        self.told.retain(|object, _| wanted.contains_key(object));
        let mut all = true;
        for (object, conditions) in wanted {
            if self.told.get(&object) == Some(&conditions) {
                continue;
            }
            match self.tell(&object, &conditions).await {
                Ok(()) => {
                    self.told.insert(object, conditions);
                }
                Err(error) => {
                    tracing::warn!(%error, "{object} is not told its status; trying again");
                    all = false;
                }
            }
        }
        all
    }

    async fn tell(&self, object: &ObjectRef, conditions: &[Condition]) -> Result<(), kube::Error> {
        let Some(resource) = resource(object.kind) else { return Ok(()) };
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &object.namespace, &resource);
        let Some(known) = api.get_opt(&object.name).await? else { return Ok(()) };
        let before = known.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let Some(after) = merged(&before, conditions, &now()) else { return Ok(()) };
        let patch = json!({"metadata": {"resourceVersion": known.metadata.resource_version}, "status": {"conditions": after}});
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        api.patch_status(&object.name, &parameters, &Patch::Merge(&patch)).await.map(|_| ())
    }
}

/// The time to the second, as Kubernetes writes it.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn resource(kind: Kind) -> Option<ApiResource> {
    WATCHED.iter().find(|watched| watched.kind == kind)?.resources().into_iter().next()
}

fn policies(mesh: &Mesh) -> impl Iterator<Item = &Meta> {
    let peers = mesh.peer_authentications.iter().map(|policy| &policy.meta);
    peers.chain(mesh.destination_rules.iter().map(|rule| &rule.meta))
}

/// What each policy is to be told. `refused`: objects whose newest form is not in force, and why.
fn wanted(stage: &Stage, refused: &HashMap<String, String>) -> BTreeMap<ObjectRef, Vec<Condition>> {
    let mut codes: HashMap<String, Vec<&'static str>> = HashMap::new();
    let now = Timestamp::now().as_second();
    for finding in analyze(&stage.target.engine, &Asked { now: Some(now), include: Vec::new() }) {
        codes.entry(finding.object).or_default().push(finding.code);
    }
    let moving = moving(stage);
    let of = |meta: &Meta| {
        let name = meta.object.to_string();
        let found = codes.remove(&name).unwrap_or_default();
        let phase = if moving.contains(&meta.object) { stage.phase } else { Phase::Complete };
        (meta.object.clone(), vec![accepted(refused.get(&name)), analyzed(&found), enforced(phase)])
    };
    let mut wanted: BTreeMap<ObjectRef, Vec<Condition>> = policies(stage.target.mesh()).map(of).collect();
    for (object, why) in refused.iter().filter_map(|(name, why)| Some((policy(name)?, why))) {
        let never =
            || vec![Condition { kind: ACCEPTED, holds: false, reason: "Invalid", message: format!("it is not in force: {why}") }];
        wanted.entry(object).or_insert_with(never);
    }
    wanted
}

/// The policy of this name, as people read it (`PeerAuthentication shop/default`).
fn policy(name: &str) -> Option<ObjectRef> {
    let (kind, rest) = name.split_once(' ')?;
    let (namespace, name) = rest.split_once('/')?;
    let kind = Kind::parse(kind).filter(|kind| matches!(kind, Kind::PeerAuthentication | Kind::DestinationRule))?;
    Some(ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

/// The policies that the change under way is about: of others nothing is said when pods come and go.
fn moving(stage: &Stage) -> HashSet<ObjectRef> {
    let shared = |mesh: &Mesh| -> HashMap<ObjectRef, usize> {
        let peers = mesh.peer_authentications.iter().map(|policy| (policy.meta.object.clone(), Arc::as_ptr(policy) as usize));
        let rules = mesh.destination_rules.iter().map(|rule| (rule.meta.object.clone(), Arc::as_ptr(rule) as usize));
        peers.chain(rules).collect()
    };
    let now = shared(stage.target.mesh());
    let others = stage.accepted.iter().filter(|snapshot| !Arc::ptr_eq(snapshot, &stage.target));
    let differs = others.flat_map(|snapshot| {
        let before = shared(snapshot.mesh());
        now.iter()
            .filter(move |(object, at)| before.get(*object) != Some(at))
            .map(|(object, _)| object.clone())
            .collect::<Vec<_>>()
    });
    differs.collect()
}

fn accepted(refused: Option<&String>) -> Condition {
    match refused {
        None => Condition { kind: ACCEPTED, holds: true, reason: "Valid", message: String::new() },
        Some(why) => {
            let message = format!("its last valid form stays in force: {why}");
            Condition { kind: ACCEPTED, holds: false, reason: "Invalid", message }
        }
    }
}

fn analyzed(found: &[&'static str]) -> Condition {
    if found.is_empty() {
        return Condition { kind: ANALYZED, holds: true, reason: "Clean", message: String::new() };
    }
    let mut codes: Vec<&str> = found.to_vec();
    codes.sort_unstable();
    codes.dedup();
    let more = if codes.len() > MOST_CODES { ", …" } else { "" };
    let number = if found.len() == 1 { "1 finding".to_owned() } else { format!("{} findings", found.len()) };
    let named = codes[..codes.len().min(MOST_CODES)].join(", ");
    let message = format!("{number}: {named}{more}; mutua analyze explains them");
    Condition { kind: ANALYZED, holds: false, reason: "Findings", message }
}

fn enforced(phase: Phase) -> Condition {
    let (holds, reason, message) = match phase {
        Phase::Widen => (false, "Widen", "receivers begin to accept what this policy asks for, beside what they accepted before"),
        Phase::Switch => (false, "Switch", "senders follow this policy; receivers accept what was sent before, still"),
        Phase::Complete => (true, "Complete", ""),
    };
    Condition { kind: ENFORCED, holds, reason, message: message.to_owned() }
}

/// The list with ours in it; `None` when nothing is new. A condition that stays what it is keeps its time.
fn merged(before: &[Value], ours: &[Condition], now: &str) -> Option<Vec<Value>> {
    let mut after = before.to_vec();
    for one in ours {
        let status = if one.holds { "True" } else { "False" };
        let place = after.iter().position(|known| known["type"] == one.kind);
        let since = place.map(|at| &after[at]).filter(|known| known["status"] == status);
        let since = since.and_then(|known| known["lastTransitionTime"].as_str()).unwrap_or(now).to_owned();
        let next = json!({"type": one.kind, "status": status, "reason": one.reason, "message": one.message,
            "lastTransitionTime": since});
        match place {
            Some(at) => {
                let same = ["reason", "message"].iter().all(|key| text(&after[at], key) == text(&next, key));
                if !same || after[at]["status"] != next["status"] {
                    after[at] = next;
                }
            }
            None => after.push(next),
        }
    }
    (after != before).then_some(after)
}

/// A field's text; servers leave empty ones out.
fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_others_stay_and_what_stands_there_is_not_written_again() {
        let foreign = json!({"type": "Reconciled", "status": "True", "lastTransitionTime": "t0"});
        let good = [accepted(None), analyzed(&[]), enforced(Phase::Complete)];
        let first = merged(std::slice::from_ref(&foreign), &good, "t1").expect("new");
        assert_eq!((first.len(), &first[0]), (4, &foreign));
        assert_eq!(merged(&first, &good, "t2"), None);
        let mut bare = first.clone();
        bare[1].as_object_mut().expect("a mapping").remove("message");
        assert_eq!(merged(&bare, &good, "t2"), None, "an empty message that the server left out");
        let moving = [accepted(None), analyzed(&["KIA0105", "KIA0105", "MUT1"]), enforced(Phase::Switch)];
        let second = merged(&first, &moving, "t3").expect("new");
        assert_eq!(second[1], first[1]);
        assert_eq!(second[2]["message"], "3 findings: KIA0105, MUT1; mutua analyze explains them");
        assert_eq!(
            (&second[3]["status"], &second[3]["reason"], &second[3]["lastTransitionTime"]),
            (&json!("False"), &json!("Switch"), &json!("t3"))
        );
        let third = merged(&second, &[enforced(Phase::Widen)], "t4").expect("new");
        assert_eq!(third[3]["lastTransitionTime"], "t3", "the status is the same");
    }
}

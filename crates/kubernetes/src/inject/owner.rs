//! Whose pod it is: the controller by whose name users know it.

use serde_json::Value;

/// The controller of a pod, or the pod itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Its kind.
    pub kind: String,
    /// Its name; empty when nobody knows it yet.
    pub name: String,
}

impl Owner {
    /// From the metadata of a pod (Istio's `GetDeployMetaFromPod`): of a ReplicaSet its Deployment, of a Job its CronJob.
    #[must_use]
    pub fn of_pod(metadata: &Value) -> Self {
        let pod = || Self { kind: "Pod".to_owned(), name: text(&metadata["name"]).to_owned() };
        if text(&metadata["generateName"]).is_empty() {
            return pod();
        }
        let controller = metadata["ownerReferences"].as_array().into_iter().flatten().find(|one| one["controller"] == true);
        let Some(controller) = controller else { return pod() };
        let (kind, name) = (text(&controller["kind"]), text(&controller["name"]));
        let hash = text(&metadata["labels"]["pod-template-hash"]);
        let deployment = name.strip_suffix(hash).and_then(|name| name.strip_suffix('-')).filter(|_| !hash.is_empty());
        match (kind, deployment, cron_job(name)) {
            ("ReplicaSet", Some(deployment), _) => Self { kind: "Deployment".to_owned(), name: deployment.to_owned() },
            ("Job", _, Some(cron_job)) => Self { kind: "CronJob".to_owned(), name: cron_job.to_owned() },
            _ => Self { kind: kind.to_owned(), name: name.to_owned() },
        }
    }
}

/// The name before the time that a CronJob's Jobs are named by: 8 to 10 digits.
fn cron_job(name: &str) -> Option<&str> {
    let (name, time) = name.rsplit_once('-')?;
    (!name.is_empty() && (8..=10).contains(&time.len()) && time.bytes().all(|digit| digit.is_ascii_digit())).then_some(name)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_known_by_the_controller_that_users_wrote() {
        let owned = |kind: &str, name: &str| {
            json!({"generateName": "x-", "labels": {"pod-template-hash": "5d9c"},
                   "ownerReferences": [{"kind": "Node", "name": "n"}, {"kind": kind, "name": name, "controller": true}]})
        };
        let cases = [
            (json!({"name": "lone"}), "Pod lone"),
            (json!({"generateName": "x-"}), "Pod "),
            (owned("ReplicaSet", "web-5d9c"), "Deployment web"),
            (owned("ReplicaSet", "web-other"), "ReplicaSet web-other"),
            (owned("Job", "night-28391040"), "CronJob night"),
            (owned("Job", "night-123"), "Job night-123"),
            (owned("StatefulSet", "db"), "StatefulSet db"),
        ];
        for (metadata, expected) in cases {
            let Owner { kind, name } = Owner::of_pod(&metadata);
            assert_eq!(format!("{kind} {name}"), expected);
        }
    }
}

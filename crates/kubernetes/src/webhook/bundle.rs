//! The roots by which API servers know the webhooks: `caBundle` of the webhook configurations, kept as the mesh's roots are.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use mutua_control::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// How often the roots are compared with what was told last.
const LOOK: Duration = Duration::from_secs(1);
/// How often what stands in the cluster is looked at, whatever was told last: somebody may have applied the manifests anew.
const REPEAT: u32 = 30;

/// The webhook configurations of one control plane.
#[derive(Clone)]
pub struct Bundles {
    /// The cluster.
    pub client: Client,
    /// That of injection.
    pub mutating: String,
    /// That of validation.
    pub validating: String,
}

impl Bundles {
    /// Keeps them for as long as this runs.
    pub async fn keep(self, parts: Arc<Parts>) {
        let (mut told, mut turns) = (None, 0);
        loop {
            let roots = parts.trust().roots.to_pem();
            if told.as_ref() != Some(&roots) || turns >= REPEAT {
                told = self.tell(&roots).await.then_some(roots);
                turns = 0;
            }
            turns += 1;
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Writes the roots where they differ. Returns whether all is as it should be.
    pub async fn tell(&self, roots: &str) -> bool {
        let mutating = correct::<MutatingWebhookConfiguration>(&self.client, &self.mutating, roots, false).await;
        // Until now a resource was let through unchecked; from now on somebody answers.
        let validating = correct::<ValidatingWebhookConfiguration>(&self.client, &self.validating, roots, true).await;
        let told = |name: &str, result: Result<(), kube::Error>| match result {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(name, %error, "the roots of a webhook configuration cannot be kept");
                false
            }
        };
        told(&self.mutating, mutating) & told(&self.validating, validating)
    }
}

/// Corrects one configuration. One that is not installed needs nothing.
async fn correct<K>(client: &Client, name: &str, roots: &str, closed: bool) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + serde::Serialize + Clone + std::fmt::Debug,
{
    let api = Api::<K>::all(client.clone());
    let Some(before) = api.get_opt(name).await? else { return Ok(()) };
    let before = serde_json::to_value(before).map_err(kube::Error::SerdeError)?;
    let after = corrected(&before, roots, closed);
    if before == after {
        return Ok(());
    }
    // Whoever has changed it meanwhile is not written over.
    let patch =
        json!({ "metadata": { "resourceVersion": before["metadata"]["resourceVersion"] }, "webhooks": after["webhooks"] });
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    tracing::info!(name, "the roots of a webhook configuration are written");
    Ok(())
}

/// The configuration with these roots in every webhook, and with what comes closed by default when somebody answers.
fn corrected(before: &Value, roots: &str, closed: bool) -> Value {
    let mut after = before.clone();
    let bundle = serde_json::to_value(ByteString(roots.as_bytes().to_vec())).unwrap_or_default();
    for webhook in after["webhooks"].as_array_mut().into_iter().flatten() {
        webhook["clientConfig"]["caBundle"] = bundle.clone();
        if closed {
            webhook["failurePolicy"] = Value::from("Fail");
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_webhook_gets_the_roots_and_nothing_else_changes() {
        let before = json!({"webhooks": [
            {"name": "a", "failurePolicy": "Ignore", "clientConfig": {"service": {"name": "istiod"}}},
            {"name": "b", "failurePolicy": "Fail", "clientConfig": {"caBundle": "eA=="}},
        ]});
        let open = corrected(&before, "y", false);
        assert_eq!(open["webhooks"][0]["failurePolicy"], "Ignore");
        assert_eq!(open["webhooks"][0]["clientConfig"], json!({"service": {"name": "istiod"}, "caBundle": "eQ=="}));
        assert_eq!(open["webhooks"][1]["clientConfig"]["caBundle"], "eQ==");
        assert_eq!(corrected(&before, "y", true)["webhooks"][0]["failurePolicy"], "Fail");
        assert_eq!(corrected(&open, "y", false), open);
    }
}

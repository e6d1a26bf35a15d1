//! What a mesh decides about its sidecars once, for all pods.

use std::path::PathBuf;

use mutua_model::MeshConfig;

/// The audience of the tokens by which pods prove their service account (Istio's).
pub const TOKEN_AUDIENCE: &str = "istio-ca";
/// The port of metrics, readiness and rewritten probes (Istio's).
pub const STATUS_PORT: u16 = 15020;

/// The arguments of injection, the same for `mutua inject` and the webhook.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "injection")]
pub struct Settings {
    /// The revision of the control plane; its names end in it unless it is `default`
    #[arg(long, value_name = "NAME", default_value = mutua_policy::injection::DEFAULT_REVISION)]
    pub revision: String,
    /// The image of sidecar and init container
    #[arg(long, env = "MUTUA_IMAGE", value_name = "IMAGE", default_value = concat!("mutua:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// When nodes fetch it
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,
    /// A Secret of the pod's namespace by which nodes fetch it
    #[arg(long, value_name = "NAME")]
    pub image_pull_secret: Vec<String>,
    /// The sidecar as an init container with restartPolicy Always (Kubernetes 1.29 and later), which starts before and ends
    /// after all others; false: as a further container. A pod's annotation sidecar.istio.io/nativeSidecar stands above it
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub native_sidecar: bool,
    /// Whether probes of kind HTTP, TCP and gRPC go by way of the sidecar. A pod's annotation
    /// sidecar.istio.io/rewriteAppHTTPProbers stands above it
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub rewrite_app_http_probers: bool,
    /// A part of a pod (metadata and spec, YAML) that is laid over the sidecar by Kubernetes' strategic merge
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
}

/// What of the mesh configuration concerns a sidecar before it reaches the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshFacts {
    /// `trustDomain`.
    pub trust_domain: String,
    /// `rootNamespace`.
    pub root_namespace: String,
}

impl MeshFacts {
    /// Those of a mesh configuration, whose control plane is in `namespace`: that is the root namespace unless it says otherwise.
    #[must_use]
    pub fn new(config: &MeshConfig, namespace: &str) -> Self {
        let root = if config.from.is_some() { &config.root_namespace } else { namespace };
        Self { trust_domain: config.trust_domain.clone(), root_namespace: root.to_owned() }
    }
}

impl Settings {
    /// The name of what belongs to this revision: `istiod`, or `istiod-canary`.
    #[must_use]
    pub fn named(&self, name: &str) -> String {
        if self.revision == mutua_policy::injection::DEFAULT_REVISION {
            name.to_owned()
        } else {
            format!("{name}-{}", self.revision)
        }
    }

    /// Where sidecars reach the control plane in `namespace`.
    #[must_use]
    pub fn control_plane(&self, namespace: &str) -> String {
        format!("{}.{namespace}.svc:15012", self.named("istiod"))
    }
}

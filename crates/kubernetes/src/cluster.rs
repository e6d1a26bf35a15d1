//! Which cluster, and a client of its API server.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Which cluster is meant.
#[derive(clap::Args, Clone, Debug)]
pub struct Cluster {
    /// Read the mesh from a Kubernetes cluster: the one that this runs in, else that of the kubeconfig
    #[arg(long)]
    pub kubernetes: bool,
    /// The kubeconfig that names the cluster (implies --kubernetes); without it the service account of the pod, else KUBECONFIG or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig other than its current one (implies --kubernetes)
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace of the control plane, where the ConfigMap `istio` stands
    #[arg(long = "istio-namespace", env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "istio-system")]
    pub namespace: String,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The kubeconfig.
    #[error("the kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// Neither in a cluster nor with a kubeconfig.
    #[error("this runs in no pod of a cluster, and there is no kubeconfig (--kubeconfig FILE names one): {0}")]
    Nowhere(#[from] kube::config::InferConfigError),
    /// A kind is not listed.
    #[error("{plural} of the cluster cannot be listed: {source}")]
    List {
        /// Its name in paths.
        plural: &'static str,
        /// The API server's answer.
        source: kube::Error,
    },
    /// What it names cannot be used.
    #[error("the API server: {0}")]
    Client(#[from] kube::Error),
}

impl Cluster {
    /// Whether a cluster is meant at all.
    #[must_use]
    pub fn is_meant(&self) -> bool {
        self.kubernetes || self.kubeconfig.is_some() || self.context.is_some()
    }

    /// A client of its API server. Nothing is asked of it yet.
    ///
    /// # Errors
    /// The kubeconfig cannot be read, or there is none and this runs in no pod.
    pub async fn client(&self) -> Result<Client, ClusterError> {
        Ok(Client::try_from(self.config().await?)?)
    }

    async fn config(&self) -> Result<Config, ClusterError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match &self.kubeconfig {
            Some(file) => Ok(Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &options).await?),
            None if self.context.is_some() => Ok(Config::from_kubeconfig(&options).await?),
            None => match Config::incluster() {
                Ok(config) => Ok(config),
                Err(_) => Ok(Config::infer().await?),
            },
        }
    }
}

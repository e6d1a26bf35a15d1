//! The YAML of `examples/demo`, as it was when this program was built.

/// One file: its name, and what it holds.
pub(crate) type File = (&'static str, &'static str);

macro_rules! files {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../../examples/demo/", $folder, "/", $name)))),*]
    };
}

/// What stands in the folder in every step. `istio.yaml` gives way to a step's own.
pub(crate) const MESH: &[File] =
    files!("mesh": "istio.yaml", "services.yaml", "workloads.yaml", "api-server.yaml", "partner.yaml");

pub(crate) const NAMESPACE_STRICT: &[File] = files!("02-namespace-strict": "peer-authentication.yaml");
pub(crate) const MESH_STRICT: &[File] = files!("03-mesh-strict": "peer-authentication.yaml");
pub(crate) const MTLS_TO_EVERY_HOST: &[File] =
    files!("04-mtls-to-every-host": "peer-authentication.yaml", "destination-rule-every-host.yaml");
pub(crate) const API_SERVER: &[File] =
    files!("05-api-server": "peer-authentication.yaml", "destination-rule-every-host.yaml", "destination-rule.yaml");
pub(crate) const AUTO_MTLS_OFF: &[File] = files!("06-auto-mtls-off": "istio.yaml", "peer-authentication.yaml");
pub(crate) const ENABLE_MTLS: &[File] =
    files!("07-enable-mtls": "istio.yaml", "peer-authentication.yaml", "destination-rule.yaml");
pub(crate) const WORKLOAD_AND_PORT: &[File] = files!("08-workload-and-port": "peer-authentication.yaml");
pub(crate) const DISABLE_AGAINST_STRICT: &[File] =
    files!("09-disable-against-strict": "peer-authentication.yaml", "destination-rule.yaml");
pub(crate) const TLS_ORIGINATION: &[File] = files!("10-tls-origination": "destination-rule.yaml");
pub(crate) const WRONG_SERVER: &[File] = files!("11-wrong-server": "vault.yaml", "destination-rule.yaml");
pub(crate) const MINIMUM_TLS_VERSION: &[File] = files!("12-minimum-tls-version": "istio.yaml");

//! The mesh that a swarm stands for: namespaces of a hundred workloads, ten services in each, ten workloads behind each.

use std::fmt::Write;

/// Workloads of one namespace.
pub const NAMESPACE: usize = 100;
/// Workloads behind one service.
pub const SERVICE: usize = 10;

/// How many workloads, and what each of them sees.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Workloads, each with a proxy.
    pub workloads: usize,
    /// Whether a `Sidecar` of the root namespace narrows everybody to the services of the own namespace.
    pub narrowed: bool,
}

/// One workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its name, which its service account has too.
    pub name: String,
}

impl Workload {
    /// The workload of this number.
    #[must_use]
    pub fn number(number: usize) -> Self {
        Self { namespace: format!("n{}", number / NAMESPACE), name: format!("w{number}") }
    }

    /// Its identity in the trust domain `cluster.local`.
    #[must_use]
    pub fn identity(&self) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/{}", self.namespace, self.name)
    }
}

impl Layout {
    /// The files of the mesh, by name: one for each namespace, and one for the mesh.
    #[must_use]
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files: Vec<_> = (0..self.workloads.div_ceil(NAMESPACE)).map(|number| self.namespace(number)).collect();
        if self.narrowed {
            let narrow = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default, namespace: istio-system}\n\
                          spec: {egress: [{hosts: [\"./*\"]}]}\n";
            files.push(("narrow.yaml".to_owned(), narrow.to_owned()));
        }
        files
    }

    fn namespace(&self, namespace: usize) -> (String, String) {
        let mut text = String::new();
        let numbers = namespace * NAMESPACE..((namespace + 1) * NAMESPACE).min(self.workloads);
        for number in numbers.clone() {
            let _ = write!(
                text,
                "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: w{number}, namespace: n{namespace}}}\n\
                 spec: {{address: 10.{}.{}.{}, serviceAccount: w{number}, labels: {{app: s{}, version: v1, \
                 security.istio.io/tlsMode: istio}}}}\n",
                number >> 16,
                (number >> 8) & 255,
                number & 255,
                number / SERVICE,
            );
        }
        for service in numbers.step_by(SERVICE).map(|number| number / SERVICE) {
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{service}, namespace: n{namespace}}}\n\
                 spec: {{clusterIP: 172.16.{}.{}, selector: {{app: s{service}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n",
                service >> 8,
                service & 255,
            );
        }
        (format!("n{namespace}.yaml"), text)
    }
}

/// A `PeerAuthentication` of a whole mesh, or of one namespace.
#[must_use]
pub fn policy(namespace: &str, mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default, namespace: {namespace}}}\n\
         spec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

//! The label sets of Istio's standard metrics (`istio_stats` of Istio's proxy), names and order to the letter.

use std::fmt;
use std::sync::Arc;

use crate::world::Labels;

/// The labels, in Istio's order.
pub const LABELS: [&str; 23] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
];

/// Which end reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporter {
    /// The caller's sidecar.
    Source,
    /// The called workload's sidecar.
    Destination,
}

/// The service of a connection.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Its host.
    pub host: Arc<str>,
    /// Its name, or the name of a passthrough.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
}

/// Who takes part in a connection.
#[derive(Clone, Debug, Default)]
pub struct Parties {
    /// The caller.
    pub source: Labels,
    /// The called workload.
    pub destination: Labels,
    /// The caller's proved identity.
    pub source_principal: Option<String>,
    /// The called workload's proved identity.
    pub destination_principal: Option<String>,
    /// The service.
    pub service: Service,
}

/// One set of labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey([Arc<str>; LABELS.len()]);

impl SeriesKey {
    /// The labels of a TCP connection. `connection_security_policy` is `mutual_tls` or `none` where the called side
    /// reports, and always `unknown` where the caller does, as in Istio.
    #[must_use]
    pub fn new(reporter: Reporter, parties: &Parties) -> Self {
        let Parties { source, destination, service, .. } = parties;
        let principal = |id: &Option<String>| id.as_deref().map_or_else(unknown, Arc::from);
        let both = parties.source_principal.is_some() && parties.destination_principal.is_some();
        let policy = match reporter {
            Reporter::Source => "unknown",
            Reporter::Destination if both => "mutual_tls",
            Reporter::Destination => "none",
        };
        let namespace = |labels: &Labels, principal: &Option<String>| {
            let proved = principal.as_deref().and_then(|id| id.split('/').nth(4));
            proved.map_or_else(|| known(&labels.namespace), Arc::from)
        };
        let revision = |labels: &Labels| or(&labels.canonical_revision, "latest");
        let host = if reporter == Reporter::Destination && service.host.is_empty() {
            known(&destination.canonical_name)
        } else {
            known(&service.host)
        };
        Self([
            Arc::from(if reporter == Reporter::Source { "source" } else { "destination" }),
            known(&source.name),
            known(&source.canonical_name),
            revision(source),
            namespace(source, &parties.source_principal),
            principal(&parties.source_principal),
            known(&source.app),
            known(&source.version),
            known(&source.cluster),
            known(&destination.name),
            namespace(destination, &parties.destination_principal),
            principal(&parties.destination_principal),
            known(&destination.app),
            known(&destination.version),
            host,
            known(&destination.canonical_name),
            revision(destination),
            known(&service.name),
            known(&service.namespace),
            known(&destination.cluster),
            Arc::from("tcp"),
            Arc::from("-"),
            Arc::from(policy),
        ])
    }

    /// The set that stands for all that are too many: reporter and security policy stay.
    #[must_use]
    pub fn folded(&self) -> Self {
        let mut labels = std::array::from_fn(|_| unknown());
        for kept in ["reporter", "request_protocol", "response_flags", "connection_security_policy"] {
            let at = LABELS.iter().position(|name| *name == kept).expect("the label is in the list");
            labels[at] = Arc::clone(&self.0[at]);
        }
        Self(labels)
    }
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in LABELS.iter().zip(&self.0).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{name}=\"{}\"", Escaped(value))?;
        }
        Ok(())
    }
}

struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

fn unknown() -> Arc<str> {
    Arc::from("unknown")
}

fn known(text: &Arc<str>) -> Arc<str> {
    or(text, "unknown")
}

fn or(text: &Arc<str>, otherwise: &str) -> Arc<str> {
    if text.is_empty() { Arc::from(otherwise) } else { Arc::clone(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parties(source: Option<&str>, destination: Option<&str>) -> Parties {
        Parties {
            source_principal: source.map(str::to_owned),
            destination_principal: destination.map(str::to_owned),
            ..Parties::default()
        }
    }

    #[test]
    fn only_the_called_side_tells_the_security_policy() {
        let (a, b) = (Some("spiffe://td/ns/shop/sa/a"), Some("spiffe://td/ns/pay/sa/b"));
        let text = SeriesKey::new(Reporter::Destination, &parties(a, b)).to_string();
        assert!(text.ends_with("connection_security_policy=\"mutual_tls\""), "{text}");
        assert!(text.contains("source_workload_namespace=\"shop\"") && text.contains("destination_workload_namespace=\"pay\""));
        assert!(SeriesKey::new(Reporter::Source, &parties(a, b)).to_string().ends_with("=\"unknown\""));
        assert!(SeriesKey::new(Reporter::Destination, &parties(None, b)).to_string().ends_with("=\"none\""));
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(Escaped("a\"b\\c\nd").to_string(), "a\\\"b\\\\c\\nd");
    }
}

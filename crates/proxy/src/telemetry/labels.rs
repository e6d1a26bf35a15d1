//! The label sets of Istio's standard metrics (`istio_stats` of Istio's proxy), names and order to the letter.

use std::fmt;
use std::sync::Arc;

use crate::observe::{ExchangeEnd, RequestProtocol};
use crate::world::Labels;

/// The labels that tell who takes part, in Istio's order. Those of the exchange follow them ([`SeriesKey`]).
pub const PARTY_LABELS: [&str; 20] = [
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

/// The labels of the parties, and what their connections are protected by. Shared by the series of one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartyKey {
    values: [Arc<str>; PARTY_LABELS.len()],
    security: &'static str,
}

impl PartyKey {
    /// The labels of `parties`. `connection_security_policy` is `mutual_tls` or `none` where the called side reports, and
    /// always `unknown` where the caller does, as in Istio.
    #[must_use]
    pub fn new(reporter: Reporter, parties: &Parties) -> Self {
        let Parties { source, destination, service, .. } = parties;
        let principal = |id: &Option<String>| id.as_deref().map_or_else(unknown, Arc::from);
        let both = parties.source_principal.is_some() && parties.destination_principal.is_some();
        let security = match reporter {
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
        let values = [
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
        ];
        Self { values, security }
    }

    /// The set that stands for all that are too many: reporter and security policy stay.
    fn folded(&self) -> Self {
        let mut values = std::array::from_fn(|_| unknown());
        values[0] = Arc::clone(&self.values[0]);
        Self { values, security: self.security }
    }
}

/// What a series counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// TCP connections.
    Connections,
    /// Requests with one kind of answer.
    Requests {
        /// `http` or `grpc`.
        protocol: RequestProtocol,
        /// The status; 0 when there was no answer. `None` in the series of all that are too many.
        code: Option<u16>,
        /// gRPC's status.
        grpc_status: Option<i8>,
        /// How they ended.
        end: ExchangeEnd,
    },
    /// Messages of gRPC. Istio counts them without the labels of the exchange.
    Messages,
}

/// One set of labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Who takes part.
    pub parties: PartyKey,
    /// What is counted.
    pub counted: Counted,
}

impl SeriesKey {
    /// The labels of a TCP connection.
    #[must_use]
    pub fn connections(parties: PartyKey) -> Self {
        Self { parties, counted: Counted::Connections }
    }

    /// The set that stands for all that are too many.
    #[must_use]
    pub fn folded(&self) -> Self {
        let counted = match self.counted {
            Counted::Requests { protocol, .. } => {
                Counted::Requests { protocol, code: None, grpc_status: None, end: ExchangeEnd::Whole }
            }
            counted => counted,
        };
        Self { parties: self.parties.folded(), counted }
    }
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in PARTY_LABELS.iter().zip(&self.parties.values).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{name}=\"{}\"", Escaped(value))?;
        }
        let (protocol, flags) = match self.counted {
            Counted::Messages => return Ok(()),
            Counted::Connections => ("tcp", "-"),
            Counted::Requests { protocol, end, .. } => (protocol.as_str(), end.flag()),
        };
        write!(f, ",request_protocol=\"{protocol}\"")?;
        if let Counted::Requests { code, grpc_status, .. } = self.counted {
            match code {
                Some(code) => write!(f, ",response_code=\"{code}\"")?,
                None => f.write_str(",response_code=\"unknown\"")?,
            }
            match grpc_status {
                Some(status) => write!(f, ",grpc_response_status=\"{status}\"")?,
                None => f.write_str(",grpc_response_status=\"\"")?,
            }
        }
        write!(f, ",response_flags=\"{flags}\",connection_security_policy=\"{}\"", self.parties.security)
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
        let key = |reporter, parties: Parties| SeriesKey::connections(PartyKey::new(reporter, &parties)).to_string();
        let text = key(Reporter::Destination, parties(a, b));
        assert!(text.ends_with("connection_security_policy=\"mutual_tls\""), "{text}");
        assert!(text.contains("source_workload_namespace=\"shop\"") && text.contains("destination_workload_namespace=\"pay\""));
        assert!(key(Reporter::Source, parties(a, b)).ends_with("=\"unknown\""));
        assert!(key(Reporter::Destination, parties(None, b)).ends_with("=\"none\""));
    }

    #[test]
    fn the_labels_of_the_exchange_stand_in_istios_order() {
        let parties = PartyKey::new(Reporter::Destination, &parties(None, None));
        let tail = |counted| {
            let text = SeriesKey { parties: parties.clone(), counted }.to_string();
            text[text.find("destination_cluster").unwrap()..].to_owned()
        };
        let requests = |protocol, code, grpc_status, end| Counted::Requests { protocol, code, grpc_status, end };
        assert_eq!(
            tail(requests(RequestProtocol::Grpc, Some(200), Some(14), ExchangeEnd::Whole)),
            "destination_cluster=\"unknown\",request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"14\",\
             response_flags=\"-\",connection_security_policy=\"none\""
        );
        assert_eq!(
            tail(requests(RequestProtocol::Http, Some(0), None, ExchangeEnd::CallerGone)),
            "destination_cluster=\"unknown\",request_protocol=\"http\",response_code=\"0\",grpc_response_status=\"\",\
             response_flags=\"DC\",connection_security_policy=\"none\""
        );
        assert_eq!(tail(Counted::Messages), "destination_cluster=\"unknown\"");
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(Escaped("a\"b\\c\nd").to_string(), "a\\\"b\\\\c\\nd");
    }
}

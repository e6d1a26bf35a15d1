//! Every decision of a mesh, kept: what each workload accepts, and what clients send to each service port. After a change
//! only what it touches is decided again.
//!
//! What depends on single clients (rules with a workloadSelector) and single endpoints (the outcome) is computed when it
//! is asked for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use mutua_model::{AppProtocol, ClientTlsMode, Mesh};

use crate::engine::Engine;
use crate::inbound::Inbound;
use crate::peer_authentication::Scope;
use crate::rule_views::RuleViews;
use crate::workload::Workload;

/// The decisions of one snapshot.
#[derive(Clone, Debug)]
pub struct Decisions {
    engine: Engine,
    views: Arc<RuleViews>,
    /// Positions of services by namespace.
    services: Arc<HashMap<String, Vec<usize>>>,
    by_namespace: BTreeMap<Arc<str>, Arc<OfNamespace>>,
    work: Work,
}

/// How much was decided to get here from the snapshot before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Workloads whose receiving side was decided.
    pub workloads: usize,
    /// Decisions of clients for a service port.
    pub decisions: usize,
}

/// What clients of some namespaces send to a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDecision {
    /// The Service port.
    pub port: u16,
    /// What is sent.
    pub mode: ClientTlsMode,
    /// Whether auto mTLS chose it.
    pub auto: bool,
    /// The object that decided, `auto-mtls`, or empty.
    pub decided_by: String,
    /// Server name, when one is sent.
    pub sni: Option<String>,
    /// Names of which the server must show one.
    pub subject_alt_names: Arc<[String]>,
}

/// The decisions about the workloads and services of one namespace.
#[derive(Debug, Default)]
struct OfNamespace {
    /// In the order of the workloads.
    inbound: Vec<Inbound>,
    /// By position of the service.
    clients: BTreeMap<usize, Vec<View>>,
}

/// What clients that use the same rule send to a service.
#[derive(Debug)]
struct View {
    /// Empty stands for all that no view names.
    namespaces: Vec<Arc<str>>,
    ports: Vec<PortDecision>,
}

impl Decisions {
    /// Decides everything.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        let mut services: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, service) in engine.services.iter().enumerate() {
            services.entry(service.namespace.clone()).or_default().push(at);
        }
        let views = Arc::new(RuleViews::new(engine.mesh(), &engine.services));
        let (services, by_namespace) = (Arc::new(services), BTreeMap::new());
        let mut all = Self { engine, views, services, by_namespace, work: Work::default() };
        let workloads = all.engine.workloads().iter().map(|one| one.namespace.as_str());
        let namespaces: BTreeSet<&str> = workloads.chain(all.services.keys().map(String::as_str)).collect();
        let namespaces: Vec<Arc<str>> = namespaces.into_iter().map(Arc::from).collect();
        namespaces.into_iter().for_each(|namespace| all.decide(namespace));
        all
    }

    /// The decisions of the next snapshot: when nothing but PeerAuthentications differ, those about other namespaces are
    /// kept. Objects are taken for the same when the snapshots share them.
    #[must_use]
    pub fn next(&self, mesh: Arc<Mesh>) -> Self {
        let (engine, scope) = self.engine.next_with_scope(mesh);
        let Scope::Namespaces(touched) = scope else { return Self::new(engine) };
        let mut next = Self { engine, work: Work::default(), ..self.clone() };
        for namespace in touched {
            next.decide(Arc::from(namespace));
        }
        next
    }

    /// The engine, for all other questions.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What a workload accepts.
    #[must_use]
    pub fn inbound(&self, workload: &Workload) -> Option<&Inbound> {
        let range = crate::names::of_namespace(self.engine.workloads(), &workload.namespace);
        let at = self.engine.place_of(workload)?;
        self.by_namespace.get(workload.namespace.as_str())?.inbound.get(at - range.start)
    }

    /// What clients of a namespace send to a port of a service of exactly that host; of several services of that host
    /// the first counts. `None` when there is none.
    #[must_use]
    pub fn client(&self, namespace: &str, host: &str, port: u16) -> Option<&PortDecision> {
        let at = self.engine.names.of_host(host).first()?;
        let own = self.by_namespace.get(self.engine.services[*at].namespace.as_str())?;
        let views = own.clients.get(at)?;
        let named = views.iter().find(|view| view.namespaces.iter().any(|one| &**one == namespace));
        named.or_else(|| views.first())?.ports.iter().find(|one| one.port == port)
    }

    /// How much was decided to get here from the snapshot before.
    #[must_use]
    pub fn work(&self) -> Work {
        self.work
    }

    fn decide(&mut self, namespace: Arc<str>) {
        let engine = &self.engine;
        let workloads = &engine.workloads()[crate::names::of_namespace(engine.workloads(), &namespace)];
        let mut own = OfNamespace { inbound: workloads.iter().map(|one| engine.inbound(one)).collect(), ..Default::default() };
        for at in self.services.get(&*namespace).into_iter().flatten() {
            own.clients.insert(*at, views(engine, &self.views, *at));
        }
        self.work.workloads += own.inbound.len();
        self.work.decisions += own.clients.values().flatten().map(|view| view.ports.len()).sum::<usize>();
        self.by_namespace.insert(namespace, Arc::new(own));
    }
}

fn views(engine: &Engine, views: &RuleViews, at: usize) -> Vec<View> {
    let service = &engine.services[at];
    let ports = service.ports.iter().enumerate().filter(|(_, port)| port.protocol != AppProtocol::Udp);
    let ports: Vec<_> = ports.map(|(position, port)| (position, port.number)).collect();
    let decided = |rule, port: &(usize, u16)| {
        let decision = engine.decide(service, rule, *port, None);
        PortDecision {
            port: port.1,
            mode: decision.mode,
            auto: decision.auto,
            decided_by: decision.decided_by,
            sni: decision.sni,
            subject_alt_names: decision.subject_alt_names,
        }
    };
    let of = views.of(engine, at).into_iter();
    of.map(|view| View { namespaces: view.namespaces, ports: ports.iter().map(|port| decided(view.rule, port)).collect() })
        .collect()
}

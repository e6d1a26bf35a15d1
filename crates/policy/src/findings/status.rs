//! Whether workloads receive mutual TLS, as Kiali judges it for KIA0105: from policies and rules for whole scopes, not from
//! the effective mode.

use mutua_model::{ClientTlsMode, DestinationRule, Labels, MtlsMode, PeerAuthentication};

use super::index::Index;
use super::reach::Scopes;

/// Kiali's status of a scope.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Enabled,
    Partial,
    NotEnabled,
    Disabled,
}

/// What a scope's policies and wide rules say.
#[derive(Clone, Copy)]
struct Scope {
    rule: Option<ClientTlsMode>,
    /// Of the first policy that writes `mtls`; `Some(None)` when it leaves the mode unset.
    policy: Option<Option<MtlsMode>>,
}

/// Judges one namespace.
pub(super) struct Judge<'i, 'm> {
    index: &'i Index<'m>,
    namespace: &'i str,
    /// The rules that the namespace's clients see.
    rules: Vec<&'m DestinationRule>,
}

impl<'i, 'm> Judge<'i, 'm> {
    pub(super) fn new(index: &'i Index<'m>, scopes: &Scopes<'m>, namespace: &'i str) -> Self {
        let rules = index.rules.iter().copied().filter(|rule| scopes.exports(rule, namespace)).collect();
        Self { index, namespace, rules }
    }

    /// Whether workloads with these labels receive mutual TLS.
    pub(super) fn receives(&self, labels: &Labels) -> bool {
        match self.workload(labels) {
            Status::Enabled => true,
            Status::Disabled => false,
            Status::NotEnabled | Status::Partial => self.whole_namespace(),
        }
    }

    fn workload(&self, labels: &Labels) -> Status {
        let matches = |policy: &&PeerAuthentication| {
            policy.meta.namespace() == self.namespace && !policy.selector.is_empty() && covers(&policy.selector, labels)
        };
        for policy in self.index.policies.iter().copied().filter(matches) {
            match policy.mode {
                Some(MtlsMode::Strict) => return Status::Enabled,
                Some(MtlsMode::Disable) => return Status::Disabled,
                Some(MtlsMode::Permissive) => return self.by_rules(policy),
                None => {}
            }
        }
        Status::NotEnabled
    }

    /// For a PERMISSIVE policy the rules of the services whose selector it covers decide.
    fn by_rules(&self, policy: &PeerAuthentication) -> Status {
        for service in self.index.services_in(self.namespace) {
            let Some(selector) = service.selector.as_ref().filter(|selector| !selector.is_empty()) else { continue };
            if !covers(&policy.selector, selector) {
                continue;
            }
            for rule in self.rules.iter().filter(|rule| self.is_for(rule, service.meta.name())) {
                match mode(rule) {
                    Some(ClientTlsMode::IstioMutual | ClientTlsMode::Mutual) => return Status::Enabled,
                    Some(ClientTlsMode::Disable) => return Status::Disabled,
                    Some(ClientTlsMode::Simple) | None => {}
                }
            }
        }
        Status::NotEnabled
    }

    fn is_for(&self, rule: &DestinationRule, name: &str) -> bool {
        let (namespace, host) = (self.namespace, rule.host.as_str());
        let Some(rest) = host.strip_prefix(name) else { return false };
        let domain = &self.index.mesh.config.cluster_domain;
        (rest.is_empty() && rule.meta.namespace() == namespace)
            || rest == format!(".{namespace}")
            || rest == format!(".{namespace}.svc")
            || rest == format!(".{namespace}.svc.{domain}")
    }

    fn whole_namespace(&self) -> bool {
        let wide = self.index.namespace_host(self.namespace);
        let namespace = Scope { rule: self.first_rule(&wide), policy: first_mode(self.index.wide(self.namespace)) };
        let mesh = Scope { rule: self.first_rule("*.local"), policy: first_mode(self.index.mesh_policies()) };
        let auto = self.index.mesh.config.enable_auto_mtls;
        match overall(namespace, mesh, auto) {
            Status::Enabled => true,
            Status::NotEnabled => auto,
            Status::Partial | Status::Disabled => false,
        }
    }

    fn first_rule(&self, host: &str) -> Option<ClientTlsMode> {
        self.rules.iter().filter(|rule| rule.host == host).find_map(|rule| mode(rule))
    }
}

fn mode(rule: &DestinationRule) -> Option<ClientTlsMode> {
    rule.policy.as_ref()?.tls.as_ref().map(|tls| tls.mode)
}

fn first_mode(policies: &[&PeerAuthentication]) -> Option<Option<MtlsMode>> {
    policies.iter().find(|policy| policy.mode.is_some() || policy.meta.places.holds("spec/mtls")).map(|policy| policy.mode)
}

fn covers(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl Scope {
    /// Whether PERMISSIVE counts as accepting mutual TLS is Kiali's distinction: not where one half of a namespace's
    /// configuration is taken from the mesh.
    fn status(self, auto: bool, permissive: bool) -> Status {
        let sends =
            matches!(self.rule, Some(ClientTlsMode::IstioMutual | ClientTlsMode::Mutual)) || (self.rule.is_none() && auto);
        let stops = self.rule == Some(ClientTlsMode::Disable) || (self.rule.is_none() && auto);
        match self.policy {
            Some(Some(MtlsMode::Strict)) if sends => Status::Enabled,
            Some(Some(MtlsMode::Permissive)) if sends && permissive => Status::Enabled,
            Some(Some(MtlsMode::Disable)) if stops => Status::Disabled,
            None if self.rule.is_none() => Status::NotEnabled,
            _ => Status::Partial,
        }
    }
}

fn overall(namespace: Scope, mesh: Scope, auto: bool) -> Status {
    match namespace.status(auto, true) {
        Status::NotEnabled => of_mesh(mesh, auto, true),
        Status::Partial => {
            let halves = Scope { rule: namespace.rule.or(mesh.rule), policy: namespace.policy.or(mesh.policy) };
            of_mesh(halves, auto, false)
        }
        defined => defined,
    }
}

fn of_mesh(mesh: Scope, auto: bool, permissive: bool) -> Status {
    let status = mesh.status(auto, permissive);
    if status != Status::Partial {
        return status;
    }
    match (mesh.policy, mesh.rule) {
        (Some(Some(MtlsMode::Disable)), None) | (None, Some(ClientTlsMode::Disable)) => Status::Disabled,
        (None, Some(ClientTlsMode::IstioMutual | ClientTlsMode::Mutual)) if auto => Status::Enabled,
        _ => Status::Partial,
    }
}

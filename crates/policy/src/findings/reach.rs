//! Which namespaces' clients see a DestinationRule, as Kiali asks before it compares two: `exportTo`, and the hosts that
//! a namespace's `Sidecar` lets through.

use std::collections::{BTreeSet, HashMap};

use mutua_model::{DestinationRule, Mesh, Sidecar};

use crate::host;

/// Where a rule is exported to.
pub(super) struct Reach<'m> {
    everywhere: bool,
    namespaces: BTreeSet<&'m str>,
}

/// The namespaces and what their Sidecars import.
pub(super) struct Scopes<'m> {
    mesh: &'m Mesh,
    namespaces: BTreeSet<&'m str>,
    /// Egress hosts by namespace, of the Sidecars without a selector that have any.
    limits: HashMap<&'m str, Vec<&'m str>>,
}

impl<'m> Scopes<'m> {
    pub(super) fn new(mesh: &'m Mesh) -> Self {
        let mut scopes = Self { mesh, namespaces: namespaces(mesh), limits: HashMap::new() };
        let mut sidecars: Vec<&Sidecar> = mesh.sidecars.iter().map(AsRef::as_ref).collect();
        sidecars.sort_by(|a, b| a.meta.age_order().cmp(&b.meta.age_order()));
        let wide = |sidecar: &&&Sidecar| sidecar.workload_selector.as_ref().is_none_or(std::collections::BTreeMap::is_empty);
        for sidecar in sidecars.iter().filter(wide) {
            let hosts = sidecar.egress.iter().flatten().flat_map(|listener| &listener.hosts).map(String::as_str).collect();
            scopes.limits.entry(sidecar.meta.namespace()).or_insert(hosts);
        }
        scopes
    }

    /// Every namespace that some object is in or is about.
    pub(super) fn namespaces(&self) -> &BTreeSet<&'m str> {
        &self.namespaces
    }

    pub(super) fn reach(&self, rule: &'m DestinationRule) -> Reach<'m> {
        let defaults = &self.mesh.config.default_destination_rule_export_to;
        let listed = if rule.export_to.is_empty() { defaults } else { &rule.export_to };
        let own = rule.meta.namespace();
        let everywhere = listed.is_empty() || listed.iter().any(|to| to == "*");
        let namespaces = listed.iter().map(|to| if to == "." { own } else { to.as_str() }).collect();
        Reach { everywhere, namespaces }
    }

    /// Whether clients of a namespace see a rule.
    pub(super) fn sees(&self, namespace: &str, rule: (&DestinationRule, &Reach<'_>)) -> bool {
        let exported = rule.1.everywhere || rule.1.namespaces.contains(namespace);
        exported && self.imports(namespace, rule.0)
    }

    /// Whether clients of some namespace see both rules.
    pub(super) fn meet(&self, a: (&DestinationRule, &Reach<'m>), b: (&DestinationRule, &Reach<'m>)) -> bool {
        let limited = !self.limits.is_empty();
        let both = |namespace: &&&str| !limited || (self.imports(namespace, a.0) && self.imports(namespace, b.0));
        match (a.1.everywhere, b.1.everywhere) {
            (true, true) if !limited => true,
            (true, true) => self.namespaces.iter().any(|namespace| both(&namespace)),
            (true, false) => b.1.namespaces.iter().any(|namespace| both(&namespace)),
            (false, true) => a.1.namespaces.iter().any(|namespace| both(&namespace)),
            (false, false) => a.1.namespaces.intersection(&b.1.namespaces).any(|namespace| both(&namespace)),
        }
    }

    fn imports(&self, namespace: &str, rule: &DestinationRule) -> bool {
        let limit = self.limits.get(namespace).or_else(|| self.limits.get(self.mesh.config.root_namespace.as_str()));
        let Some(limit) = limit.filter(|hosts| !hosts.is_empty()) else { return true };
        let name = self.full_host(&rule.host, rule.meta.namespace());
        limit.iter().any(|pattern| {
            let Some((scope, pattern)) = pattern.split_once('/') else { return false };
            let scope = if scope == "." { namespace } else { scope };
            let owner = self.namespace_of(&name).unwrap_or_else(|| rule.meta.namespace());
            (scope == "*" || scope == owner) && (host::covers(pattern, &name) || host::covers(&name, pattern))
        })
    }

    /// A rule's host in full, as Kiali reads it: `name`, `name.namespace` and `name.namespace.svc` are services.
    pub(super) fn full_host(&self, written: &str, namespace: &str) -> String {
        let domain = &self.mesh.config.cluster_domain;
        let parts: Vec<&str> = written.split('.').collect();
        match parts[..] {
            [name] => format!("{name}.{namespace}.svc.{domain}"),
            [name, other] if other == namespace || self.namespaces.contains(other) => format!("{name}.{other}.svc.{domain}"),
            [name, other, "svc"] => format!("{name}.{other}.svc.{domain}"),
            _ => written.to_owned(),
        }
    }

    /// The namespace in a service's full name.
    pub(super) fn namespace_of<'h>(&self, full: &'h str) -> Option<&'h str> {
        let (_, rest) = full.split_once('.')?;
        let (namespace, rest) = rest.split_once('.')?;
        (rest.strip_prefix("svc.") == Some(&self.mesh.config.cluster_domain)).then_some(namespace)
    }
}

fn namespaces(mesh: &Mesh) -> BTreeSet<&str> {
    let config = std::iter::once(mesh.config.root_namespace.as_str());
    let metas = (mesh.services.iter().map(|one| &one.meta))
        .chain(mesh.pods.iter().map(|one| &one.meta))
        .chain(mesh.controllers.iter().map(|one| &one.meta))
        .chain(mesh.workload_entries.iter().map(|one| &one.meta))
        .chain(mesh.service_entries.iter().map(|one| &one.meta))
        .chain(mesh.destination_rules.iter().map(|one| &one.meta))
        .chain(mesh.peer_authentications.iter().map(|one| &one.meta))
        .chain(mesh.sidecars.iter().map(|one| &one.meta))
        .chain(mesh.service_accounts.iter().map(AsRef::as_ref))
        .chain(mesh.unenforced.iter().map(|one| &one.meta));
    let written = mesh.namespaces.iter().map(|one| one.meta.name());
    config.chain(metas.map(mutua_model::Meta::namespace)).chain(written).collect()
}

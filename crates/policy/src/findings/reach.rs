//! Which namespaces' clients see a DestinationRule, as Kiali asks before it compares two: `exportTo`, and the hosts that
//! a namespace's `Sidecar` lets through.

use std::collections::{BTreeSet, HashMap};

use mutua_model::{DestinationRule, Mesh, Sidecar};

/// Where a rule is exported to.
pub(super) struct Reach<'m> {
    everywhere: bool,
    namespaces: BTreeSet<&'m str>,
}

/// One host of a Sidecar's egress, as Kiali reads it.
struct Import<'m> {
    /// `~` before the namespace: the hosts are left out.
    excluded: bool,
    /// `*` for any.
    namespace: &'m str,
    host: &'m str,
}

/// The namespaces and what their Sidecars import.
pub(super) struct Scopes<'m> {
    mesh: &'m Mesh,
    namespaces: BTreeSet<&'m str>,
    /// By namespace, of the first Sidecar without a selector.
    imports: HashMap<&'m str, Vec<Import<'m>>>,
}

impl<'m> Scopes<'m> {
    pub(super) fn new(mesh: &'m Mesh) -> Self {
        let mut scopes = Self { mesh, namespaces: namespaces(mesh), imports: HashMap::new() };
        let mut sidecars: Vec<&Sidecar> = mesh.sidecars.iter().map(AsRef::as_ref).collect();
        sidecars.sort_by(|a, b| a.meta.age_order().cmp(&b.meta.age_order()));
        let wide = |sidecar: &&&Sidecar| sidecar.workload_selector.as_ref().is_none_or(std::collections::BTreeMap::is_empty);
        for sidecar in sidecars.iter().filter(wide) {
            let hosts = sidecar.egress.iter().flatten().flat_map(|listener| &listener.hosts);
            scopes.imports.entry(sidecar.meta.namespace()).or_insert_with(|| hosts.filter_map(|host| import(host)).collect());
        }
        scopes
    }

    /// Every namespace that some object is in or is about.
    pub(super) fn namespaces(&self) -> &BTreeSet<&'m str> {
        &self.namespaces
    }

    /// A rule that is exported to a namespace which does not exist counts as exported to all.
    pub(super) fn reach(&self, rule: &'m DestinationRule) -> Reach<'m> {
        let defaults = &self.mesh.config.default_destination_rule_export_to;
        let listed = if rule.export_to.is_empty() { defaults } else { &rule.export_to };
        let namespaces: BTreeSet<&str> =
            listed.iter().map(|to| if to == "." { rule.meta.namespace() } else { to.as_str() }).collect();
        let everywhere = listed.is_empty() || !namespaces.is_subset(&self.namespaces);
        Reach { everywhere, namespaces }
    }

    /// Whether a rule is exported to a namespace.
    pub(super) fn exports(&self, rule: &'m DestinationRule, namespace: &str) -> bool {
        let reach = self.reach(rule);
        reach.everywhere || reach.namespaces.contains(namespace)
    }

    /// Whether clients of some namespace see both rules.
    pub(super) fn meet(&self, a: (&DestinationRule, &Reach<'m>), b: (&DestinationRule, &Reach<'m>)) -> bool {
        let limited = !self.imports.is_empty();
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
        let root = self.mesh.config.root_namespace.as_str();
        let list = self.imports.get(namespace).or_else(|| self.imports.get(root));
        let Some(list) = list.filter(|list| !list.is_empty()) else { return true };
        let name = self.full_host(&rule.host, rule.meta.namespace());
        let owner = self.namespace_of(&name).unwrap_or_else(|| rule.meta.namespace());
        let fits = |import: &Import<'_>| {
            let scope = if import.namespace == "." { namespace } else { import.namespace };
            (scope == "*" || scope == owner) && self.names(import.host, &rule.host, &name)
        };
        list.iter().any(|import| !import.excluded && fits(import)) && !list.iter().any(|import| import.excluded && fits(import))
    }

    /// Whether an egress host stands for a rule's, as it is written and in full.
    fn names(&self, egress: &str, written: &str, full: &str) -> bool {
        if egress == "*" || egress == written || egress == full || within(full, egress) {
            return true;
        }
        if self.namespace_of(full).is_none() {
            return false;
        }
        let mut parts = full.splitn(3, '.');
        let (name, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        egress == name
            || egress.split_once('.') == Some((name, namespace))
            || within(written, egress)
            || (name.starts_with('*') && within(egress, full))
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

/// An egress host; `None` when it is none.
fn import(written: &str) -> Option<Import<'_>> {
    let (namespace, host) = written.split_once('/')?;
    let left_out = namespace.strip_prefix('~');
    let namespace = left_out.map_or(namespace, |rest| if rest.is_empty() { "*" } else { rest });
    Some(Import { excluded: left_out.is_some(), namespace, host })
}

/// Whether a host, or a wildcard for hosts, lies below a wildcard.
fn within(host: &str, wildcard: &str) -> bool {
    wildcard == "*" || wildcard.strip_prefix('*').is_some_and(|suffix| suffix.starts_with('.') && host.ends_with(suffix))
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

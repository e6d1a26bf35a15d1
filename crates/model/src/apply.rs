//! A mesh with more objects applied, as `kubectl apply` would: what has the same kind, namespace and name is replaced.

use crate::list::List;
use crate::{
    Authorities, AuthorizationPolicy, Controller, DestinationRule, EndpointSlice, Mesh, Meta, Namespace, ObjectRef,
    PeerAuthentication, Pod, Secret, Service, ServiceEntry, Sidecar, Unenforced, WorkloadEntry,
};
use std::collections::HashSet;

impl Mesh {
    /// Applies the objects of another mesh, and its mesh configuration if an object there holds one.
    pub fn apply(&mut self, more: Self) {
        // Every list by name, so that a new one cannot be forgotten here.
        let Self {
            config,
            namespaces,
            service_accounts,
            secrets,
            authorities,
            services,
            endpoint_slices,
            service_entries,
            pods,
            controllers,
            workload_entries,
            peer_authentications,
            destination_rules,
            sidecars,
            authorization_policies,
            unenforced,
            passed_over,
        } = more;
        if config.from.is_some() {
            self.config = config;
        }
        replace(&mut self.namespaces, &namespaces);
        replace(&mut self.service_accounts, &service_accounts);
        replace(&mut self.secrets, &secrets);
        replace(&mut self.authorities, &authorities);
        replace(&mut self.services, &services);
        replace(&mut self.endpoint_slices, &endpoint_slices);
        replace(&mut self.service_entries, &service_entries);
        replace(&mut self.pods, &pods);
        replace(&mut self.controllers, &controllers);
        replace(&mut self.workload_entries, &workload_entries);
        replace(&mut self.peer_authentications, &peer_authentications);
        replace(&mut self.destination_rules, &destination_rules);
        replace(&mut self.sidecars, &sidecars);
        replace(&mut self.authorization_policies, &authorization_policies);
        replace(&mut self.unenforced, &unenforced);
        self.passed_over += passed_over;
    }
}

fn replace<T: Object>(list: &mut List<T>, more: &List<T>) {
    if more.is_empty() {
        return;
    }
    let named: HashSet<&ObjectRef> = more.iter().map(|one| &one.meta().object).collect();
    list.retain(|one| !named.contains(&one.meta().object));
    list.extend(more.iter().cloned());
}

/// What has metadata.
trait Object {
    fn meta(&self) -> &Meta;
}

impl Object for Meta {
    fn meta(&self) -> &Meta {
        self
    }
}

macro_rules! objects {
    ($($kind:ty),*) => { $(impl Object for $kind { fn meta(&self) -> &Meta { &self.meta } })* };
}

objects!(
    Authorities,
    Namespace,
    Service,
    EndpointSlice,
    ServiceEntry,
    Pod,
    Controller,
    WorkloadEntry,
    PeerAuthentication,
    DestinationRule,
    Secret,
    Sidecar,
    AuthorizationPolicy,
    Unenforced
);

#[cfg(test)]
mod tests {
    use crate::MtlsMode;
    use crate::read::Inputs;

    fn mesh(text: &str) -> crate::Mesh {
        Inputs::from_texts([("a.yaml", text)]).load().expect("readable").mesh
    }

    fn policy(name: &str, mode: &str) -> String {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: bar}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        )
    }

    #[test]
    fn the_same_object_is_replaced_and_others_are_added() {
        let mut one = mesh(&policy("a", "STRICT"));
        one.apply(mesh(&(policy("a", "DISABLE") + &policy("b", "STRICT"))));
        let mut modes: Vec<_> = one.peer_authentications.iter().map(|one| (one.meta.name(), one.mode)).collect();
        modes.sort();
        assert_eq!(modes, [("a", Some(MtlsMode::Disable)), ("b", Some(MtlsMode::Strict))]);
    }

    #[test]
    fn the_mesh_config_changes_only_when_an_object_holds_one() {
        let istio = "apiVersion: sailoperator.io/v1\nkind: Istio\nmetadata: {name: default}\nspec: {namespace: istio-system, version: v1.27.0, values: {meshConfig: {enableAutoMtls: false}}}\n";
        let mut one = mesh(istio);
        one.apply(mesh(&policy("a", "STRICT")));
        assert!(!one.config.enable_auto_mtls);
        let mut two = mesh(&policy("a", "STRICT"));
        two.apply(mesh(istio));
        assert!(!two.config.enable_auto_mtls);
    }
}

//! `discoverySelectors`: which namespaces the mesh looks at. Everything in the others counts as if it was not there
//! (Istio's `pkg/kube/namespace/filter.go`); the namespace of the control plane is no exception.

use std::collections::HashSet;
use std::sync::Arc;

use crate::list::List;
use crate::{Labels, Mesh, Meta};

/// A selector of labels, as Kubernetes knows it: all of it has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `matchLabels`.
    pub labels: Labels,
    /// `matchExpressions`.
    pub expressions: Vec<Expression>,
}

/// One of `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// The label.
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
    /// The values that `In` and `NotIn` compare with.
    pub values: Vec<String>,
}

/// What an expression asks of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Operator {
    /// The operator of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "In" => Some(Self::In),
            "NotIn" => Some(Self::NotIn),
            "Exists" => Some(Self::Exists),
            "DoesNotExist" => Some(Self::DoesNotExist),
            _ => None,
        }
    }
}

impl LabelSelector {
    /// Whether it holds for these labels.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        let holds = |expression: &Expression| {
            let value = labels.get(&expression.key);
            match expression.operator {
                Operator::In => value.is_some_and(|value| expression.values.contains(value)),
                Operator::NotIn => value.is_none_or(|value| !expression.values.contains(value)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        };
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value)) && self.expressions.iter().all(holds)
    }
}

impl Mesh {
    /// Leaves out what stands in namespaces that `discoverySelectors` do not select. Returns whether the root namespace is
    /// among what is left.
    pub(crate) fn discover(&mut self) -> bool {
        let selectors = std::mem::take(&mut self.config.discovery_selectors);
        if selectors.is_empty() {
            return true;
        }
        let none = Labels::new();
        let chosen = |labels: &Labels| selectors.iter().any(|selector| selector.matches(labels));
        let given = self.namespaces.iter().map(|namespace| (namespace.meta.name().to_owned(), chosen(&namespace.meta.labels)));
        let (yes, no): (Vec<_>, Vec<_>) = given.partition(|(_, chosen)| *chosen);
        let of = |list: Vec<(String, bool)>| list.into_iter().map(|(name, _)| name).collect::<HashSet<_>>();
        let (yes, no) = (of(yes), of(no));
        // A namespace that is only mentioned has no labels.
        let unlabelled = chosen(&none);
        let seen = |namespace: &str| yes.contains(namespace) || (unlabelled && !no.contains(namespace));
        self.namespaces.retain(|namespace| seen(namespace.meta.name()));
        keep(&mut self.service_accounts, |one| one, &seen);
        keep(&mut self.services, |one| &one.meta, &seen);
        keep(&mut self.endpoint_slices, |one| &one.meta, &seen);
        keep(&mut self.service_entries, |one| &one.meta, &seen);
        keep(&mut self.pods, |one| &one.meta, &seen);
        keep(&mut self.controllers, |one| &one.meta, &seen);
        keep(&mut self.workload_entries, |one| &one.meta, &seen);
        keep(&mut self.peer_authentications, |one| &one.meta, &seen);
        keep(&mut self.destination_rules, |one| &one.meta, &seen);
        keep(&mut self.secrets, |one| &one.meta, &seen);
        keep(&mut self.authorities, |one| &one.meta, &seen);
        keep(&mut self.sidecars, |one| &one.meta, &seen);
        keep(&mut self.authorization_policies, |one| &one.meta, &seen);
        keep(&mut self.unenforced, |one| &one.meta, &seen);
        let root = seen(&self.config.root_namespace);
        self.config.discovery_selectors = selectors;
        root
    }
}

fn keep<T>(list: &mut List<T>, meta: impl Fn(&T) -> &Meta, seen: &impl Fn(&str) -> bool) {
    if list.iter().any(|one: &Arc<T>| !seen(meta(one).namespace())) {
        list.retain(|one| seen(meta(one).namespace()));
    }
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;

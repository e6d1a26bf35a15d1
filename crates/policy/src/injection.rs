//! Which pods get a sidecar: as the API server's webhook selectors and the injector decide it together.
//!
//! [`asked`] is what the selectors of the webhook configurations say, [`required`] what the injector itself says of a pod
//! that it is asked about (Istio's `injectRequired`).

use mutua_model::{Controller, Labels};

/// Namespaces in which nothing is ever injected (`injectRequired`).
pub const SYSTEM: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
/// Label and annotation of a pod.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// Label of a pod or namespace.
pub const REVISION: &str = "istio.io/rev";
/// Label of a namespace.
pub const NAMESPACE: &str = "istio-injection";
/// The revision of a control plane that has no name.
pub const DEFAULT_REVISION: &str = "default";

/// What a pod, or the template of one, says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    /// The namespace it runs in.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
    /// Its annotations.
    pub annotations: &'a Labels,
    /// `spec.hostNetwork`.
    pub host_network: bool,
}

/// Why a pod gets no sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotInjected {
    /// `hostNetwork: true`: capture rules would be the node's.
    HostNetwork,
    /// A namespace of the system.
    System,
    /// The pod's own label or annotation says `false`.
    PodSaysNo,
    /// Neither the namespace's labels nor the pod's ask for one, or they ask another revision.
    NotAsked,
}

impl NotInjected {
    /// In words that follow "no sidecar:".
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::HostNetwork => "it uses the node's network (hostNetwork)",
            Self::System => "nothing is injected in namespaces of the system",
            Self::PodSaysNo => "its label or annotation sidecar.istio.io/inject is false",
            Self::NotAsked => "neither its namespace nor itself asks this control plane for one",
        }
    }
}

/// Whether the pods of `controller` get a sidecar, given the labels of its namespace, of whichever revision.
pub(crate) fn injected(controller: &Controller, namespace_labels: &Labels) -> bool {
    let template = Template {
        namespace: controller.meta.namespace(),
        labels: &controller.labels,
        annotations: &controller.annotations,
        host_network: controller.spec.host_network,
    };
    decide(&template, namespace_labels, None).is_ok()
}

/// Whether a pod gets a sidecar from the control plane of `revision` (`None`: of any).
///
/// # Errors
/// Why not.
pub fn decide(template: &Template<'_>, namespace: &Labels, revision: Option<&str>) -> Result<(), NotInjected> {
    required(template)?;
    if asked(template.labels, namespace, revision) { Ok(()) } else { Err(NotInjected::NotAsked) }
}

/// Whether the injector injects a pod that it is asked about: values of the label or annotation other than `true` and
/// `false` count as unset.
///
/// # Errors
/// Why not.
pub fn required(template: &Template<'_>) -> Result<(), NotInjected> {
    // The label stands before the annotation.
    let said = template.labels.get(INJECT).or_else(|| template.annotations.get(INJECT));
    if template.host_network {
        Err(NotInjected::HostNetwork)
    } else if is_system(template.namespace) {
        Err(NotInjected::System)
    } else if said.is_some_and(|value| value == "false") {
        Err(NotInjected::PodSaysNo)
    } else {
        Ok(())
    }
}

/// Whether nothing is ever injected in a namespace.
#[must_use]
pub fn is_system(namespace: &str) -> bool {
    SYSTEM.contains(&namespace)
}

/// Whether a namespace's labels ask for sidecars.
pub(crate) fn is_asked_for(namespace: &Labels) -> bool {
    namespace.get(NAMESPACE).map_or_else(|| namespace.contains_key(REVISION), |injection| injection == "enabled")
}

/// Whether a webhook's selectors match: by the namespace's labels, else by the pod's.
fn asked(pod: &Labels, namespace: &Labels, revision: Option<&str>) -> bool {
    let label = pod.get(INJECT).map(String::as_str);
    let default = revision.is_none_or(|revision| revision == DEFAULT_REVISION);
    let ours = |asked: &String| revision.is_none_or(|revision| asked == revision);
    if let Some(injection) = namespace.get(NAMESPACE) {
        return default && injection == "enabled" && label != Some("false");
    }
    if let Some(asked) = namespace.get(REVISION) {
        return ours(asked) && label != Some("false");
    }
    match pod.get(REVISION) {
        Some(asked) => ours(asked) && label != Some("false"),
        None => default && label == Some("true"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// The table of semantics §7.1, for a control plane without a name, for one named canary, and for any.
    #[test]
    fn namespaces_and_pods_ask_the_control_plane_of_their_revision() {
        let (enabled, disabled) = ((NAMESPACE, "enabled"), (NAMESPACE, "disabled"));
        let (canary, yes, no) = ((REVISION, "canary"), (INJECT, "true"), (INJECT, "false"));
        let cases: &[(&[_], &[_], [bool; 3])] = &[
            (&[], &[], [false, false, false]),
            (&[enabled], &[], [true, false, true]),
            (&[enabled, canary], &[], [true, false, true]),
            (&[enabled], &[canary], [true, false, true]),
            (&[enabled], &[no], [false, false, false]),
            (&[disabled], &[yes], [false, false, false]),
            (&[disabled, canary], &[yes], [false, false, false]),
            (&[canary], &[], [false, true, true]),
            (&[canary], &[no], [false, false, false]),
            (&[], &[canary], [false, true, true]),
            (&[], &[canary, no], [false, false, false]),
            (&[], &[yes], [true, false, true]),
            (&[], &[yes, canary], [false, true, true]),
            (&[], &[(INJECT, "yes")], [false, false, false]),
            (&[enabled], &[(INJECT, "yes")], [true, false, true]),
            (&[(REVISION, "default")], &[], [true, false, true]),
        ];
        for (namespace, pod, expected) in cases {
            let (namespace, pod, none) = (labels(namespace), labels(pod), Labels::new());
            let template = Template { namespace: "shop", labels: &pod, annotations: &none, host_network: false };
            let answers = [Some("default"), Some("canary"), None].map(|revision| decide(&template, &namespace, revision).is_ok());
            assert_eq!(answers, *expected, "{namespace:?} {pod:?}");
        }
    }

    #[test]
    fn the_pod_itself_and_the_system_come_first() {
        let (none, asked) = (Labels::new(), labels(&[(NAMESPACE, "enabled")]));
        let (no, yes) = (labels(&[(INJECT, "false")]), labels(&[(INJECT, "true")]));
        let plain = Template { namespace: "shop", labels: &none, annotations: &none, host_network: false };
        let of = |template: Template<'_>| decide(&template, &asked, Some("default"));
        assert_eq!(of(plain), Ok(()));
        assert_eq!(of(Template { host_network: true, labels: &yes, ..plain }), Err(NotInjected::HostNetwork));
        assert_eq!(of(Template { namespace: "kube-system", ..plain }), Err(NotInjected::System));
        assert_eq!(of(Template { annotations: &no, ..plain }), Err(NotInjected::PodSaysNo));
        assert_eq!(of(Template { annotations: &no, labels: &yes, ..plain }), Ok(()), "the label stands before the annotation");
        assert_eq!(decide(&plain, &none, Some("default")), Err(NotInjected::NotAsked));
    }
}

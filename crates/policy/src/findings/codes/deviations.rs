//! Where a code of Kiali or istioctl is raised otherwise than there, on purpose. Everything else was compared over generated
//! configurations and is the same.

/// A section of `docs/findings.md`.
pub(super) const TEXT: &str = "
## Where Kiali and istioctl differ

KIA and IST codes are raised as Kiali and istioctl raise them, with these deliberate exceptions.

- All: files show controllers where a cluster shows pods, so a template counts as a pod. Namespaces without an injection
  label are checked too. Hosts for a whole namespace or mesh end in the cluster's domain, which Kiali takes for the trust domain.
- KIA0002 of Sidecars: raised also in a namespace without workloads.
- KIA0107: an object is of another cluster by its label `topology.istio.io/cluster`. The severity, `unknown` in Kiali, is info.
- KIA0205 to KIA0208: a rule that is not exported to its own namespace is judged too; other namespaces use it.
- IST0101: a namespace exists when any object is in it, not only when its Namespace is given. Of Sidecars it is not raised
  when the input has no workload at all, and a WorkloadEntry counts as a workload.
- IST0106: what a CustomResourceDefinition refuses counts too, which istioctl leaves to the API server, and a misspelt kind or
  API version of Istio. istioctl stops at a value that an enumeration does not have; here the finding says so and the rest is
  looked at.
- IST0127: a WorkloadEntry counts as a workload. A policy with `targetRefs` is not looked at.
- IST0129: not raised for port 0, which nothing uses; IST0133 says so.
- IST0133: raised for every warning of `mutua validate`, of which Istio does not have some: in `portLevelSettings` it drops its
  own warnings.
- IST0173: a WorkloadEntry counts as a workload. A wildcard host is looked at too. Where only a workload outside of the service
  has the labels it is MUT0032. A subset without labels selects everything, also where there is no workload.
- IST0174: not raised for wildcards (`*.local` is for every service), addresses and the API server's host
  (`kubernetes.default`), nor when the input has no service at all. Who may see the service does not count.
";

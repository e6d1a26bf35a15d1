//! Kiali's codes, where it has the same check.

use mutua_model::Severity::{Error, Info, Warning};

use super::{Code, code};

pub(super) const CODES: &[Code] = &[
    code(
        "KIA0002",
        Error,
        "More than one policy without selector in a namespace",
        "Only the oldest PeerAuthentication without selector counts in a namespace; the others do nothing.",
        "Keep one.",
    ),
    code(
        "KIA0003",
        Error,
        "More than one policy selects a workload",
        "Two or more PeerAuthentications of a namespace select one workload; the oldest wins whole, nothing is merged.",
        "Make the selectors exclude each other, or merge the policies.",
    ),
    code(
        "KIA0004",
        Warning,
        "The selector matches no workload",
        "No workload of the namespace has the selector's labels.",
        "Correct the labels.",
    ),
    code(
        "KIA0105",
        Error,
        "The field needs mutual TLS",
        "An AuthorizationPolicy compares principals, namespaces or SNI, and by the policies and rules for their scope its workloads do not receive mutual TLS, so the comparison fails.",
        "Make the workloads STRICT, and their clients send mutual TLS.",
    ),
    code(
        "KIA0106",
        Error,
        "The principal does not exist",
        "No workload and no ServiceAccount has the identity that an AuthorizationPolicy names.",
        "Write TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT of an account that exists.",
    ),
    code(
        "KIA0107",
        Info,
        "The principal is of another cluster only",
        "The account that an AuthorizationPolicy names is known only from objects that the label topology.istio.io/cluster places on another cluster than this one (global.multiCluster.clusterName). Kiali calls the severity `unknown`.",
        "See to it that the clusters share their root; or create the account here.",
    ),
    code(
        "KIA0108",
        Warning,
        "The principal's trust domain is unknown",
        "It is neither the mesh's trust domain nor one of its aliases, so nothing is known of its accounts.",
        "Correct it, or add the domain to trustDomainAliases.",
    ),
    code(
        "KIA0201",
        Warning,
        "Several rules for one host and subset",
        "More than one DestinationRule that some client sees is for the same host, with the same subset or none. Rules of one namespace are merged, of different namespaces never.",
        "Merge them, or give them different hosts or subsets.",
    ),
    code(
        "KIA0204",
        Warning,
        "A rule without tls takes a wider rule's place",
        "Another rule sets ISTIO_MUTUAL for the same host, its namespace or the mesh. Clients that use this rule do not get that setting.",
        "Repeat the tls settings in this rule.",
    ),
    code(
        "KIA0205",
        Error,
        "Mesh-wide ISTIO_MUTUAL rule without a mesh-wide policy",
        "Automatic mTLS is off, a rule for *.local sends mutual TLS, and no mesh-wide PeerAuthentication is STRICT or PERMISSIVE.",
        "Add a mesh-wide PeerAuthentication.",
    ),
    code(
        "KIA0206",
        Error,
        "Namespace-wide ISTIO_MUTUAL rule without a policy",
        "Automatic mTLS is off, a rule for the whole namespace sends mutual TLS, and neither namespace nor mesh is STRICT or PERMISSIVE.",
        "Add a PeerAuthentication to the namespace.",
    ),
    code(
        "KIA0207",
        Error,
        "Namespace-wide DISABLE rule under a STRICT namespace",
        "Clients send plaintext that the namespace's STRICT policy refuses.",
        "Set the rule's mode to ISTIO_MUTUAL or remove its tls.",
    ),
    code(
        "KIA0208",
        Error,
        "Wide DISABLE rule under a STRICT mesh",
        "Clients send plaintext that the mesh's STRICT policy refuses.",
        "Set the rule's mode to ISTIO_MUTUAL or remove its tls.",
    ),
    code(
        "KIA0401",
        Error,
        "STRICT mesh without a rule that sends mutual TLS",
        "Automatic mTLS is off and no rule for *.local has mode ISTIO_MUTUAL.",
        "Add the rule, or turn automatic mTLS on.",
    ),
    code(
        "KIA0501",
        Error,
        "STRICT namespace without a rule that sends mutual TLS",
        "Automatic mTLS is off and no rule for the namespace or *.local has mode ISTIO_MUTUAL.",
        "Add the rule, or turn automatic mTLS on.",
    ),
    code(
        "KIA0505",
        Error,
        "DISABLE namespace under a rule that sends TLS",
        "Clients send TLS to workloads that do not terminate it.",
        "Change the rule or the policy.",
    ),
    code(
        "KIA0506",
        Error,
        "DISABLE mesh under a rule that sends TLS",
        "Clients send TLS to workloads that do not terminate it.",
        "Change the rule or the policy.",
    ),
    code(
        "KIA1301",
        Warning,
        "No AuthorizationPolicy covers a workload",
        "Mutual TLS tells who calls; nothing tells who may. Off unless asked for with `--include KIA1301`, as Kiali ignores it by default.",
        "Write an AuthorizationPolicy for the workload or its namespace.",
    )
    .only_when_asked(),
];

//! istioctl's codes, where it has the same check.

use mutua_model::Severity::{Error, Warning};

use super::{Code, code};

pub(super) const CODES: &[Code] = &[
    code(
        "IST0101",
        Error,
        "Something that is named does not exist",
        "An AuthorizationPolicy compares with a namespace that nothing of the input is in, or a Sidecar selects labels that no workload of its namespace has.",
        "Correct the name, or the labels.",
    ),
    code(
        "IST0106",
        Error,
        "The resource is invalid",
        "Istio's schema or its rules for one resource refuse it; the message is Istio's own where it has one. A kind or API version of Istio that is misspelt counts too: its author believes that it is in force.",
        "Correct the field; `mutua validate` shows the line.",
    ),
    code(
        "IST0127",
        Warning,
        "The selector matches no workload",
        "No workload of the mesh has the labels that the AuthorizationPolicy selects, or it is for a whole namespace that has none, so it protects nothing.",
        "Correct the labels.",
    ),
    code(
        "IST0128",
        Warning,
        "The server's certificate is not verified",
        "A destination-level tls of mode SIMPLE or MUTUAL has no caCertificates, and no credentialName together with a workloadSelector.",
        "Set caCertificates to the file with the server's roots.",
    ),
    code(
        "IST0129",
        Warning,
        "The server's certificate is not verified on a port",
        "The same as IST0128, in an entry of portLevelSettings.",
        "Set caCertificates in that entry.",
    ),
    code(
        "IST0133",
        Warning,
        "Accepted, but probably not what was meant",
        "Istio accepts the resource with a warning: a selector without labels that selects everything, an unknown cipher suite, a field that does nothing.",
        "Write what is meant, or remove the field.",
    ),
    code(
        "IST0173",
        Error,
        "A subset selects no workload",
        "No workload has the subset's labels: requests to the subset fail.",
        "Correct the labels, or remove the subset.",
    ),
    code(
        "IST0174",
        Warning,
        "The rule's host is no service",
        "No Service and no ServiceEntry that the rule could be for has this host. A name without dots belongs to the rule's own namespace; `name.namespace` is not completed.",
        "Write the full name, like reviews.shop.svc.cluster.local.",
    ),
];

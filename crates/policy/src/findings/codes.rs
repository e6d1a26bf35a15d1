//! The one table of finding codes. `docs/findings.md` is made from it.

use std::fmt::Write;

use mutua_model::Severity::{self, Error, Warning};

/// What a code means.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The code: Kiali's (KIA), istioctl's (IST) or our own (MUT).
    pub code: &'static str,
    /// Its severity.
    pub severity: Severity,
    /// One line.
    pub title: &'static str,
    /// When it is raised, and why it matters.
    pub explanation: &'static str,
    /// What to do.
    pub advice: &'static str,
}

const fn code(
    code: &'static str,
    severity: Severity,
    title: &'static str,
    explanation: &'static str,
    advice: &'static str,
) -> Code {
    Code { code, severity, title, explanation, advice }
}

/// Every code that is raised, in order.
pub const CODES: &[Code] = &[
    code(
        "IST0106",
        Error,
        "The resource is invalid",
        "Istio's schema or its rules for one resource refuse it; the message is Istio's own where it has one.",
        "Correct the field; `mutua validate` shows the line.",
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
        "MUT0001",
        Error,
        "credentialName without workloadSelector sends plaintext",
        "A sidecar drops the TLS settings of a SIMPLE or MUTUAL rule whose credentialName comes without a workloadSelector, and sends plaintext.",
        "Add a workloadSelector, or name files instead.",
    ),
    code(
        "MUT0002",
        Error,
        "A selector in the root namespace is ignored",
        "A PeerAuthentication with a selector has no effect anywhere when it lives in the root namespace.",
        "Move it to the namespace of its workloads.",
    ),
    code(
        "MUT0003",
        Warning,
        "Which policy wins is decided by name only",
        "Several PeerAuthentications of one namespace have no selector and the same age, so the first by name wins.",
        "Keep one.",
    ),
    code(
        "MUT0004",
        Error,
        "Clients send plaintext to a STRICT workload",
        "Namespace or mesh is DISABLE, a workload policy is STRICT: automatic mTLS looks at namespace and mesh only and sends plaintext, which the workload refuses.",
        "Set the namespace to PERMISSIVE, or add a rule of mode ISTIO_MUTUAL.",
    ),
    code(
        "MUT0005",
        Error,
        "portLevelMtls names a Service port",
        "portLevelMtls counts workload ports. This number is only the port of a Service whose target port is another one.",
        "Write the target port.",
    ),
];

/// The severity of a code.
#[must_use]
pub fn severity(code: &str) -> Severity {
    CODES.iter().find(|known| known.code == code).map_or(Error, |known| known.severity)
}

/// The text of `docs/findings.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = "# Findings\n\nMade from the table in `crates/policy/src/findings/codes.rs`; do not edit.\n".to_owned();
    for code in CODES {
        let severity = match code.severity {
            Error => "error",
            Warning => "warning",
            Severity::Info => "info",
        };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n## {}: {}\n\nSeverity: {severity}\n\n{}\n\n{}\n",
            code.code, code.title, code.explanation, code.advice
        );
    }
    text
}

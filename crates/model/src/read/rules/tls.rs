//! `ClientTLSSettings` (`ValidateTLS`) and `ServerTLSSettings` (`validateTLSOptions`).

use super::ciphers;
use super::field::Field;
use super::names;
use crate::read::report::Report;

const CONFIG_MAP: &str = "configmap://";

/// Checks the TLS settings of a client.
pub fn check_client(tls: &Field<'_>, namespace: &str, report: &mut Report) {
    if !tls.is_given() {
        return;
    }
    let given = |name: &str| tls.get(name).has_text();
    let mode = tls.get("mode").text();
    let originates = matches!(mode, "SIMPLE" | "MUTUAL");
    let credential = tls.get("credentialName");
    if let Some(name) = credential.text().strip_prefix(CONFIG_MAP) {
        config_map(&credential, name, namespace, report);
    }
    if tls.get("insecureSkipVerify").is_true() {
        let (roots, names) = (given("caCertificates"), !tls.get("subjectAltNames").is_empty());
        if mode == "SIMPLE" && (roots || names || credential.has_text()) {
            let text = "cannot specify CaCertificates or CredentialName or SubjectAltNames when InsecureSkipVerify is set true";
            tls.error(report, text);
        }
        if mode == "MUTUAL" && (roots || names) {
            tls.error(report, "cannot specify CaCertificates or SubjectAltNames when InsecureSkipVerify is set true");
        }
    }
    if originates && credential.has_text() {
        if ["clientCertificate", "caCertificates", "privateKey", "caCrl"].into_iter().any(given) {
            tls.error(report, "cannot specify client certificates or CA certificate or CA CRL If credentialName is set");
        }
        return;
    }
    if mode == "MUTUAL" && !given("clientCertificate") {
        tls.error(report, "client certificate required for mutual tls");
    }
    if mode == "MUTUAL" && !given("privateKey") {
        tls.error(report, "private key required for mutual tls");
    }
}

/// `configmap://namespace/name`, of the rule's own namespace (`ParseResourceName`).
fn config_map(credential: &Field<'_>, name: &str, namespace: &str, report: &mut Report) {
    let prefix = "invalid configmap:// credentialName";
    let mut parts = name.split('/');
    let missing = match (parts.next(), parts.next()) {
        (_, None) => "namespace and name",
        (None | Some(""), _) => "namespace",
        (_, Some("")) => "name",
        (Some(of), Some(_)) => {
            if of != namespace {
                credential.error(report, format!("{prefix}: namespace must match the configuration namespace {namespace:?}"));
            }
            return;
        }
    };
    credential.error(report, format!("{prefix}: invalid resource name {:?}. Expected {missing}", credential.text()));
}

/// TLS to a server whose certificate is checked against nothing that the rule names.
pub fn warn_without_roots(tls: &Field<'_>, host: &str, report: &mut Report) {
    let mode = tls.get("mode").text();
    let verifies = ["caCertificates", "credentialName"].iter().any(|name| tls.get(name).has_text());
    if matches!(mode, "SIMPLE" | "MUTUAL") && !verifies {
        let text = format!(
            "TLS mode {mode} but no caCertificates are set to validate server identity for host: {host}; only the roots of the \
             operating system would vouch for it"
        );
        let skipped =
            format!("TLS mode {mode} with insecureSkipVerify: the identity of the server is not validated for host: {host}");
        tls.warning(report, if tls.get("insecureSkipVerify").is_true() { skipped } else { text });
    }
}

/// Checks the TLS settings of a `Sidecar`'s ingress listener.
pub fn check_server(tls: &Field<'_>, report: &mut Report) {
    let mode = tls.get("mode").text();
    let given = |name: &str| tls.get(name).has_text() || !tls.get(name).is_empty();
    ciphers::check_server(&tls.get("cipherSuites"), report);
    let certificates = [
        ("serverCertificate", "server certificate"),
        ("privateKey", "private key"),
        ("caCertificates", "CA bundle"),
        ("tlsCertificates", "tlsCertificates"),
        ("credentialName", "credentialName"),
        ("credentialNames", "credentialNames"),
    ];
    match mode {
        "ISTIO_MUTUAL" => {
            for (name, what) in certificates.iter().filter(|(name, _)| given(name)) {
                tls.get(name).error(report, format!("ISTIO_MUTUAL TLS cannot have associated {what}"));
            }
        }
        "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL" => terminating(tls, mode, &given, report),
        _ if given("caCrl") || certificates.iter().any(|(name, _)| given(name)) => {
            let mode = if mode.is_empty() { "PASSTHROUGH" } else { mode };
            tls.warning(report, format!("{mode} mode does not use certificates, they will be ignored"));
        }
        _ => {}
    }
}

fn terminating(tls: &Field<'_>, mode: &str, given: &dyn Fn(&str) -> bool, report: &mut Report) {
    let prefix = if mode == "SIMPLE" { "SIMPLE TLS" } else { "MUTUAL TLS" };
    if given("credentialName") || given("credentialNames") {
        return;
    }
    if mode != "SIMPLE" && !given("caCertificates") {
        tls.error(report, format!("{prefix} requires a client CA bundle"));
    }
    if !given("tlsCertificates") {
        if !given("serverCertificate") {
            tls.error(report, format!("{prefix} requires a server certificate"));
        }
        if !given("privateKey") {
            tls.error(report, format!("{prefix} requires a private key"));
        }
    }
    if given("caCrl") && mode == "SIMPLE" {
        tls.get("caCrl").error(report, "CRL is not supported with SIMPLE TLS");
    }
}

/// Checks `ClientTLSSettings` of a mesh configuration, which belongs to no namespace.
pub fn check_mesh_client(tls: &Field<'_>, report: &mut Report) {
    check_client(tls, "", report);
}

/// Whether a text is a domain name or an address with a port, as proxies are given them.
pub fn proxy_address(text: &str) -> Result<(), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("unable to split {text:?}: missing port in address"));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    names::domain(host)
        .or_else(|name| names::address(host).map_err(|_| name))
        .map_err(|_| format!("{host:?} is not a valid hostname or an IP address"))?;
    let number = port.parse::<i64>().map_err(|_| format!("port {port:?} is not a number"))?;
    names::port(number)
}

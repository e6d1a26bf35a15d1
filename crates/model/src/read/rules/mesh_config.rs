//! `MeshConfig` (`ValidateMeshConfig`), of the `Istio` resource or the ConfigMap `istio`.

use super::field::Field;
use super::{ciphers, names, pools, tls};
use crate::read::certificates;
use crate::read::report::Report;
use crate::read::schema::milliseconds;

/// Checks a mesh configuration.
pub fn check(mesh: &Field<'_>, report: &mut Report) {
    check_trust_domains(mesh, report);
    check_authorities(mesh, report);
    check_tls(mesh, report);
    check_connections(mesh, report);
    let traffic = mesh.get("defaultTrafficPolicy");
    pools::check_connection_pool(&traffic.get("connectionPool"), report);
    pools::check_outlier_detection(&traffic.get("outlierDetection"), report);
    pools::check_locality(&mesh.get("localityLbSetting"), true, report);
    tls::check_mesh_client(&mesh.get("outboundTrafficPolicy").get("tls"), report);
    check_names(mesh, report);
    check_proxy(&mesh.get("defaultConfig"), report);
    for selector in mesh.get("discoverySelectors").items() {
        selector.get("matchExpressions").items().for_each(|expression| check_expression(&expression, report));
    }
}

/// Kubernetes' own rules for `matchExpressions` (`LabelSelectorAsSelector`): with one that breaks them Istio looks at all
/// namespaces, without a word.
fn check_expression(expression: &Field<'_>, report: &mut Report) {
    let (operator, values) = (expression.get("operator"), expression.get("values"));
    match (operator.text(), values.is_empty()) {
        ("In" | "NotIn", true) => values.error(report, "for operators In and NotIn, values must be given"),
        ("Exists" | "DoesNotExist", false) => values.error(report, "for operators Exists and DoesNotExist, values must be empty"),
        ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
        (other, _) => {
            let message = format!("\"{other}\" is not a valid label selector operator; allowed: In, NotIn, Exists, DoesNotExist");
            operator.error(report, message);
        }
    }
}

fn check_trust_domains(mesh: &Field<'_>, report: &mut Report) {
    let domain = mesh.get("trustDomain");
    if domain.is_given() {
        domain.expect(report, |text| names::trust_domain(text).map_err(|why| format!("trustDomain: {why}")));
    }
    for (index, alias) in mesh.get("trustDomainAliases").items().enumerate() {
        alias.expect(report, |text| {
            names::trust_domain(text).map_err(|why| format!("trustDomainAliases[{index}], domain `{text}` : {why}"))
        });
    }
}

fn check_authorities(mesh: &Field<'_>, report: &mut Report) {
    for authority in mesh.get("caCertificates").items() {
        let (pem, url) = (authority.get("pem"), authority.get("spiffeBundleUrl"));
        if url.has_text() {
            url.warning(report, "the roots behind a spiffeBundleUrl are not fetched; put them into pem");
        }
        if pem.has_text() && certificates::of_pem(pem.text(), "").is_empty() {
            pem.warning(report, "no PEM certificate in it; the control plane does not put such a configuration into force");
        }
        for domain in authority.get("trustDomains").items().filter(|domain| domain.text() != "*") {
            domain.expect(report, |text| names::trust_domain(text).map_err(|why| format!("trustDomains: {why}")));
        }
    }
}

fn check_tls(mesh: &Field<'_>, report: &mut Report) {
    let (meshed, defaults) = (mesh.get("meshMTLS"), mesh.get("tlsDefaults"));
    if !meshed.get("ecdhCurves").is_empty() {
        meshed.get("ecdhCurves").error(report, "mesh TLS does not support ECDH curves configuration");
    }
    for settings in [&meshed, &defaults] {
        let only_tls_1_3 = settings.get("minProtocolVersion").text() == "TLSV1_3";
        ciphers::check_suites(&settings.get("cipherSuites"), only_tls_1_3, report);
    }
    let only_tls_1_3 = meshed.get("minProtocolVersion").text() == "TLSV1_3";
    ciphers::warn_without_ecdsa(&meshed.get("cipherSuites"), only_tls_1_3, report);
    ciphers::check_curves(&defaults.get("ecdhCurves"), report);
}

fn check_connections(mesh: &Field<'_>, report: &mut Report) {
    const LONGEST: f64 = 3_600_000.0;
    for name in ["proxyListenPort", "proxyInboundListenPort"] {
        let port = mesh.get(name);
        if let Some(Err(message)) = port.integer().map(names::port) {
            port.error_once(report, format!("invalid proxy listen port: {message}"));
        }
    }
    let timeout = mesh.get("connectTimeout");
    if let Some(length) = milliseconds(timeout.text()) {
        if length < 1.0 {
            timeout.error_once(report, "invalid connect timeout: duration must be greater than 1ms");
        } else if length > LONGEST {
            timeout.error_once(report, format!("invalid connect timeout: time {} must be >1ms and <1h0m0s", timeout.text()));
        }
    }
    let detection = mesh.get("protocolDetectionTimeout");
    if milliseconds(detection.text()).is_some_and(|length| length.fract() != 0.0) {
        let text = "invalid protocol detection timeout: only durations to ms precision are supported";
        detection.error_once(report, text);
    }
}

fn check_names(mesh: &Field<'_>, report: &mut Report) {
    let root = mesh.get("rootNamespace");
    if root.has_text() {
        root.expect(
            report,
            |text| {
                if names::is_label(text) { Ok(()) } else { Err(format!("{text:?} is no name of a namespace")) }
            },
        );
    }
    for settings in mesh.get("serviceSettings").items() {
        for host in settings.get("hosts").items() {
            host.expect(report, names::wildcard_domain);
        }
    }
}

fn check_proxy(proxy: &Field<'_>, report: &mut Report) {
    let discovery = proxy.get("discoveryAddress");
    if discovery.has_text() {
        discovery.expect(report, |text| tls::proxy_address(text).map_err(|why| format!("invalid discovery address: {why}")));
    }
    for (name, words) in [("proxyAdminPort", "proxy admin"), ("statusPort", "status")] {
        let port = proxy.get(name);
        if let Some(Err(message)) = port.integer().map(names::port) {
            port.error_once(report, format!("invalid {words} port: {message}"));
        }
    }
    let drain = proxy.get("drainDuration");
    if let Some(length) = milliseconds(drain.text()) {
        if length < 1.0 {
            drain.error_once(report, "invalid drain duration: duration must be greater than 1ms");
        } else if length % 1000.0 != 0.0 {
            drain.error_once(report, "drain time only supports durations to seconds precision");
        }
    }
    tls::check_mesh_client(&proxy.get("tracing").get("tlsSettings"), report);
}

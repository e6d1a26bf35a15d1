//! `AuthorizationPolicy` (`ValidateAuthorizationPolicy`).

use super::field::Field;
use super::{names, selector};
use crate::read::report::Report;

/// Source fields that hold addresses.
const ADDRESSES: &[&str] = &["ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks"];
/// Source fields that a CUSTOM action cannot use, because they come from the peer's certificate or a token.
const NOT_WITH_CUSTOM: &[(&str, &str)] = &[
    ("namespaces", "From.Namespaces"),
    ("notNamespaces", "From.NotNamespaces"),
    ("serviceAccounts", "From.ServiceAccounts"),
    ("notServiceAccounts", "From.NotServiceAccounts"),
    ("trustDomains", "From.TrustDomains"),
    ("notTrustDomains", "From.NotTrustDomains"),
    ("principals", "From.Principals"),
    ("notPrincipals", "From.NotPrincipals"),
    ("requestPrincipals", "From.RequestPrincipals"),
    ("notRequestPrincipals", "From.NotRequestPrincipals"),
];

/// Checks a `spec`.
pub fn check(spec: &Field<'_>, report: &mut Report) {
    let targets = ["selector", "targetRef", "targetRefs"].iter().filter(|name| spec.get(name).is_given()).count();
    if targets > 1 {
        spec.error(report, "only one of targetRefs or selector can be set");
    }
    selector::check(&spec.get("selector"), "matchLabels", ("", ""), report);
    let single = Some(spec.get("targetRef")).filter(Field::is_given);
    for target in single.into_iter().chain(spec.get("targetRefs").items()) {
        check_target(&target, report);
    }
    let action = match spec.get("action").text() {
        "" => "ALLOW",
        action => action,
    };
    check_action(spec, action, report);
    for rule in spec.get("rules").items() {
        check_rule(&rule, action == "CUSTOM", report);
        if action == "DENY" && is_of_http_alone(&rule) {
            rule.warning(report, DENIES_TCP);
        }
    }
}

fn check_target(target: &Field<'_>, report: &mut Report) {
    const KINDS: &[(&str, &str)] = &[
        ("", "Service"),
        ("core", "Service"),
        ("networking.istio.io", "ServiceEntry"),
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
    ];
    if target.get("namespace").has_text() {
        target.get("namespace").error_once(report, "cross namespace referencing is not currently supported");
    }
    let (group, kind) = (target.get("group").text(), target.get("kind").text());
    if !kind.is_empty() && !KINDS.contains(&(group, kind)) {
        let allowed = "Service, networking.istio.io/ServiceEntry, gateway.networking.k8s.io/Gateway, gateway.networking.k8s.io/GatewayClass";
        target.error_once(report, format!("targetRef must be to one of [{allowed}] but was {group}/{kind}"));
    }
}

fn check_action(spec: &Field<'_>, action: &str, report: &mut Report) {
    let (rules, provider) = (spec.get("rules"), spec.get("provider"));
    // An empty list is none: what reaches Istio does not tell them apart.
    if matches!(action, "CUSTOM" | "DENY") && rules.is_empty() {
        let text = "action without `rules` is meaningless as it will never be triggered, add an empty rule `{}` if you want it be \
                    triggered for every request";
        spec.error(report, format!("{action} {text}"));
    } else if action == "CUSTOM" && !provider.get("name").has_text() {
        provider.error_once(report, "`provider.name` must not be empty");
    }
    if provider.is_given() && action != "CUSTOM" {
        provider.error(report, format!("`provider` must not be with non CUSTOM action, found {action}"));
    }
}

const DENIES_TCP: &str = "configured AuthorizationPolicy will deny all traffic to TCP ports under its scope due to the use of \
                          only HTTP attributes in a DENY rule; it is recommended to explicitly specify the port";

/// Whether a rule names only what HTTP requests have.
fn is_of_http_alone(rule: &Field<'_>) -> bool {
    let below = |list: &str, name: &str| -> Vec<_> {
        rule.get(list).items().map(|item| item.get(name)).filter(Field::is_given).collect()
    };
    let (sources, operations) = (below("from", "source"), below("to", "operation"));
    let any =
        |fields: &[Field<'_>], names: &[&str]| fields.iter().any(|field| names.iter().any(|name| !field.get(name).is_empty()));
    let from_tcp = any(&sources, OF_CONNECTIONS);
    let to_tcp = any(&operations, &["ports", "notPorts"]);
    if operations.is_empty() { !sources.is_empty() && !from_tcp } else { !to_tcp }
}

/// Source fields that connections have without HTTP; Istio counts no others.
const OF_CONNECTIONS: &[&str] = &[
    "principals",
    "notPrincipals",
    "namespaces",
    "notNamespaces",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
    "serviceAccounts",
    "notServiceAccounts",
];

fn check_rule(rule: &Field<'_>, custom: bool, report: &mut Report) {
    if rule.is_null() {
        return rule.error_once(report, "`rule` must not be nil");
    }
    for name in ["from", "to"] {
        let list = rule.get(name);
        if list.is_given() && list.is_empty() {
            list.error_once(report, format!("`{name}` must not be empty"));
        }
    }
    for from in rule.get("from").items() {
        check_source(&from, custom, report);
    }
    for to in rule.get("to").items() {
        check_operation(&to, report);
    }
    for when in rule.get("when").items() {
        check_condition(&when, custom, report);
    }
}

fn check_source(from: &Field<'_>, custom: bool, report: &mut Report) {
    let source = from.get("source");
    if !source.is_given() {
        return source.error_once(report, "`from.source` must not be nil");
    }
    if source.entries().all(|(_, values)| values.is_empty()) {
        source.error_once(report, "`from.source` must not be empty");
    }
    let any = |names: &[&str]| names.iter().any(|name| !source.get(name).is_empty());
    if any(&["serviceAccounts", "notServiceAccounts"]) && any(&["principals", "notPrincipals", "namespaces", "notNamespaces"]) {
        source.error(report, "Cannot set serviceAccounts with namespaces or principals");
    }
    for (name, shown) in NOT_WITH_CUSTOM.iter().filter(|(name, _)| custom && !source.get(name).is_empty()) {
        source.get(name).error(report, format!("{shown} is currently not supported with CUSTOM action"));
    }
    check_values(&source, report);
    for address in ADDRESSES.iter().flat_map(|name| source.get(name).items()) {
        address.expect(report, ip_block);
    }
}

fn ip_block(text: &str) -> Result<(), String> {
    let kind = if text.contains('/') { "CIDR range" } else { "IP address" };
    names::subnet(text).map_err(|_| format!("bad {kind} ({text})"))
}

fn check_operation(to: &Field<'_>, report: &mut Report) {
    let operation = to.get("operation");
    if !operation.is_given() {
        return operation.error_once(report, "`to.operation` must not be nil");
    }
    if operation.entries().all(|(_, values)| values.is_empty()) {
        operation.error_once(report, "`to.operation` must not be empty");
    }
    check_values(&operation, report);
    for port in ["ports", "notPorts"].iter().flat_map(|name| operation.get(name).items()) {
        port.expect(report, port_text);
    }
}

fn port_text(text: &str) -> Result<(), String> {
    text.parse::<u16>().map(drop).map_err(|error| format!("bad port ({text}): {error}"))
}

fn check_values(fields: &Field<'_>, report: &mut Report) {
    for (name, values) in fields.entries() {
        for value in values.items().filter(|value| !value.has_text()) {
            value.error_once(report, format!("empty value not allowed, found in {name}"));
        }
    }
}

fn check_condition(when: &Field<'_>, custom: bool, report: &mut Report) {
    const SOURCES: &[&str] = &["source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal"];
    let key = when.get("key");
    if !key.has_text() {
        return key.error_once(report, "`key` must not be empty");
    }
    if custom && (SOURCES.contains(&key.text()) || key.text().starts_with("request.auth.")) {
        key.error(report, format!("{} is currently not supported with CUSTOM action", key.text()));
    }
    let (values, not_values) = (when.get("values"), when.get("notValues"));
    if values.is_empty() && not_values.is_empty() {
        when.error(report, format!("at least one of `values` or `notValues` must be set for key {}", key.text()));
    }
    key.expect(report, attribute);
    let check: fn(&str) -> Result<(), String> = match key.text() {
        "source.ip" | "remote.ip" | "destination.ip" => ip_block,
        "destination.port" => port_text,
        _ => |_| Ok(()),
    };
    for value in values.items().chain(not_values.items()) {
        value.expect(report, |text| if text.is_empty() { Err("empty value not allowed".to_owned()) } else { check(text) });
    }
}

fn attribute(key: &str) -> Result<(), String> {
    const PLAIN: &[&str] = &[
        "source.ip",
        "remote.ip",
        "source.namespace",
        "source.serviceAccount",
        "source.principal",
        "source.trustDomain",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "destination.ip",
        "destination.port",
        "connection.sni",
    ];
    const WITH_NAME: &[&str] = &["request.headers", "request.auth.claims", "experimental.envoy.filters."];
    if PLAIN.contains(&key) {
        return Ok(());
    }
    if WITH_NAME.iter().any(|prefix| key.starts_with(prefix)) {
        let named = key.find('[').is_some_and(|start| start > 0 && key.ends_with(']'));
        return if named { Ok(()) } else { Err(format!("bad key ({key}): should have format a[b]")) };
    }
    Err(format!("unknown attribute: {key}"))
}

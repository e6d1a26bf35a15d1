//! Every fix does what it says: applied to the example of its code as a person would paste it, the finding is gone and
//! nothing graver has come. Codes whose fix only a person knows are listed.

use std::collections::BTreeSet;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle};
use mutua_model::Severity;
use serde_json::{Map, Value, json};

use super::cases::{NOW, rows};
use super::{Asked, Finding, codes};
use crate::Engine;
use crate::tests::{BASE, istio, policy, rule};

/// What the finding says is wrong has more than one remedy, or needs a name, a certificate or an address.
const FOR_PEOPLE: [&str; 18] = [
    "IST0101", "IST0106", "IST0127", "IST0173", "KIA0003", "KIA0004", "KIA0106", "KIA0107", "KIA0108", "KIA0201", "MUT0014",
    "MUT0019", "MUT0024", "MUT0027", "MUT0028", "MUT0031", "MUT0032", "IST0174",
];

/// Code, object, path and the documents that raise it.
type Example = (&'static str, &'static str, &'static str, String);

/// Codes whose cases are built without text elsewhere.
fn further() -> Vec<Example> {
    let web = "selector: {matchLabels: {app: web}}";
    let strict = "{mtls: {mode: STRICT}}";
    let off = istio("{enableAutoMtls: false}");
    let pa = "PeerAuthentication bar/a";
    let wide = |namespace: &str, host: &str, mode: &str| {
        rule(namespace, "wide", &format!("{{host: \"{host}\", trafficPolicy: {{tls: {{mode: {mode}}}}}}}"))
    };
    let (all, bar) = ("*.local", "*.bar.svc.cluster.local");
    let mode = "spec/trafficPolicy/tls/mode";
    let tls = |settings: &str| rule("bar", "r", &format!("{{host: api.example.com, trafficPolicy: {{{settings}}}}}"));
    let disabled = |namespace: &str| policy(namespace, "a", "{mtls: {mode: DISABLE}}");
    let selected = format!("{{{web}, mtls: {{mode: STRICT}}}}");
    vec![
        ("KIA0002", pa, "spec/selector", policy("bar", "a", strict) + &policy("bar", "b", strict)),
        ("KIA0401", "PeerAuthentication istio-system/a", "spec/mtls", off.clone() + &policy("istio-system", "a", strict)),
        ("KIA0501", pa, "spec/mtls", off.clone() + &policy("bar", "a", strict)),
        ("KIA0505", pa, "spec/mtls", disabled("bar") + &wide("istio-system", all, "ISTIO_MUTUAL")),
        (
            "KIA0506",
            "PeerAuthentication istio-system/a",
            "spec/mtls",
            disabled("istio-system") + &wide("istio-system", all, "ISTIO_MUTUAL"),
        ),
        ("IST0133", pa, "spec/selector", policy("bar", "a", "{selector: {}, mtls: {mode: STRICT}}")),
        ("MUT0002", "PeerAuthentication istio-system/a", "spec/selector", policy("istio-system", "a", &selected)),
        ("MUT0003", pa, "metadata/name", policy("bar", "a", strict) + &policy("bar", "b", strict)),
        ("MUT0004", pa, "spec/mtls/mode", policy("bar", "a", &selected) + &policy("bar", "b", "{mtls: {mode: DISABLE}}")),
        ("MUT0004", pa, "spec/mtls/mode", policy("bar", "a", &selected) + &disabled("istio-system")),
        (
            "MUT0005",
            pa,
            "spec/portLevelMtls/8000",
            policy("bar", "a", &format!("{{{web}, portLevelMtls: {{8000: {{mode: STRICT}}}}}}")),
        ),
        ("KIA0205", "DestinationRule istio-system/wide", mode, off.clone() + &wide("istio-system", all, "ISTIO_MUTUAL")),
        (
            "KIA0205",
            "DestinationRule istio-system/wide",
            mode,
            off.clone() + &wide("istio-system", all, "ISTIO_MUTUAL") + &disabled("istio-system"),
        ),
        ("KIA0206", "DestinationRule bar/wide", mode, off + &wide("bar", bar, "ISTIO_MUTUAL")),
        ("KIA0207", "DestinationRule bar/wide", mode, policy("bar", "a", strict) + &wide("bar", bar, "DISABLE")),
        ("KIA0208", "DestinationRule bar/wide", mode, policy("istio-system", "a", strict) + &wide("bar", bar, "DISABLE")),
        ("IST0128", "DestinationRule bar/r", "spec/trafficPolicy/tls", tls("tls: {mode: SIMPLE}")),
        (
            "IST0129",
            "DestinationRule bar/r",
            "spec/trafficPolicy/portLevelSettings[0]/tls",
            tls("portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]"),
        ),
        (
            "MUT0001",
            "DestinationRule bar/r",
            "spec/trafficPolicy/tls/credentialName",
            tls("tls: {mode: SIMPLE, credentialName: c}"),
        ),
    ]
}

/// Rules that hold something beside the `tls` that goes, and rules that do not.
fn removals() -> Vec<Example> {
    let mode = "spec/trafficPolicy/tls/mode";
    let to_old = |policy: &str| rule("bar", "r", &format!("{{host: old.bar.svc.cluster.local, trafficPolicy: {{{policy}}}}}"));
    let port = |number: u16| format!("{{port: {{number: {number}}}, tls: {{mode: ISTIO_MUTUAL}}}}");
    let (first, pool) = ("spec/trafficPolicy/portLevelSettings[0]/tls/mode", "connectionPool: {tcp: {maxConnections: 1}}");
    let ports = |more: &str| to_old(&format!("portLevelSettings: [{}{more}]", port(8000)));
    vec![
        ("MUT0008", "DestinationRule bar/r", mode, to_old(&format!("tls: {{mode: ISTIO_MUTUAL}}, {pool}"))),
        ("MUT0008", "DestinationRule bar/r", first, ports("")),
        ("MUT0008", "DestinationRule bar/r", first, ports(&format!(", {}", port(9000)))),
        ("MUT0008", "DestinationRule bar/r", first, to_old(&format!("portLevelSettings: [{}], {pool}", port(8000)))),
    ]
}

#[test]
fn every_fix_that_can_be_pasted_ends_its_finding() {
    let mut pasted = BTreeSet::new();
    let examples = rows().map(|(code, object, path, text, _)| (code, object, path, text)).chain(further()).chain(removals());
    for (code, object, path, text) in examples {
        let documents = documents(&format!("{BASE}{text}"));
        let before = analyze(&documents);
        let is = |one: &&Finding| (one.code, one.object.as_str(), one.path.as_str()) == (code, object, path);
        let finding = before.iter().find(is).unwrap_or_else(|| panic!("{code} on {object} at {path}: {before:#?}\n{text}"));
        let Some(mended) = apply(&documents, finding) else {
            assert!(FOR_PEOPLE.contains(&code), "{code}: {:?} cannot be pasted\n{text}", finding.fix);
            continue;
        };
        pasted.insert(code);
        let after = analyze(&mended);
        assert!(!after.iter().any(|one| is(&one)), "{code} is still there after\n{}\n{after:#?}\n{text}", finding.fix);
        let new = |one: &&Finding| !before.iter().any(|old| (old.code, &old.object) == (one.code, &one.object));
        let bad = |one: &&Finding| one.severity > finding.severity || one.severity == Severity::Error;
        let graver: Vec<_> = after.iter().filter(new).filter(bad).collect();
        assert!(graver.is_empty(), "{code}: {} brings {graver:#?}\n{text}", finding.fix);
    }
    let people = FOR_PEOPLE.into_iter().collect();
    assert_eq!(pasted.intersection(&people).collect::<Vec<_>>(), [&"IST0174"], "by some of its names only");
    assert_eq!(pasted.union(&people).copied().collect::<BTreeSet<_>>(), codes::all().map(|code| code.code).collect());
}

fn analyze(documents: &[Value]) -> Vec<Finding> {
    let text = documents.iter().map(|one| format!("---\n{one}\n")).collect::<String>();
    let loaded = mutua_model::read::Inputs::from_texts([("mesh.yaml", text)]).load().expect("readable");
    let errors: Vec<_> = loaded.errors().collect();
    assert!(errors.is_empty(), "{errors:#?}\n{documents:#?}");
    super::analyze(&Engine::new(Arc::new(loaded.mesh)), &Asked { now: Some(NOW), include: vec!["KIA1301"] })
}

/// The documents with the fix in them, as the module `paste` says; `None` when the fix is a sentence.
fn apply(before: &[Value], finding: &Finding) -> Option<Vec<Value>> {
    let mut after = before.to_vec();
    let lines: Vec<&str> = finding.fix.lines().collect();
    if lines.iter().all(|line| line.starts_with("delete ")) {
        for name in lines.iter().filter_map(|line| line.strip_prefix("delete ")) {
            let length = after.len();
            after.retain(|one| named(one) != name);
            assert_eq!(after.len(), length - 1, "{name} is there");
        }
        return Some(after);
    }
    if let Some(path) = finding.fix.strip_prefix("remove ").filter(|path| path.starts_with("spec/")) {
        let (parent, key) = path.rsplit_once('/')?;
        let object = after.iter_mut().find(|one| named(one) == finding.object)?;
        match key.trim_end_matches(']').split_once('[') {
            Some((list, at)) => {
                let list = object.pointer_mut(&pointer(&format!("{parent}/{list}")))?.as_array_mut()?;
                list.remove(at.parse().expect("a position"));
            }
            None => drop(object.pointer_mut(&pointer(parent))?.as_object_mut()?.remove(key).expect("the field is there")),
        }
        return Some(after);
    }
    if !lines[0].contains(": ") && !lines[0].ends_with(':') {
        return None;
    }
    for fix in documents(&finding.fix) {
        let first = fix.as_object().and_then(|map| map.keys().next().cloned())?;
        if fix.get("apiVersion").is_some() {
            put(&mut after, fix);
            continue;
        }
        let object = after.iter_mut().find(|one| named(one) == finding.object)?;
        let place = place(&finding.path, if fix.get("spec").or(fix.get("metadata")).is_some() { "" } else { &first });
        let target = reach(object, &place);
        merge(target, fix);
    }
    Some(after)
}

/// Where a fragment goes: beside the field of its name on the path, else into the field at the path; with no name the root.
fn place(path: &str, name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    let parts: Vec<&str> = path.split('/').collect();
    let at = parts.iter().rposition(|part| *part == name).unwrap_or(parts.len());
    parts[..at].join("/")
}

fn pointer(path: &str) -> String {
    if path.is_empty() {
        return String::new();
    }
    format!("/{}", path.replace('[', "/").replace(']', ""))
}

/// The field at a path; what lacks is made.
fn reach<'v>(object: &'v mut Value, path: &str) -> &'v mut Value {
    let mut at = object;
    for part in pointer(path).split('/').skip(1) {
        at = match part.parse::<usize>() {
            Ok(index) if at.is_array() => &mut at[index],
            _ => {
                if at.is_null() {
                    *at = json!({});
                }
                &mut at[part]
            }
        };
    }
    if at.is_null() {
        *at = json!({});
    }
    at
}

/// A fragment's mapping goes into that of the object below `spec` and `metadata`; any other field is as the fragment says.
fn merge(into: &mut Value, fragment: Value) {
    let Value::Object(fragment) = fragment else { panic!("{fragment}") };
    for (key, value) in fragment {
        let descends = matches!(key.as_str(), "spec" | "metadata" | "annotations" | "labels" | "trafficPolicy");
        match into.get_mut(&key) {
            Some(old) if descends && old.is_object() => merge(old, value),
            _ => into[key] = value,
        }
    }
}

/// An object by its name in place of the old one; a Namespace keeps its other labels, and its pods start anew.
fn put(documents: &mut Vec<Value>, object: Value) {
    let name = named(&object);
    if object["kind"] == "Namespace" {
        for pod in documents.iter_mut().filter(|one| one["kind"] == "Pod") {
            if pod["metadata"]["namespace"] == object["metadata"]["name"] {
                pod["metadata"]["labels"]["security.istio.io/tlsMode"] = json!("istio");
            }
        }
    }
    documents.retain(|one| named(one) != name);
    documents.push(object);
}

fn named(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

fn documents(text: &str) -> Vec<Value> {
    let mut events = Parser::new_from_str(text).map(|event| event.expect("YAML").0);
    let mut found = Vec::new();
    while let Some(event) = events.next() {
        if let Some(value) = value(event, &mut events) {
            found.push(value);
        }
    }
    found.retain(Value::is_object);
    found
}

/// A value that begins with this event; `None` for an event that begins none.
fn value<'t>(event: Event<'t>, events: &mut impl Iterator<Item = Event<'t>>) -> Option<Value> {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, ..) => Some(serde_json::from_str(&text).unwrap_or_else(|_| json!(text))),
        Event::Scalar(text, ..) => Some(json!(text)),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            while let Some(item) = events.next().and_then(|event| value(event, events)) {
                items.push(item);
            }
            Some(Value::Array(items))
        }
        Event::MappingStart(..) => {
            let mut map = Map::new();
            while let Some(Event::Scalar(key, ..)) = events.next() {
                let next = events.next().expect("a value");
                map.insert(key.into_owned(), value(next, events).expect("a value"));
            }
            Some(Value::Object(map))
        }
        _ => None,
    }
}

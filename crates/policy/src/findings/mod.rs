//! Findings: what is wrong with resources that are each valid by themselves, once they act together.

mod authorities;
mod authorization;
pub mod codes;
mod destination;
mod index;
mod paste;
mod peer;
mod reach;
mod rivals;
mod schema;
mod sidecar;
mod status;
mod traffic;
mod traps;
mod trust;

#[cfg(test)]
#[path = "cases_tests.rs"]
mod cases;
#[cfg(test)]
#[path = "fixes_tests.rs"]
mod fixes;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mutua_model::read::Loaded;
use mutua_model::{Mesh, Meta, Severity};
use serde::Serialize;

use crate::engine::Engine;

/// One finding, with the fields of the command line's JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The file the object was written in, as named by the user.
    pub file: String,
    /// Line, from 1; 0 when no text holds the object.
    pub line: u32,
    /// The object, as `Kind namespace/name`.
    pub object: String,
    /// The field path within the object (`spec/trafficPolicy/tls/mode`).
    pub path: String,
    /// The stable code; [`codes::all`] explains it.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and what causes it.
    pub message: String,
    /// What to do: YAML to paste (a whole object, or the field at `path` as it should be), `delete` or `remove` with what is
    /// too much, or a sentence where only a person knows what was meant.
    pub fix: String,
    /// The column of the line, from 1; 0 when no text holds the object.
    pub column: u32,
}

/// Kiali's annotation that silences findings of one object: empty for all, else a comma-separated list of codes.
const IGNORE: &str = "kiali.io/ignore-validations";
/// istioctl's annotation that silences findings of its own codes: a comma-separated list, `*` for all.
const SUPPRESS: &str = "galley.istio.io/analyze-suppress";

/// What to look for beside what is always looked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The time that certificates are held against, in seconds since 1970; without it their ends are not judged.
    pub now: Option<i64>,
    /// Codes that are raised only when they are asked for ([`codes::Code::optional`]).
    pub include: Vec<&'static str>,
}

/// Every finding of the mesh, sorted by file, line, object, path and code. The order of the mesh's lists does
/// not change the answer.
#[must_use]
pub fn analyze(engine: &Engine, asked: &Asked) -> Vec<Finding> {
    let mesh: &Mesh = engine.mesh();
    let index = index::Index::new(mesh);
    let mut out = Findings::default();
    let scopes = reach::Scopes::new(mesh);
    peer::check(engine, &index, &scopes, &mut out);
    destination::check(&index, &mut out);
    rivals::check(&index, &scopes, &mut out);
    authorization::check(&index, &scopes, &mut out);
    if asked.include.contains(&authorization::UNCOVERED) {
        authorization::uncovered(&index, &mut out);
    }
    sidecar::check(&index, &mut out);
    traffic::check(engine, &index, &mut out);
    traps::check(engine, &mut out);
    trust::check(engine, &mut out);
    if let Some(now) = asked.now {
        authorities::check(engine, now, &mut out);
    }
    out.list.sort();
    out.list.dedup();
    without_echoes(out.list)
}

/// As [`analyze`], with what is wrong with each resource by itself (IST0106, IST0133).
#[must_use]
pub fn analyze_loaded(loaded: &Loaded, asked: &Asked) -> Vec<Finding> {
    let mut all = analyze(&Engine::new(Arc::new(loaded.mesh.clone())), asked);
    let mut by_itself = schema::findings(&loaded.diagnostics);
    let annotated = annotated(&loaded.mesh);
    by_itself.retain(|one| !annotated.get(&one.object).is_some_and(|meta| silenced(meta, one.code)));
    // Of an object that is invalid, what was understood says little.
    let invalid: HashSet<String> = loaded.errors().filter_map(|one| Some(one.object.as_ref()?.to_string())).collect();
    all.retain(|one| !one.code.starts_with("MUT") || !invalid.contains(&one.object));
    let known: HashSet<_> = all.iter().map(|one| (one.code, one.object.clone(), one.path.clone())).collect();
    all.extend(by_itself.into_iter().filter(|one| !known.contains(&(one.code, one.object.clone(), one.path.clone()))));
    all.sort();
    all
}

/// The objects that silence findings, by their names.
fn annotated(mesh: &Mesh) -> HashMap<String, &Meta> {
    let policies = mesh.peer_authentications.iter().map(|one| &one.meta);
    let rules = mesh.destination_rules.iter().map(|one| &one.meta);
    let registry = mesh.service_entries.iter().map(|one| &one.meta).chain(mesh.workload_entries.iter().map(|one| &one.meta));
    let others = mesh.sidecars.iter().map(|one| &one.meta).chain(mesh.unenforced.iter().map(|one| &one.meta));
    let all = policies.chain(rules).chain(registry).chain(others);
    let silencing = all.filter(|meta| [IGNORE, SUPPRESS].iter().any(|name| meta.annotations.contains_key(*name)));
    silencing.map(|meta| (meta.object.to_string(), meta)).collect()
}

/// Leaves out ours where Kiali's code says the same of the same field.
fn without_echoes(mut list: Vec<Finding>) -> Vec<Finding> {
    const SAME: [(&str, &[&str]); 3] =
        [("MUT0006", &["KIA0207", "KIA0208"]), ("MUT0012", &["KIA0401", "KIA0501"]), ("MUT0013", &["KIA0204"])];
    let said: HashSet<(&str, String)> = list.iter().map(|one| (one.code, one.object.clone())).collect();
    list.retain(|one| {
        let same = SAME.iter().find(|(own, _)| *own == one.code);
        same.is_none_or(|(_, theirs)| !theirs.iter().any(|code| said.contains(&(*code, one.object.clone()))))
    });
    list
}

/// Collects findings, leaving out those that their object silences.
#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, code: &'static str, meta: &Meta, path: &str, message: String, fix: String) {
        if silenced(meta, code) {
            return;
        }
        let place = meta.places.of(path);
        self.list.push(Finding {
            file: place.file.to_string(),
            line: place.line,
            column: place.column,
            object: meta.object.to_string(),
            path: path.to_owned(),
            code,
            severity: codes::severity(code),
            message,
            fix,
        });
    }
}

fn silenced(meta: &Meta, code: &str) -> bool {
    let suppressed = meta.annotations.get(SUPPRESS).filter(|_| code.starts_with("IST"));
    if suppressed.is_some_and(|list| list.split(',').any(|listed| ["*", code].contains(&listed.trim()))) {
        return true;
    }
    let Some(list) = meta.annotations.get(IGNORE) else { return false };
    list.trim().is_empty() || list.split(',').any(|listed| listed.trim() == code)
}

//! The decision function and the findings, over whatever mesh can be read.

use std::sync::Arc;

use mutua_model::MtlsMode;
use mutua_model::read::Inputs;
use mutua_policy::findings::{Asked, analyze, analyze_loaded};
use mutua_policy::{ConnectionQuery, Engine, Outcome, compare};

use super::yaml_grammar;
use crate::Target;

/// The target. Its input is the text of a mesh.
pub const TARGET: Target = Target {
    name: "evaluator",
    run,
    grammar: yaml_grammar::mesh,
    words: yaml_grammar::WORDS,
    longest: 16 * 1024,
    memory: 32 * 1024 * 1024,
    memory_per_byte: 2000,
};

/// Callers and destinations of each that are looked at.
const MOST: usize = 5;

/// What must hold.
pub fn run(bytes: &[u8]) {
    let Ok(loaded) = Inputs::from_bytes("in.yaml", bytes.to_vec()).load() else { return };
    // What is invalid is analyzed too, as far as it was understood.
    let asked = Asked { now: Some(1_700_000_000), ..Asked::default() };
    let findings = analyze_loaded(&loaded, &asked);
    for finding in &findings {
        assert!(!finding.message.is_empty() && finding.message.len() < 8000, "{finding:?}");
    }
    if !loaded.is_valid() {
        return;
    }
    let mesh = Arc::new(loaded.mesh);
    let engine = Engine::new(Arc::clone(&mesh));
    decisions(&engine);
    let again = engine.next(Arc::clone(&mesh));
    assert_eq!(analyze(&again, &asked), analyze(&engine, &asked), "a change of nothing");
    let compared = compare::compare(&engine, &again);
    assert_eq!(compared, compare::Comparison::default(), "a change of nothing");
}

fn decisions(engine: &Engine) {
    for workload in engine.workloads().iter().take(MOST) {
        let name = workload.full_name();
        let Ok(explained) = engine.explain_workload(&name) else { continue };
        let inbound = engine.inbound(workload);
        for port in &inbound.ports {
            if let Some(said) = explained.ports.get(&port.port) {
                assert_eq!(*said, port.mode, "{name} port {}", port.port);
            }
        }
        let _ = engine.destinations(workload);
        for to in yaml_grammar::DESTINATIONS {
            let query = ConnectionQuery { from: name.clone(), to: to.to_owned(), subset: None };
            let Ok(answer) = engine.explain_connection(&query) else { continue };
            assert!(!answer.trace.is_empty(), "{name} to {to}: an answer without a reason");
            for endpoint in &answer.endpoints {
                let strict = endpoint.server_mode == Some(MtlsMode::Strict);
                assert!(!strict || endpoint.connection != Outcome::Plaintext, "{name} to {to}: {answer:?}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn most_of_what_the_grammar_makes_is_decided_upon() {
        let (mut valid, mut found) = (0, 0);
        for turn in 0..200 {
            let text = yaml_grammar::mesh(&mut Random::new(1, turn));
            let loaded = Inputs::from_bytes("in.yaml", text).load().unwrap();
            found += usize::from(!analyze_loaded(&loaded, &Asked::default()).is_empty());
            if loaded.is_valid() {
                valid += 1;
                let engine = Engine::new(Arc::new(loaded.mesh));
                let to = yaml_grammar::DESTINATIONS[0].to_owned();
                engine.explain_connection(&ConnectionQuery { from: "shop/web-1".to_owned(), to, subset: None }).unwrap();
            }
        }
        assert!(valid > 40 && found > 150, "{valid} of 200 are valid, {found} have findings");
    }
}

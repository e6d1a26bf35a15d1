//! What users write: every text is read within bounds, or told where it is wrong.

use mutua_model::Severity;
use mutua_model::read::expectations::PolicyTest;
use mutua_model::read::{InputError, Inputs};

use super::yaml_grammar;
use crate::Target;

/// The target.
pub const TARGET: Target = Target {
    name: "yaml",
    run,
    grammar: yaml_grammar::text,
    words: yaml_grammar::WORDS,
    longest: 64 * 1024,
    memory: 16 * 1024 * 1024,
    // A node of one byte has a place, a key and a name.
    memory_per_byte: 2000,
};

const NAME: &str = "in.yaml";
/// Bytes of one message, however long what it is about.
const LONGEST: usize = 4000;

/// What must hold.
pub fn run(bytes: &[u8]) {
    let inputs = Inputs::from_bytes(NAME, bytes.to_vec());
    let lines = bytes.iter().filter(|byte| matches!(**byte, b'\n' | b'\r')).count() + 1;
    let within = |line: u32| line as usize <= lines + 1;
    match inputs.load() {
        Err(InputError::Syntax { place, message }) => {
            assert!(&*place.file == NAME && within(place.line) && fit(&message) && message.len() < LONGEST, "{place}: {message}");
        }
        Err(error) => panic!("{error}"),
        Ok(loaded) => {
            for diagnostic in &loaded.diagnostics {
                let object = diagnostic.object.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
                assert!(
                    within(diagnostic.place.line)
                        && fit(&diagnostic.message)
                        && fit(&object)
                        && diagnostic.message.len() < LONGEST,
                    "{diagnostic:?}"
                );
                assert!(inputs.line(NAME, diagnostic.place.line).is_none_or(|line| line.is_empty() || fit(line)));
            }
            let errors = loaded.diagnostics.iter().filter(|one| one.severity == Severity::Error).count();
            assert_eq!(loaded.is_valid(), errors == 0);
        }
    }
    match PolicyTest::of(NAME.as_ref(), &inputs) {
        Ok(test) => assert!(test.expectations.iter().all(|one| within(one.place.line) && !one.to.is_empty())),
        Err(error) => assert!(error.to_string().len() < LONGEST, "{error}"),
    }
}

/// What is said goes onto a terminal.
fn fit(message: &str) -> bool {
    let speaks = |one: char| one.is_control() && !matches!(one, '\n' | '\t');
    !message.is_empty() && !message.contains(speaks)
}

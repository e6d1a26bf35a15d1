//! Faults and bad inputs that a sidecar survives, by group: what is done, and what has to come of it. Each has a test of
//! its own, which takes its expectation from here; `docs/faults.md` is made from this table.

mod authority;
mod certificates;
mod machine;
mod wire;

use mutua_proxy::connections::Outcome;
use mutua_proxy::reasons::Reason;

/// What has to come of a case, beside what must hold after every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Every connection of it is refused with this code.
    Refused(Reason),
    /// Every connection of it is served, as this.
    Served(Outcome),
    /// The connections end, and there is nothing to complain of.
    Ended,
    /// Said in words; the test knows.
    Told(&'static str),
}

/// One fault or bad input.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its group.
    pub group: &'static str,
    /// Its name, which is its test's too.
    pub name: &'static str,
    /// What is done.
    pub done: &'static str,
    /// What has to come of it.
    pub expected: Expected,
}

/// The case of a name.
///
/// # Panics
/// There is none.
#[must_use]
pub fn case(name: &str) -> Case {
    all().find(|case| case.name == name).unwrap_or_else(|| panic!("{name} is no case"))
}

const fn refused(group: &'static str, name: &'static str, reason: Reason, done: &'static str) -> Case {
    Case { group, name, done, expected: Expected::Refused(reason) }
}

const fn served(group: &'static str, name: &'static str, outcome: Outcome, done: &'static str) -> Case {
    Case { group, name, done, expected: Expected::Served(outcome) }
}

const fn told(group: &'static str, name: &'static str, expected: &'static str, done: &'static str) -> Case {
    Case { group, name, done, expected: Expected::Told(expected) }
}

const HANDSHAKE: &str = "Handshake";
const MISMATCH: &str = "Protocol mismatch";
const FLOODS: &str = "Floods";
const RESOURCES: &str = "Resources";
const PROCESS: &str = "Process";
const CA: &str = "CA faults";
const TIME: &str = "Time";
const CERTIFICATES: &str = "Certificates";

/// All cases, by group.
pub fn all() -> impl Iterator<Item = Case> {
    [wire::CASES, machine::CASES, authority::CASES, certificates::CASES].into_iter().flatten().copied()
}

/// `docs/faults.md`.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(
        "# Faults\n\nWhat a sidecar is tried with, and what has to come of it. After every case the process lives, no plaintext \
         and no wrong identity was accepted, connections of others went on, every connection left one record with its reason, \
         and memory is back within 5 %.\n\nMade from the tables in `crates/testbed/src/cases/`; do not edit.\n",
    );
    let mut group = "";
    for case in all() {
        if case.group != group {
            group = case.group;
            text.push_str(&format!("\n## {group}\n\n| case | what is done | what comes of it |\n|---|---|---|\n"));
        }
        let expected = match case.expected {
            Expected::Refused(reason) => format!("refused: `{reason}`"),
            Expected::Served(Outcome::Mtls) => "served: mutual TLS".to_owned(),
            Expected::Served(Outcome::Tls) => "served: TLS passed through".to_owned(),
            Expected::Served(_) => "served: plaintext".to_owned(),
            Expected::Ended => "ended".to_owned(),
            Expected::Told(words) => words.to_owned(),
        };
        text.push_str(&format!("| `{}` | {} | {expected} |\n", case.name, case.done));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_case() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/faults.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), document(), "run with UPDATE_DOCS=1");
    }

    #[test]
    fn every_case_has_its_test() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let places = ["proxy/tests/unbreakable", "cli/tests/unbreakable"];
        let files = places.iter().flat_map(|place| std::fs::read_dir(format!("{folder}/{place}")).unwrap());
        let source: String = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        for case in all() {
            assert!(source.contains(&format!("fn {}(", case.name)), "{} has no test", case.name);
        }
        let count = |group| all().filter(|case| case.group == group).count();
        assert_eq!([HANDSHAKE, MISMATCH, FLOODS, RESOURCES, PROCESS].map(count), [18, 9, 6, 7, 7]);
        assert_eq!([CA, TIME, CERTIFICATES].map(count), [14, 10, 20]);
    }
}

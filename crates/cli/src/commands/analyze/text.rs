//! Findings as a person reads them, in the manner of a compiler.

use mutua_model::Severity;
use mutua_model::read::{Inputs, Loaded};
use mutua_policy::findings::Finding;

use crate::output::{BAD, GOOD, WARN};
use crate::paragraph::Paragraph;

/// Every finding, and a closing line.
pub fn report(inputs: &Inputs, loaded: &Loaded, findings: &[Finding]) -> String {
    let text: String = findings.iter().map(|finding| paragraph(inputs, finding)).collect();
    text + &summary(loaded, findings)
}

fn paragraph(inputs: &Inputs, finding: &Finding) -> String {
    let Finding { file, line, column, object, path, code, severity, message, fix } = finding;
    let place = (file.as_str(), *line, *column);
    Paragraph { severity: *severity, code, message, place, object: object.clone(), path, fix }.show(inputs)
}

fn summary(loaded: &Loaded, findings: &[Finding]) -> String {
    let place = if loaded.texts == 0 { "the cluster".to_owned() } else { counted(loaded.texts, "file") };
    let read = format!("{} in {place}", counted(loaded.objects, "object"));
    let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let parts: Vec<String> = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Info, "note")]
        .into_iter()
        .filter(|(severity, _)| of(*severity) > 0)
        .map(|(severity, word)| counted(of(severity), word))
        .collect();
    if parts.is_empty() {
        return format!("{GOOD}nothing found{GOOD:#} ({read})\n");
    }
    let style = if of(Severity::Error) > 0 { BAD } else { WARN };
    format!("{style}found{style:#}: {} ({read})\n", parts.join(", "))
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

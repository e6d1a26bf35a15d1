//! Findings as a person reads them, in the manner of a compiler.

use mutua_model::Severity;
use mutua_model::read::{Inputs, Loaded};
use mutua_policy::findings::Finding;

use crate::output::{BAD, DIM, GOOD, HEAD, HINT, WARN};

/// Every finding, and a closing line.
pub fn report(inputs: &Inputs, loaded: &Loaded, findings: &[Finding]) -> String {
    let text: String = findings.iter().map(|finding| paragraph(inputs, finding)).collect();
    text + &summary(loaded, findings)
}

fn paragraph(inputs: &Inputs, finding: &Finding) -> String {
    let (style, word) = match finding.severity {
        Severity::Error => (BAD, "error"),
        Severity::Warning => (WARN, "warning"),
        Severity::Info => (DIM, "info"),
    };
    let mut text = format!("{style}{word}[{}]{style:#}: {HEAD}{}{HEAD:#}\n", finding.code, finding.message);
    let margin = " ".repeat(finding.line.to_string().len());
    if !finding.file.is_empty() && finding.line > 0 {
        text.push_str(&format!("{margin}{HINT}-->{HINT:#} {}:{}\n", finding.file, finding.line));
    }
    if let Some(line) = inputs.line(&finding.file, finding.line).filter(|line| line.chars().count() <= WIDEST) {
        text.push_str(&format!("{HINT}{margin} |\n{} |{HINT:#} {}\n{HINT}{margin} |{HINT:#}\n", finding.line, line.trim_end()));
    }
    // A text of no known kind is no object; its line says all.
    if !finding.object.is_empty() {
        let path = if finding.path.is_empty() { String::new() } else { format!(", {}", finding.path) };
        text.push_str(&format!("{margin} {HINT}={HINT:#} {}{DIM}{path}{DIM:#}\n", finding.object));
    }
    let mut lines = finding.fix.trim_end().lines();
    let first = lines.next().unwrap_or_default();
    match lines.clone().next() {
        None => text.push_str(&format!("{margin} {HINT}={HINT:#} {GOOD}fix{GOOD:#}: {first}\n")),
        Some(_) => {
            text.push_str(&format!("{margin} {HINT}={HINT:#} {GOOD}fix{GOOD:#}:\n"));
            for line in std::iter::once(first).chain(lines) {
                text.push_str(&format!("{margin}     {line}\n"));
            }
        }
    }
    text + "\n"
}

/// Longer lines are not shown.
const WIDEST: usize = 160;

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

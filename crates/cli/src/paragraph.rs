//! One thing that is wrong, in the manner of a compiler: what, where with its line, of which object and field, what to do.

use mutua_model::read::Inputs;
use mutua_model::{Diagnostic, Severity};

use crate::output::{BAD, DIM, GOOD, HEAD, HINT, WARN, prose, snippet};

/// What a paragraph says.
pub struct Paragraph<'a> {
    /// How bad it is.
    pub severity: Severity,
    /// The code of a finding; empty without one.
    pub code: &'a str,
    /// What is wrong.
    pub message: &'a str,
    /// File, line and column; line 0 when no text holds it.
    pub place: (&'a str, u32, u32),
    /// The object; empty when it is none.
    pub object: String,
    /// The field path within it; empty for the whole object.
    pub path: &'a str,
    /// What to do: a sentence, or lines to paste; empty when the message says all.
    pub fix: &'a str,
}

impl<'a> Paragraph<'a> {
    /// Of a diagnostic.
    pub fn of(diagnostic: &'a Diagnostic) -> Self {
        let Diagnostic { severity, object, path, place, message } = diagnostic;
        let object = object.as_ref().map(ToString::to_string).unwrap_or_default();
        let place = (&*place.file, place.line, place.column);
        Self { severity: *severity, code: "", message, place, object, path, fix: "" }
    }

    /// The text, ending with an empty line.
    pub fn show(&self, inputs: &Inputs) -> String {
        let (style, word) = match self.severity {
            Severity::Error => (BAD, "error"),
            Severity::Warning => (WARN, "warning"),
            Severity::Info => (DIM, "info"),
        };
        let code = if self.code.is_empty() { String::new() } else { format!("[{}]", self.code) };
        let (message, guess) = match self.message.rsplit_once("; did you mean ") {
            Some((message, guess)) if self.fix.is_empty() => (message, Some(guess)),
            _ => (self.message, None),
        };
        let hang = word.len() + code.len() + 2;
        let mut text = prose(&format!("{style}{word}{code}{style:#}: {HEAD}{message}{HEAD:#}"), hang) + "\n";
        let (file, line, column) = self.place;
        let margin = " ".repeat(line.to_string().len());
        if !file.is_empty() && line > 0 {
            text.push_str(&format!("{margin}{HINT}-->{HINT:#} {file}:{line}:{column}\n"));
        }
        if let Some(lines) = snippet(inputs, self.place, style) {
            text.push_str(&format!("{HINT}{margin} |{HINT:#}\n{lines}"));
        }
        let mut note = |note: &str, hang: usize| {
            text.push_str(&(prose(&format!("{margin} {HINT}={HINT:#} {note}"), margin.len() + 3 + hang) + "\n"));
        };
        if !self.object.is_empty() {
            let path = if self.path.is_empty() { String::new() } else { format!(", {}", self.path) };
            note(&format!("{}{DIM}{path}{DIM:#}", self.object), 0);
        }
        if let Some(guess) = guess {
            note(&format!("{GOOD}help{GOOD:#}: did you mean {guess}"), 6);
        }
        match self.fix.trim_end() {
            "" => {}
            fix if !fix.contains('\n') => note(&format!("{GOOD}fix{GOOD:#}: {fix}"), 5),
            fix => {
                note(&format!("{GOOD}fix{GOOD:#}:"), 5);
                fix.lines().for_each(|line| text.push_str(&format!("{margin}     {line}\n")));
            }
        }
        text + "\n"
    }
}

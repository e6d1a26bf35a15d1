//! The one table of finding codes. `docs/findings.md` is made from it.

mod deviations;
mod istioctl;
mod kiali;
mod own;

use std::fmt::Write;

use mutua_model::Severity::{self, Error, Warning};

/// What a code means.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// The code: Kiali's (KIA), istioctl's (IST) or our own (MUT).
    pub code: &'static str,
    /// Its severity.
    pub severity: Severity,
    /// One line.
    pub title: &'static str,
    /// When it is raised, and why it matters.
    pub explanation: &'static str,
    /// What to do.
    pub advice: &'static str,
    /// Whether it is raised only when asked for.
    pub optional: bool,
}

impl Code {
    const fn only_when_asked(mut self) -> Self {
        self.optional = true;
        self
    }
}

const fn code(
    code: &'static str,
    severity: Severity,
    title: &'static str,
    explanation: &'static str,
    advice: &'static str,
) -> Code {
    Code { code, severity, title, explanation, advice, optional: false }
}

/// Every code that is raised, in order.
pub fn all() -> impl Iterator<Item = &'static Code> {
    istioctl::CODES.iter().chain(kiali::CODES).chain(own::CODES)
}

/// The severity of a code.
#[must_use]
pub fn severity(code: &str) -> Severity {
    all().find(|known| known.code == code).map_or(Error, |known| known.severity)
}

/// The text of `docs/findings.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = "# Findings\n\nMade from the table in `crates/policy/src/findings/codes`; do not edit.\n".to_owned();
    text.push_str(deviations::TEXT);
    for code in all() {
        let severity = match code.severity {
            Error => "error",
            Warning => "warning",
            Severity::Info => "info",
        };
        let asked = if code.optional { " (only with `--include`)" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n## {}: {}\n\nSeverity: {severity}{asked}\n\n{}\n\n{}\n",
            code.code, code.title, code.explanation, code.advice
        );
    }
    text
}

//! `mutua analyze --list`.

use std::fmt::Write;

use mutua_model::Severity;
use mutua_policy::findings::codes;

use super::Listed;
use crate::output::{self, BAD, DIM, Format, HEAD, WARN};

/// Prints every code with its explanation.
pub fn print(format: Format) -> anyhow::Result<()> {
    if format == Format::Table {
        return output::print(&text());
    }
    let codes: Vec<_> = codes::all().map(Listed::of).collect();
    output::print_value(&serde_json::json!({ "codes": codes }), format)
}

fn text() -> String {
    let mut text = String::new();
    for code in codes::all() {
        let (style, severity) = match code.severity {
            Severity::Error => (BAD, "error"),
            Severity::Warning => (WARN, "warning"),
            Severity::Info => (DIM, "info"),
        };
        let asked = if code.optional { format!(" {DIM}(only with --include {}){DIM:#}", code.code) } else { String::new() };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{style}{severity}[{}]{style:#} {HEAD}{}{HEAD:#}{asked}\n  {}\n  fix: {}\n",
            code.code, code.title, code.explanation, code.advice
        );
    }
    text
}

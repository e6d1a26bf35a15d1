//! What was looked at, in order: what decided with its line, what does not count with the reason.

use mutua_model::read::Inputs;
use mutua_policy::{Step, Verdict};

use crate::output::{DIM, GOOD, HEAD, HINT, WARN, prose, snippet};

/// The steps, one below the other.
pub fn show<'s>(steps: impl Iterator<Item = &'s Step>, inputs: Option<&Inputs>) -> String {
    // A default is worth a line only where nothing else decided.
    let shown = steps.filter(|step| !(step.object.is_empty() && step.verdict == Verdict::Overridden));
    shown.map(|step| of(step, inputs)).collect()
}

fn of(step: &Step, inputs: Option<&Inputs>) -> String {
    let object = if step.object.is_empty() { String::new() } else { format!("{HEAD}{}{HEAD:#}: ", step.object) };
    let place = place(step);
    if step.verdict != Verdict::Decided {
        let at = if place.is_empty() { String::new() } else { format!("  {HINT}{place}{HINT:#}") };
        return prose(&format!("  {DIM}·{DIM:#} {}: {DIM}{}{DIM:#}{at}", step.object, step.effect), 4) + "\n";
    }
    let mut text = prose(&format!("  {GOOD}✓{GOOD:#} {object}{}", step.effect), 4) + "\n";
    let lines = inputs.and_then(|inputs| snippet(inputs, (&step.file, step.line, step.column), HINT));
    match lines {
        Some(lines) => {
            text.push_str(&format!("    {HINT}-->{HINT:#} {place}\n"));
            lines.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
        }
        None if !place.is_empty() => text.push_str(&format!("    {HINT}-->{HINT:#} {place}\n")),
        None => {}
    }
    text
}

fn place(step: &Step) -> String {
    let assumed = if step.assumed { format!(" {WARN}(assumed){WARN:#}") } else { String::new() };
    match (step.file.as_str(), step.line) {
        ("", _) => String::new(),
        // What no text holds has its name in the place of a file.
        (file, 0) if file == step.object => String::new(),
        (file, 0) => format!("{file}{assumed}"),
        (file, line) => format!("{file}:{line}{assumed}"),
    }
}

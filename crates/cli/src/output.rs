//! How commands print: data on stdout, everything else on stderr, colour only for terminals, and a reader that
//! went away is a clean end.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use mutua_model::read::Inputs;
use serde::Serialize;

use crate::input::Refused;

/// `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// JSON, the contract for programs.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Good news.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// An error.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// A warning.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// A place, a hint.
pub const HINT: Style = AnsiColor::Cyan.on_default();
/// A heading.
pub const HEAD: Style = Style::new().bold();
/// Of lesser weight.
pub const DIM: Style = Style::new().dimmed();

/// Writes to stdout; escape sequences are dropped when it is no terminal or `NO_COLOR` is set.
///
/// # Errors
/// Stdout cannot be written; a closed pipe ends the program cleanly in `main`.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = anstream::AutoStream::auto(io::stdout().lock());
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Writes a line for the person at the terminal to stderr.
pub fn note(text: &str) {
    let mut stderr = anstream::AutoStream::auto(io::stderr().lock());
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(stderr, "{text}");
}

/// Prints a value as JSON or YAML.
///
/// # Errors
/// As [`print`].
pub fn print_value(value: &impl Serialize, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json | Format::Table => print(&(serde_json::to_string_pretty(value)? + "\n")),
        // By way of JSON, so that keys are strings there too.
        Format::Yaml => print(&serde_saphyr::to_string(&serde_json::to_value(value)?)?),
    }
}

/// A table in the manner of kubectl: upper-case headings, no lines, columns as wide as needed.
#[must_use]
pub fn table(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let text = table.to_string();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A line of a text with its number, and marks of a style below the field that begins at a column; `None` when there is
/// no such line or it is too long to be read.
#[must_use]
pub fn snippet(inputs: &Inputs, (file, line, column): (&str, u32, u32), style: Style) -> Option<String> {
    let text = inputs.line(file, line).filter(|text| text.chars().count() <= WIDEST)?.replace('\t', " ");
    let before = " ".repeat(usize::try_from(column).unwrap_or(1).saturating_sub(1));
    let marked: String = text.chars().skip(before.len()).collect();
    let marks = "^".repeat(marked.split(" #").next().unwrap_or_default().trim_end().chars().count().max(1));
    let margin = " ".repeat(line.to_string().len());
    Some(format!("{HINT}{line} |{HINT:#} {text}\n{HINT}{margin} |{HINT:#} {before}{style}{marks}{style:#}\n"))
}

/// Longer lines are not shown.
const WIDEST: usize = 160;

/// Breaks a line between words where stdout is a terminal that is narrower; what follows is indented by `hang`.
#[must_use]
pub fn prose(line: &str, hang: usize) -> String {
    let size = terminal_size::terminal_size_of(io::stdout()).filter(|_| io::stdout().is_terminal());
    match size.map(|(terminal_size::Width(width), _)| usize::from(width)).filter(|width| *width >= NARROWEST) {
        Some(width) => wrapped(line, width, hang),
        None => line.to_owned(),
    }
}

fn wrapped(line: &str, width: usize, hang: usize) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for (at, word) in line.split(' ').enumerate() {
        let length = anstream::adapter::strip_str(word).to_string().chars().count();
        if at > 0 && column > hang && column + 1 + length > width {
            text.push('\n');
            text.push_str(&" ".repeat(hang));
            column = hang;
        } else if at > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text
}

/// Narrower terminals break lines themselves.
const NARROWEST: usize = 40;

/// Prints an error with its causes, or an input that is refused with its line.
pub fn print_error(error: &anyhow::Error) {
    let mut text = format!("{BAD}error{BAD:#}: {error}");
    // A message that holds its cause already is not followed by it.
    for cause in error.chain().skip(1).map(ToString::to_string).filter(|cause| !error.to_string().contains(cause)) {
        text.push_str(&format!("\n  {DIM}because{DIM:#} {cause}"));
    }
    if let Some(refused) = error.downcast_ref::<Refused>() {
        text.push_str(&refused.lines);
    }
    note(&text);
}

/// Whether the error is that the reader of our output went away.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

/// Whether a person is watching stderr, so that progress may be shown.
#[must_use]
pub fn watched() -> bool {
    io::stderr().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_escapes_take_no_room() {
        assert_eq!(wrapped("help: one two three", 14, 6), "help: one two\n      three");
        assert_eq!(wrapped(&format!("{BAD}help{BAD:#}: one two"), 13, 6), format!("{BAD}help{BAD:#}: one two"));
        assert_eq!(wrapped("  unbreakable-as-it-is", 8, 2), "  unbreakable-as-it-is");
        assert_eq!(wrapped("a bb ccc", 4, 0), "a bb\nccc");
    }

    #[test]
    fn tables_have_no_trailing_space() {
        assert_eq!(table(&["name", "mode"], vec![vec!["a".into(), "STRICT".into()]]), "NAME   MODE\na      STRICT\n");
    }
}

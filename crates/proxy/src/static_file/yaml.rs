//! A YAML text as a tree whose every value knows its line. Anchors, aliases and several documents are not read: a file
//! that is written once for one sidecar needs none.

use granit_parser::{Event, Parser, ScalarStyle, StrInput};

use super::fields::Wrong;

/// The deepest nesting that is read.
const MAX_DEPTH: usize = 20;

/// One value.
#[derive(Debug)]
pub(super) struct Node {
    /// The line where it starts, from 1.
    pub line: usize,
    /// What it is.
    pub value: Value,
}

/// What a [`Node`] holds.
#[derive(Debug)]
pub(super) enum Value {
    /// A scalar; `plain` when it was written without quotes.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A mapping: key, the key's line, value.
    Map(Vec<(String, usize, Node)>),
}

/// Reads the only document of `text`.
///
/// # Errors
/// The first place where the text is no YAML of the kind that is read here.
pub(super) fn read(text: &str) -> Result<Node, Wrong> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder { parser: Parser::new_from_str_with_options(text, options) };
    let mut document = None;
    loop {
        let (event, line) = builder.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            _ if document.is_some() => return Err(Wrong::at(line, "a second document; one file is one sidecar")),
            event => document = Some(builder.node(event, line)?),
        }
    }
    document.ok_or_else(|| Wrong::at(1, "the file is empty"))
}

struct Builder<'text> {
    parser: Parser<'text, StrInput<'text>>,
}

impl<'text> Builder<'text> {
    fn next(&mut self) -> Result<(Event<'text>, usize), Wrong> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line().max(1))),
            Some(Err(error)) => Err(Wrong::at(error.marker().line().max(1), error.info())),
            None => Ok((Event::StreamEnd, 1)),
        }
    }

    fn node(&mut self, event: Event<'text>, line: usize) -> Result<Node, Wrong> {
        let value = match event {
            Event::Scalar(text, style, ..) => Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain },
            Event::SequenceStart(..) => self.list()?,
            Event::MappingStart(..) => self.map()?,
            Event::Alias(_) => return Err(Wrong::at(line, "aliases are not read here")),
            _ => return Err(Wrong::at(line, "a value is missing")),
        };
        Ok(Node { line, value })
    }

    fn list(&mut self) -> Result<Value, Wrong> {
        let mut items = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::List(items));
            }
            items.push(self.node(event, line)?);
        }
    }

    fn map(&mut self) -> Result<Value, Wrong> {
        let mut entries: Vec<(String, usize, Node)> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Value::Map(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(Wrong::at(line, "a key must be a single word or text")),
            };
            if entries.iter().any(|(known, ..)| *known == key) {
                return Err(Wrong::at(line, format!("the key `{key}` is given twice")));
            }
            let (event, value_line) = self.next()?;
            entries.push((key, line, self.node(event, value_line)?));
        }
    }
}

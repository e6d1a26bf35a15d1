//! Text to trees: YAML 1.2 with several documents, anchors and aliases (bounded), merge keys; JSON is YAML.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Parser, ScalarStyle, StrInput, StructureStyle};

use super::tree::{At, Entry, Node, Style, Value};

/// A text that is no YAML, or too much of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// Where.
    pub at: At,
    /// What is wrong.
    pub message: String,
}

/// The largest text that is read.
pub const MAX_BYTES: usize = 64 << 20;
/// The deepest nesting that is read.
pub const MAX_DEPTH: usize = 100;
/// How many nodes aliases may add to one text.
pub const MAX_ALIAS_NODES: usize = 100_000;

/// The documents of a text; empty documents are left out.
///
/// # Errors
/// The first place where the text is no YAML, holds a key twice, or exceeds a bound.
pub fn documents(text: &str) -> Result<Vec<Node>, SyntaxError> {
    if text.len() > MAX_BYTES {
        let message = format!("the text has {} bytes; at most {MAX_BYTES} are read", text.len());
        return Err(SyntaxError { at: (1, 1), message });
    }
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder =
        Builder { parser: Parser::new_from_str_with_options(text, options), alias_nodes: 0, anchors: HashMap::new() };
    builder.stream()
}

type Item<'text> = (Event<'text>, At);

struct Builder<'text> {
    parser: Parser<'text, StrInput<'text>>,
    /// Nodes that aliases have added so far.
    alias_nodes: usize,
    anchors: HashMap<usize, Anchored>,
}

/// What an anchor names, with its size and depth.
struct Anchored {
    node: Node,
    nodes: usize,
    depth: usize,
}

impl<'text> Builder<'text> {
    fn next(&mut self) -> Result<Item<'text>, SyntaxError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, position(&span.start))),
            Some(Err(error)) => {
                let (at, message) = (position(error.marker()), error.info());
                // The parser's own word for its bounds, which are ours.
                if message.contains("recursion limit") { Err(too_deep(at)) } else { Err(SyntaxError { at, message }) }
            }
            None => Ok((Event::StreamEnd, (1, 1))),
        }
    }

    fn stream(&mut self) -> Result<Vec<Node>, SyntaxError> {
        let mut documents = Vec::new();
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(documents),
                Event::DocumentStart(..) => self.anchors.clear(),
                Event::StreamStart | Event::DocumentEnd => {}
                event => {
                    let node = self.node((event, at), 0)?;
                    if !node.is_null() {
                        documents.push(node);
                    }
                }
            }
        }
    }

    fn node(&mut self, (event, at): Item<'text>, depth: usize) -> Result<Node, SyntaxError> {
        if depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
                let style = match style {
                    ScalarStyle::Plain if !is_text => Style::Plain,
                    ScalarStyle::Literal => Style::Block,
                    _ => Style::Quoted,
                };
                (Value::Scalar { text: text.into_owned().into_boxed_str(), style }, anchor)
            }
            Event::SequenceStart(style, anchor, _) => (self.list(depth, style)?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, at, depth),
            _ => return Err(SyntaxError { at, message: "a value is missing".to_owned() }),
        };
        let node = Node { at, value };
        if anchor != 0 {
            let (nodes, depth) = measure(&node);
            self.spend(nodes, at)?;
            self.anchors.insert(anchor, Anchored { node: node.clone(), nodes, depth });
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize, style: StructureStyle) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            let item = self.next()?;
            if matches!(item.0, Event::SequenceEnd) {
                return Ok(Value::List(items));
            }
            let item = self.node(item, depth + 1)?;
            items.push(if style == StructureStyle::Flow { text_with_a_colon(item) } else { item });
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        loop {
            let item = self.next()?;
            if matches!(item.0, Event::MappingEnd) {
                break;
            }
            let (key, at, plain) = self.key(item, depth)?;
            let next = self.next()?;
            let node = self.node(next, depth + 1)?;
            if plain && &*key == "<<" {
                merged.push((at, node));
                continue;
            }
            entries.push(Entry { key, at, node });
        }
        if let Some(twice) = second_of_a_key(&entries) {
            let message = format!("the key `{}` is given twice", super::tree::shortened(&twice.key));
            return Err(SyntaxError { at: twice.at, message });
        }
        let mut keys: HashSet<Box<str>> = match merged.len() {
            0 => HashSet::new(),
            _ => entries.iter().map(|entry| entry.key.clone()).collect(),
        };
        for (at, node) in merged {
            merge(&mut entries, &mut keys, node, at)?;
        }
        Ok(Value::Map(entries))
    }

    fn key(&mut self, item: Item<'text>, depth: usize) -> Result<(Box<str>, At, bool), SyntaxError> {
        let at = item.1;
        match self.node(item, depth + 1)?.value {
            Value::Scalar { text, style } => Ok((text, at, style == Style::Plain)),
            Value::List(_) | Value::Map(_) => {
                Err(SyntaxError { at, message: "a key must be a single word or text, not a list or mapping".to_owned() })
            }
        }
    }

    fn alias(&mut self, anchor: usize, at: At, depth: usize) -> Result<Node, SyntaxError> {
        let Some((nodes, height)) = self.anchors.get(&anchor).map(|target| (target.nodes, target.depth)) else {
            return Err(SyntaxError { at, message: "this alias stands inside the value that it names".to_owned() });
        };
        if depth + height > MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.spend(nodes, at)?;
        Ok(self.anchors[&anchor].node.clone())
    }

    fn spend(&mut self, nodes: usize, at: At) -> Result<(), SyntaxError> {
        self.alias_nodes += nodes;
        if self.alias_nodes <= MAX_ALIAS_NODES {
            return Ok(());
        }
        Err(SyntaxError { at, message: format!("anchors and aliases expand to more than {MAX_ALIAS_NODES} values") })
    }
}

/// `[fd00::]`: Kubernetes' YAML reads the colon before a bracket or comma as part of the text, not as the end of a key.
/// Only where another colon stands before it, as in an address; `[key:]` is rather a mistake.
fn text_with_a_colon(item: Node) -> Node {
    let pair = match &item.value {
        Value::Map(entries) => entries.as_slice(),
        _ => return item,
    };
    match pair {
        [only] if only.at == item.at && only.key.ends_with(':') && is_absent_after(only) => {
            let text = format!("{}:", only.key).into_boxed_str();
            Node { at: only.at, value: Value::Scalar { text, style: Style::Plain } }
        }
        _ => item,
    }
}

/// Whether nothing is written after the key: the parser puts its null where the key ends.
fn is_absent_after(entry: &Entry) -> bool {
    let length = u32::try_from(entry.key.chars().count()).unwrap_or(u32::MAX);
    entry.node.is_null() && entry.node.at == (entry.at.0, entry.at.1.saturating_add(length))
}

/// The first entry whose key stands before it already.
fn second_of_a_key(entries: &[Entry]) -> Option<&Entry> {
    const FEW: usize = 16;
    if entries.len() <= FEW {
        let mut positions = 1..entries.len();
        return positions.find(|at| entries[..*at].iter().any(|entry| entry.key == entries[*at].key)).map(|at| &entries[at]);
    }
    let mut order: Vec<_> = (0..entries.len()).collect();
    order.sort_by_key(|at| (&entries[*at].key, *at));
    let twice = order.windows(2).filter(|pair| entries[pair[0]].key == entries[pair[1]].key).map(|pair| pair[1]);
    twice.min().map(|at| &entries[at])
}

/// `<<`: the keys of another mapping, or of several, that are not given here.
fn merge(entries: &mut Vec<Entry>, keys: &mut HashSet<Box<str>>, node: Node, at: At) -> Result<(), SyntaxError> {
    match node.value {
        Value::Map(others) => {
            for other in others {
                if keys.insert(other.key.clone()) {
                    entries.push(other);
                }
            }
            Ok(())
        }
        Value::List(items) => items.into_iter().try_for_each(|item| merge(entries, keys, item, at)),
        Value::Scalar { .. } => Err(SyntaxError { at, message: "`<<` must name a mapping".to_owned() }),
    }
}

/// Number of nodes (a long text counts as several) and depth.
fn measure(node: &Node) -> (usize, usize) {
    const TEXT_OF_ONE_NODE: usize = 64;
    let children: Vec<_> = match &node.value {
        Value::Scalar { text, .. } => return (1 + text.len() / TEXT_OF_ONE_NODE, 0),
        Value::List(items) => items.iter().map(measure).collect(),
        Value::Map(entries) => entries.iter().map(|entry| measure(&entry.node)).collect(),
    };
    children.into_iter().fold((1, 1), |(nodes, depth), (more, below)| (nodes + more, depth.max(below + 1)))
}

fn position(marker: &granit_parser::Marker) -> At {
    let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    (bounded(marker.line().max(1)), bounded(marker.col() + 1))
}

fn too_deep(at: At) -> SyntaxError {
    SyntaxError { at, message: format!("nested deeper than {MAX_DEPTH} levels") }
}

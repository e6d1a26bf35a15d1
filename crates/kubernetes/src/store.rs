//! All objects that are known, and whether all kinds have been listed.

use std::collections::BTreeMap;
use std::sync::Arc;

use mutua_control::source::content::{Content, File};
use mutua_model::Diagnostic;
use mutua_model::read::{Loaded, Piece};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::kinds::WATCHED;
use crate::watch::Change;

/// An object's name within its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// One object.
#[derive(Clone, Debug)]
pub struct Entry {
    piece: Arc<Piece>,
    /// SHA-256 of its fields.
    hash: [u8; 32],
    /// Its JSON, when users configure the mesh by it.
    text: Option<Box<str>>,
    /// What is wrong with a newer form of it: until that is mended, this one stays in force.
    refused: Vec<Diagnostic>,
}

impl Entry {
    /// An object that was read from `value`.
    #[must_use]
    pub fn new(piece: Piece, value: &Value) -> Self {
        let text = value.to_string();
        let kind = piece.object.kind;
        let configures = WATCHED.iter().any(|watched| watched.kind == kind && watched.configures);
        Self {
            hash: Sha256::digest(text.as_bytes()).into(),
            text: configures.then(|| text.into_boxed_str()),
            piece: Arc::new(piece),
            refused: Vec::new(),
        }
    }
}

/// The objects of one kind.
#[derive(Debug, Default)]
struct Kind {
    listed: bool,
    objects: BTreeMap<Name, Entry>,
}

/// Everything that is known.
#[derive(Debug)]
pub struct Store {
    kinds: Vec<Kind>,
}

impl Default for Store {
    fn default() -> Self {
        Self { kinds: WATCHED.iter().map(|_| Kind::default()).collect() }
    }
}

impl Store {
    /// Takes a change of the kind at a position of [`WATCHED`].
    pub fn take(&mut self, (at, change): (usize, Change)) {
        let kind = &mut self.kinds[at];
        match change {
            Change::All(objects) => {
                let mut before = std::mem::take(&mut kind.objects);
                kind.listed = true;
                for (name, entry) in objects {
                    let known = before.remove(&name);
                    kind.objects.insert(name, newer(known, entry));
                }
            }
            Change::Apply(name, entry) => {
                let known = kind.objects.remove(&name);
                kind.objects.insert(name, newer(known, entry));
            }
            Change::Delete(name) => {
                kind.objects.remove(&name);
            }
        }
    }

    /// The kinds that have not been listed yet.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        WATCHED.iter().zip(&self.kinds).filter(|(_, kind)| !kind.listed).map(|(watched, _)| watched.plural)
    }

    /// Uses these objects in place of invalid ones that were never valid here: what was in force before a restart.
    pub fn remember(&mut self, content: &Content) {
        for entry in entries(content) {
            let object = &entry.piece.object;
            let name = Name { namespace: object.namespace.clone(), name: object.name.clone() };
            let at = WATCHED.iter().position(|watched| watched.kind == object.kind);
            let known = at.and_then(|at| self.kinds[at].objects.get_mut(&name)).filter(|known| !known.piece.is_valid());
            if let Some(known) = known {
                *known = newer(Some(entry), known.clone());
            }
        }
    }

    /// What users have configured, as it is in force.
    #[must_use]
    pub fn content(&self) -> Content {
        let texts = self.valid(true).filter_map(|entry| {
            let text = entry.text.as_ref()?;
            Some(File { path: entry.piece.object.to_string(), text: text.to_string() })
        });
        Content { files: texts.collect() }
    }

    /// A hash of everything that merely exists.
    #[must_use]
    pub fn registry(&self) -> String {
        let mut hash = Sha256::new();
        self.valid(false).for_each(|entry| hash.update(entry.hash));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The mesh of what exists, configured by `content` or, without it, by what is configured now.
    #[must_use]
    pub fn load(&self, content: Option<&Content>) -> Loaded {
        let exists = self.valid(false).map(|entry| Arc::clone(&entry.piece));
        let configured: Vec<_> = match content {
            Some(content) => entries(content).map(|entry| entry.piece).collect(),
            None => self.valid(true).map(|entry| Arc::clone(&entry.piece)).collect(),
        };
        let pieces: Vec<_> = exists.chain(configured).collect();
        Loaded::of(pieces.iter().map(AsRef::as_ref))
    }

    /// What is wrong with objects whose newest form is not in force.
    pub fn refused(&self) -> impl Iterator<Item = &Diagnostic> {
        let all = self.kinds.iter().flat_map(|kind| kind.objects.values());
        all.flat_map(|entry| if entry.piece.is_valid() { entry.refused.iter() } else { entry.piece.diagnostics.iter() })
    }

    fn valid(&self, configures: bool) -> impl Iterator<Item = &Entry> {
        let kinds = WATCHED.iter().zip(&self.kinds).filter(move |(watched, _)| watched.configures == configures);
        kinds.flat_map(|(_, kind)| kind.objects.values()).filter(|entry| entry.piece.is_valid())
    }
}

/// The newer form of an object, or the one that was valid before it with what is wrong with the newer. One that says the
/// same stays, so that whoever compares snapshots sees at once that nothing has changed.
fn newer(known: Option<Entry>, entry: Entry) -> Entry {
    match known {
        Some(known) if known.hash == entry.hash && known.refused.is_empty() => known,
        Some(known) if known.hash == entry.hash => Entry { refused: Vec::new(), ..known },
        Some(known) if !entry.piece.is_valid() && known.piece.is_valid() => {
            Entry { refused: entry.piece.diagnostics.clone(), ..known }
        }
        _ => entry,
    }
}

/// The objects that a kept content holds.
fn entries(content: &Content) -> impl Iterator<Item = Entry> {
    content.files.iter().filter_map(|file| {
        let value: Value = serde_json::from_str(&file.text).ok()?;
        Some(Entry::new(Piece::read(&value)?, &value))
    })
}

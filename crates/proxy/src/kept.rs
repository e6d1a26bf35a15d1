//! The configuration in force, kept over a restart: a sidecar that starts while the control plane is away serves by it
//! until its leaf ends. One file per type of resource in the state folder, replaced in one step before a response is
//! acknowledged, so that what is kept is never older than what the control plane was told.
//!
//! A file is a row of frames, each a kind, a length, a digest and a message: one head, the resources, one end with their
//! number. A change copies the frames that stay, one at a time, so that memory does not grow with the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::sync::Mutex;
use std::time::SystemTime;

use mutua_wire::content_version;
use mutua_wire::discovery::Resource;
use prost::Message;

use crate::certificate::{Store, StoreError};
use crate::settings::Workload;
use crate::world::Change;

/// The form of the files.
const FORM: u32 = 1;
/// The largest frame that is read, bytes: a resource never comes near it.
const LARGEST: u32 = 16 << 20;
/// The digest of a frame, hexadecimal.
const DIGEST: usize = 16;

/// Why what was kept is not used.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is damaged.
    #[error("{name}: {reason}")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The resources of one type, as they were kept.
#[derive(Debug)]
pub struct KeptType {
    /// The type of all of them.
    pub type_url: &'static str,
    /// The generation that they belong to.
    pub generation: String,
    /// The resources.
    pub resources: Vec<Resource>,
    /// When they were written.
    pub written: SystemTime,
}

impl KeptType {
    /// As the change that leads to them.
    #[must_use]
    pub fn change(&self) -> Change<'_> {
        Change { type_url: self.type_url, generation: &self.generation, resources: &self.resources, removed: &[] }
    }
}

/// What is kept of a workload's configuration.
#[derive(Debug)]
pub struct Kept {
    store: Store,
    workload: String,
    /// Types whose file is gone although the sidecar holds resources: they are asked for anew.
    lost: Mutex<BTreeSet<String>>,
}

#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(uint32, tag = "1")]
    form: u32,
    #[prost(string, tag = "2")]
    workload: String,
    #[prost(string, tag = "3")]
    type_url: String,
    #[prost(string, tag = "4")]
    generation: String,
}

#[derive(Clone, PartialEq, Message)]
struct End {
    #[prost(uint64, tag = "1")]
    resources: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Head = 1,
    Resource = 2,
    End = 3,
}

impl Kept {
    /// Over the state folder of `workload`.
    #[must_use]
    pub fn new(store: Store, workload: &Workload) -> Self {
        Self { store, workload: workload.to_string(), lost: Mutex::default() }
    }

    /// What is kept of `types`, in their order; nothing when one of them was never kept.
    ///
    /// # Errors
    /// A file that is damaged, another workload's or unreadable: then nothing of all is to be used.
    pub fn load(&self, types: &[&'static str]) -> Result<Option<Vec<KeptType>>, KeptError> {
        let mut all = Vec::new();
        for type_url in types {
            let Some((file, written)) = self.store.open_file(&name(type_url))? else { return Ok(None) };
            let mut reading = Reading::new(name(type_url), file);
            let generation = reading.head(&self.workload, type_url)?;
            let mut resources = Vec::new();
            while let Some(resource) = reading.resource()? {
                resources.push(decode::<Resource>(&reading.name, &resource)?);
            }
            all.push(KeptType { type_url, generation, resources, written });
        }
        Ok(Some(all))
    }

    /// Takes a change over that is in force. What cannot be kept is forgotten, because an older state must not come back.
    pub fn keep(&self, change: &Change<'_>) {
        if let Err(error) = self.write(change) {
            tracing::error!(
                %error,
                type_url = change.type_url,
                "the configuration could not be kept on disk; a restart would wait for the control plane"
            );
            self.forget(change.type_url);
        }
    }

    /// The versions to announce to the control plane of what is held: what is not on the disk any more is to be sent again.
    #[must_use]
    pub fn versions(&self, type_url: &str, held: BTreeMap<String, String>) -> BTreeMap<String, String> {
        let lost = self.lock().contains(type_url);
        held.into_iter().map(|(name, version)| (name, if lost { String::new() } else { version })).collect()
    }

    /// Forgets everything.
    pub fn clear(&self, types: &[&'static str]) {
        types.iter().for_each(|type_url| self.store.remove(&name(type_url)));
    }

    fn forget(&self, type_url: &str) {
        self.store.remove(&name(type_url));
        self.lock().insert(type_url.to_owned());
    }

    fn write(&self, change: &Change<'_>) -> Result<(), KeptError> {
        let name = name(change.type_url);
        let (draft, before) = (self.store.draft(&name)?, self.store.open_file(&name)?);
        let mut changed: BTreeMap<&str, &Resource> = change.resources.iter().map(|one| (one.name.as_str(), one)).collect();
        let removed: BTreeSet<&str> = change.removed.iter().map(String::as_str).collect();
        // What is given and taken away at once is gone.
        changed.retain(|name, _| !removed.contains(name));
        let failed = |source| self.store.failed(&name, source);
        let mut writing = Writing { to: BufWriter::new(draft), resources: 0 };
        let mut head = Head {
            form: FORM,
            workload: self.workload.clone(),
            type_url: change.type_url.to_owned(),
            generation: change.generation.to_owned(),
        };
        if let Some((file, _)) = before {
            let mut reading = Reading::new(name.clone(), file);
            let generation = reading.head(&self.workload, change.type_url)?;
            if head.generation.is_empty() {
                head.generation = generation;
            }
            writing.frame(Kind::Head, &head.encode_to_vec()).map_err(failed)?;
            while let Some(resource) = reading.resource()? {
                let known = decode::<Resource>(&name, &resource)?.name;
                if removed.contains(known.as_str()) {
                    continue;
                }
                let new = changed.remove(known.as_str()).map(Message::encode_to_vec);
                writing.frame(Kind::Resource, &new.unwrap_or(resource)).map_err(failed)?;
            }
        } else {
            writing.frame(Kind::Head, &head.encode_to_vec()).map_err(failed)?;
        }
        for resource in changed.values() {
            writing.frame(Kind::Resource, &resource.encode_to_vec()).map_err(failed)?;
        }
        writing.end().map_err(failed)?;
        self.store.put(&name)?;
        self.lock().remove(change.type_url);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The file of a type: `kept-TrustBundle`.
fn name(type_url: &str) -> String {
    format!("kept-{}", type_url.rsplit('.').next().unwrap_or(type_url))
}

struct Writing {
    to: BufWriter<File>,
    resources: u64,
}

impl Writing {
    fn frame(&mut self, kind: Kind, content: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(content.len()).ok().filter(|length| *length <= LARGEST);
        let length = length.ok_or_else(|| std::io::Error::new(ErrorKind::InvalidInput, "a resource is too large"))?;
        self.resources += u64::from(kind == Kind::Resource);
        self.to.write_all(&[kind as u8])?;
        self.to.write_all(&length.to_le_bytes())?;
        self.to.write_all(content_version(content).as_bytes())?;
        self.to.write_all(content)
    }

    /// Writes the end; the file is on the disk then.
    fn end(mut self) -> std::io::Result<()> {
        let end = End { resources: self.resources };
        self.frame(Kind::End, &end.encode_to_vec())?;
        self.to.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    }
}

struct Reading {
    name: String,
    from: BufReader<File>,
    resources: u64,
}

impl Reading {
    fn new(name: String, file: File) -> Self {
        Self { name, from: BufReader::new(file), resources: 0 }
    }

    /// Reads the head. Returns the generation.
    fn head(&mut self, workload: &str, type_url: &str) -> Result<String, KeptError> {
        let (kind, content) = self.frame()?;
        if kind != Kind::Head as u8 {
            return Err(self.damaged("it has no head"));
        }
        let head: Head = decode(&self.name, &content)?;
        if head.form != FORM {
            return Err(self.damaged(&format!("form {} is not known here", head.form)));
        }
        if head.workload != workload || head.type_url != type_url {
            return Err(self.damaged(&format!("it is of {}, not of {workload}", head.workload)));
        }
        Ok(head.generation)
    }

    /// The next resource, encoded; `None` at the end.
    fn resource(&mut self) -> Result<Option<Vec<u8>>, KeptError> {
        let (kind, content) = self.frame()?;
        if kind == Kind::Resource as u8 {
            self.resources += 1;
            return Ok(Some(content));
        }
        if kind != Kind::End as u8 {
            return Err(self.damaged("a frame is of no known kind"));
        }
        let end: End = decode(&self.name, &content)?;
        if end.resources != self.resources || !matches!(self.from.read(&mut [0]), Ok(0)) {
            return Err(self.damaged("its end does not fit"));
        }
        Ok(None)
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>), KeptError> {
        let mut head = [0; 1 + 4 + DIGEST];
        self.exactly(&mut head)?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        if length > LARGEST {
            return Err(self.damaged("a frame is too large"));
        }
        let mut content = vec![0; usize::try_from(length).unwrap_or_default()];
        self.exactly(&mut content)?;
        if content_version(&content).as_bytes() != &head[5..] {
            return Err(self.damaged("a digest does not fit its content"));
        }
        Ok((head[0], content))
    }

    fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), KeptError> {
        self.from.read_exact(bytes).map_err(|error| self.damaged(&error.to_string()))
    }

    fn damaged(&self, reason: &str) -> KeptError {
        KeptError::Damaged { name: self.name.clone(), reason: reason.to_owned() }
    }
}

fn decode<M: Message + Default>(name: &str, content: &[u8]) -> Result<M, KeptError> {
    M::decode(content).map_err(|error| KeptError::Damaged { name: name.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;

//! The text of a folder's files, read once: what is parsed, hashed and kept is the same bytes.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The most text that a folder may hold.
const MAX_BYTES: u64 = 256 << 20;
/// How deep folders are followed.
const MAX_DEPTH: usize = 32;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its path, as people should see it.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The files of a folder, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// In the order of their paths.
    pub files: Vec<File>,
}

/// A folder that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the configuration at {} cannot be read: {source}", path.display())]
pub struct ReadError {
    /// The file or folder.
    pub path: PathBuf,
    /// The operating system's answer, or what is wrong with the text.
    pub source: io::Error,
}

impl Content {
    /// Reads every `.yaml`, `.yml` and `.json` file below `root`. Names that begin with a dot are passed over, so that a
    /// mounted ConfigMap is read once, through its visible links.
    ///
    /// # Errors
    /// A folder or file that cannot be read, text that is not UTF-8, or more of it than 256 MiB.
    pub fn read(root: &Path) -> Result<Self, ReadError> {
        let mut content = Self::default();
        let mut left = MAX_BYTES;
        content.add(root, 0, &mut left)?;
        content.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(content)
    }

    /// SHA-256 over paths and texts, hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.files {
            for part in [&file.path, &file.text] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn add(&mut self, folder: &Path, depth: usize, left: &mut u64) -> Result<(), ReadError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ReadError { path, source }
        };
        if depth > MAX_DEPTH {
            return Err(failed(folder)(io::Error::other("folders are nested too deeply, or link to themselves")));
        }
        for entry in std::fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue;
            }
            let metadata = std::fs::metadata(&path).map_err(failed(&path))?;
            if metadata.is_dir() {
                self.add(&path, depth + 1, left)?;
            } else if metadata.is_file() && is_configuration(&path) {
                let taken = left.checked_sub(metadata.len());
                *left = taken.ok_or_else(|| failed(folder)(io::Error::other("more than 256 MiB of configuration")))?;
                let text = std::fs::read_to_string(&path).map_err(failed(&path))?;
                self.files.push(File { path: path.display().to_string(), text });
            }
        }
        Ok(())
    }
}

fn is_configuration(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_by_extension_in_order_and_hidden_ones_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        std::fs::create_dir_all(root.join("..v1/deep")).expect("made");
        std::fs::create_dir_all(root.join("sub")).expect("made");
        for (name, text) in [("..v1/b.yaml", "b"), ("sub/a.yml", "a"), ("c.json", "c"), ("d.txt", "d")] {
            std::fs::write(root.join(name), text).expect("written");
        }
        std::os::unix::fs::symlink("..v1/b.yaml", root.join("b.yaml")).expect("linked");
        let content = Content::read(root).expect("readable");
        let texts: Vec<_> = content.files.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(texts, ["b", "c", "a"]);
        std::fs::write(root.join("c.json"), "C").expect("written");
        assert_ne!(Content::read(root).expect("readable").digest(), content.digest());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a.yaml"), [0xff]).expect("written");
        let error = Content::read(folder.path()).expect_err("not UTF-8");
        assert!(error.to_string().contains("a.yaml"), "{error}");
        std::fs::write(folder.path().join("a.yaml"), "").expect("written");
        std::os::unix::fs::symlink(".", folder.path().join("loop")).expect("linked");
        Content::read(folder.path()).expect_err("a loop ends");
        assert!(Content::read(&folder.path().join("nowhere")).is_err());
    }
}

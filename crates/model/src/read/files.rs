//! The texts behind `-f`: files, folders and standard input.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::InputError;
use super::parse::MAX_BYTES;

type Text = (Arc<str>, Vec<u8>);

/// Deeper folders are not read.
const MAX_FOLDERS: usize = 32;

/// Reads every text that the paths name.
///
/// # Errors
/// The first that cannot be read.
pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<Text>, InputError> {
    let mut seen = BTreeSet::new();
    let mut texts = Vec::new();
    for path in paths {
        let path = path.as_ref();
        if path == Path::new("-") {
            if seen.insert(PathBuf::from("-")) {
                texts.push(read_stdin(path)?);
            }
            continue;
        }
        let mut found = Vec::new();
        if fs::metadata(path).map_err(unreadable(path))?.is_dir() {
            walk(path, &mut Vec::new(), &mut found)?;
        } else {
            found.push(path.to_owned());
        }
        for file in found {
            if seen.insert(fs::canonicalize(&file).map_err(unreadable(&file))?) {
                texts.push(read_file(&file)?);
            }
        }
    }
    Ok(texts)
}

/// `inside` holds the folders on the way here, links resolved.
fn walk(folder: &Path, inside: &mut Vec<PathBuf>, found: &mut Vec<PathBuf>) -> Result<(), InputError> {
    let resolved = fs::canonicalize(folder).map_err(unreadable(folder))?;
    if inside.contains(&resolved) {
        return Err(unreadable(folder)(io::Error::other("this link leads to a folder that holds it")));
    }
    if inside.len() > MAX_FOLDERS {
        return Err(unreadable(folder)(io::Error::other(format!("folders are nested deeper than {MAX_FOLDERS} levels"))));
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(unreadable(folder))?;
    let mut paths: Vec<_> = entries.iter().map(fs::DirEntry::path).filter(|path| !is_hidden(path)).collect();
    paths.sort();
    inside.push(resolved);
    for path in paths {
        if path.is_dir() {
            walk(&path, inside, found)?;
        } else if is_manifest(&path) {
            // A pipe would be waited for, for ever; one that is named itself is meant.
            if !fs::metadata(&path).map_err(unreadable(&path))?.is_file() {
                return Err(unreadable(&path)(io::Error::other("this is no file but a pipe, socket or device")));
            }
            found.push(path);
        }
    }
    inside.pop();
    Ok(())
}

/// Hidden entries are left out: among them is `..data`, through which Kubernetes shows a ConfigMap's files twice.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

fn read_file(path: &Path) -> Result<Text, InputError> {
    let file = fs::File::open(path).map_err(unreadable(path))?;
    Ok((Arc::from(path.display().to_string()), read_bounded(file).map_err(unreadable(path))?))
}

fn read_stdin(path: &Path) -> Result<Text, InputError> {
    Ok((Arc::from("-"), read_bounded(io::stdin().lock()).map_err(unreadable(path))?))
}

/// One byte more than may be parsed, so that the parser can tell that it is too much.
fn read_bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> InputError {
    let path = path.to_owned();
    move |error| InputError::Unreadable { path, error }
}

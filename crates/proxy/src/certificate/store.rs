//! Key and certificate in the state folder, readable by their owner only. A file that somebody else owns or may write is
//! never read: it is set aside at the start.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mutua_identity::{Credentials, IdentityError, PrivateKey};

/// The private key, PKCS#8.
const KEY: &str = "key.pem";
/// The chain, leaf first.
const CHAIN: &str = "cert-chain.pem";
/// The key of a join that has not been answered.
const JOIN_KEY: &str = "join-key.pem";
/// The end of the name of a file that was set aside.
const REFUSED: &str = "refused";
/// The longest key or chain that is read, bytes.
const LONGEST: u64 = 1 << 20;

/// The state folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct StoreError {
    path: PathBuf,
    source: std::io::Error,
}

/// The state folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the folder; makes it with mode 0700 when it is not there.
    ///
    /// # Errors
    /// It cannot be made or used.
    pub fn open(folder: PathBuf) -> Result<Self, StoreError> {
        Self::open_for(folder, rustix::process::geteuid().as_raw())
    }

    /// As [`Store::open`], for a process that is going to be the user `uid`. Files that are neither its own nor of the user
    /// that starts it, or that others may write, are set aside under `NAME.refused`.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_for(folder: PathBuf, uid: u32) -> Result<Self, StoreError> {
        let failed = |source| StoreError { path: folder.clone(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let owners = [uid, rustix::process::geteuid().as_raw()];
        for entry in std::fs::read_dir(&folder).map_err(failed)?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == REFUSED) {
                continue;
            }
            let Some(reason) = foreign(&path, owners) else { continue };
            tracing::error!(path = %path.display(), reason, "a file in the state folder is refused; it counts as not there");
            let aside = folder.join(format!("{}.{REFUSED}", entry.file_name().to_string_lossy()));
            std::fs::rename(&path, aside).map_err(|source| StoreError { path, source })?;
        }
        Ok(Self { folder })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The kept certificate with the time it was issued. Damaged files count as none.
    ///
    /// # Errors
    /// The files are there and cannot be read.
    pub fn load(&self) -> Result<Option<(Credentials, SystemTime)>, StoreError> {
        let path = self.folder.join(CHAIN);
        let Some(chain) = read(&path)? else { return Ok(None) };
        let issued = std::fs::metadata(&path).and_then(|data| data.modified()).unwrap_or(SystemTime::now());
        // After a stop between the two renames of `save`, the chain's key still has its temporary name.
        for name in [KEY.to_owned(), temporary(KEY)] {
            let Some(text) = read(&self.folder.join(name))? else { continue };
            match PrivateKey::from_pem(&text).and_then(|key| Credentials::new(&key, std::slice::from_ref(&chain))) {
                Ok(credentials) => return Ok(Some((credentials, issued))),
                Err(error) => tracing::warn!(path = %path.display(), %error, "the kept certificate cannot be used"),
            }
        }
        Ok(None)
    }

    /// Keeps a certificate, and forgets the key of the join. Whenever it is interrupted, chain and key that belong
    /// together can be found.
    ///
    /// # Errors
    /// A file cannot be written; the old ones stay then.
    pub fn save(&self, credentials: &Credentials) -> Result<(), StoreError> {
        self.prepare(KEY, credentials.key_pem())?;
        self.prepare(CHAIN, &credentials.chain_pem())?;
        self.put(CHAIN)?;
        self.put(KEY)?;
        // Gone already unless this certificate was joined for.
        let _ = std::fs::remove_file(self.folder.join(JOIN_KEY));
        Ok(())
    }

    /// The key to join with: the one of an unanswered join, or a new one.
    ///
    /// # Errors
    /// The file cannot be written or no key can be made.
    pub fn join_key(&self) -> Result<PrivateKey, super::CertificateError> {
        if let Some(key) = read(&self.folder.join(JOIN_KEY))?.and_then(|text| PrivateKey::from_pem(&text).ok()) {
            return Ok(key);
        }
        let key = PrivateKey::generate().map_err(|error: IdentityError| error)?;
        self.prepare(JOIN_KEY, &key.to_pkcs8_pem())?;
        self.put(JOIN_KEY)?;
        Ok(key)
    }

    /// Writes a file under its temporary name.
    fn prepare(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let mut file = self.draft(name)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|source| self.failed(&temporary(name), source))
    }

    /// A new file under the temporary name of `name`, for [`Store::put`].
    pub(crate) fn draft(&self, name: &str) -> Result<File, StoreError> {
        let path = self.folder.join(temporary(name));
        let opened = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        opened.map_err(|source| StoreError { path, source })
    }

    /// A file for reading, with the time of its last change; `None` when there is none.
    pub(crate) fn open_file(&self, name: &str) -> Result<Option<(File, SystemTime)>, StoreError> {
        let path = self.folder.join(name);
        match File::open(&path) {
            Ok(file) => {
                let written = file.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                Ok(Some((file, written)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError { path, source }),
        }
    }

    /// Removes a file, and its draft. One that cannot be removed is told of.
    pub(crate) fn remove(&self, name: &str) {
        for name in [name.to_owned(), temporary(name)] {
            let path = self.folder.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::error!(path = %path.display(), %error, "an outdated file stays in the state folder");
                }
                _ => {}
            }
        }
    }

    pub(crate) fn failed(&self, name: &str, source: std::io::Error) -> StoreError {
        StoreError { path: self.folder.join(name), source }
    }

    /// Gives a prepared file its name.
    pub(crate) fn put(&self, name: &str) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        std::fs::rename(self.folder.join(temporary(name)), &path).map_err(|source| StoreError { path, source })
    }
}

fn temporary(name: &str) -> String {
    format!(".{name}.new")
}

/// Why a file is not to be believed.
fn foreign(path: &Path, owners: [u32; 2]) -> Option<&'static str> {
    let data = std::fs::symlink_metadata(path).ok()?;
    if data.file_type().is_symlink() {
        return Some("it is a link");
    }
    if !data.is_file() {
        return None;
    }
    if !owners.contains(&data.uid()) {
        return Some("it belongs to another user");
    }
    (data.mode() & 0o022 != 0).then_some("others may write it")
}

fn read(path: &Path) -> Result<Option<String>, StoreError> {
    let text = File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text).map(|_| text)
    });
    match text {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError { path: path.to_path_buf(), source }),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

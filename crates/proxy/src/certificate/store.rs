//! Key and certificate in the state folder, readable by their owner only.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mutua_identity::{Credentials, IdentityError, PrivateKey};

/// The private key, PKCS#8.
const KEY: &str = "key.pem";
/// The chain, leaf first.
const CHAIN: &str = "cert-chain.pem";
/// The key of a join that has not been answered.
const JOIN_KEY: &str = "join-key.pem";

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
        let failed = |source| StoreError { path: folder.clone(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
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
        let path = self.folder.join(temporary(name));
        let write = || {
            let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|source| StoreError { path: path.clone(), source })
    }

    /// Gives a prepared file its name.
    fn put(&self, name: &str) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        std::fs::rename(self.folder.join(temporary(name)), &path).map_err(|source| StoreError { path, source })
    }
}

fn temporary(name: &str) -> String {
    format!(".{name}.new")
}

fn read(path: &Path) -> Result<Option<String>, StoreError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError { path: path.to_path_buf(), source }),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

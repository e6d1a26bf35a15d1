//! Key and certificate in the state folder, readable by their owner only.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mutua_identity::{Credentials, IdentityError, PrivateKey};

/// Key and chain in one file, so that they always belong together.
const IDENTITY: &str = "identity.pem";
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

    /// The kept certificate with the time it was issued. A damaged file counts as none.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn load(&self) -> Result<Option<(Credentials, SystemTime)>, StoreError> {
        let path = self.folder.join(IDENTITY);
        let Some(text) = read(&path)? else { return Ok(None) };
        let issued = std::fs::metadata(&path).and_then(|data| data.modified()).unwrap_or(SystemTime::now());
        match PrivateKey::from_pem(&text).and_then(|key| Credentials::new(&key, &[text])) {
            Ok(credentials) => Ok(Some((credentials, issued))),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the kept certificate cannot be used");
                Ok(None)
            }
        }
    }

    /// Keeps a certificate, and forgets the key of the join.
    ///
    /// # Errors
    /// The file cannot be written; the old one stays then.
    pub fn save(&self, credentials: &Credentials) -> Result<(), StoreError> {
        self.write(IDENTITY, &format!("{}{}", credentials.key_pem(), credentials.chain_pem()))?;
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
        self.write(JOIN_KEY, &key.to_pkcs8_pem())?;
        Ok(key)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let (path, temporary) = (self.folder.join(name), self.folder.join(format!(".{name}.new")));
        let write = || {
            let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|source| StoreError { path: path.clone(), source })
    }
}

fn read(path: &Path) -> Result<Option<String>, StoreError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError { path: path.to_path_buf(), source }),
    }
}

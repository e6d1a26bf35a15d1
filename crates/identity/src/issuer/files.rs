//! The files of a signing CA, under the names that Istio uses.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::IdentityError;

/// Istio's names: signing certificate, its key, roots, and the chain between them.
const ISTIO: Names =
    Names { certificate: "ca-cert.pem", key: "ca-key.pem", root: "root-cert.pem", chain: Some("cert-chain.pem") };
/// The names of a Kubernetes TLS secret, recognised by `tls.crt`.
const TLS: Names = Names { certificate: "tls.crt", key: "tls.key", root: "ca.crt", chain: None };
/// The revocation lists of the CAs, if there are any: under either set of names, as in Istio.
const REVOCATIONS: &str = "ca-crl.pem";
/// The mode of a file that only its owner can read.
const PRIVATE: u32 = 0o600;
/// The mode of a file that everybody can read.
const PUBLIC: u32 = 0o644;

struct Names {
    certificate: &'static str,
    key: &'static str,
    root: &'static str,
    chain: Option<&'static str>,
}

impl Names {
    fn all(&self) -> impl Iterator<Item = &'static str> {
        [self.certificate, self.key, self.root].into_iter().chain(self.chain)
    }
}

/// What the files of a CA hold, PEM.
pub(super) struct Texts {
    pub(super) certificate: String,
    pub(super) certificate_path: PathBuf,
    pub(super) key: String,
    pub(super) key_path: PathBuf,
    pub(super) root: String,
    pub(super) root_path: PathBuf,
    pub(super) chain: String,
    pub(super) revocations: Option<String>,
    pub(super) revocations_path: PathBuf,
}

/// Whether `folder` holds any file of a CA.
pub(super) fn exists(folder: &Path) -> bool {
    ISTIO.all().any(|name| folder.join(name).exists())
}

/// What stands of a self-signed root that was being written when its process died: the key, and the certificate if any of
/// its files is there. `None` when the set is complete, not begun, or somebody else's.
pub(super) fn begun_root(folder: &Path) -> Result<Option<(String, Option<String>)>, IdentityError> {
    let read = |name: &str| match fs::read_to_string(folder.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(IdentityError::File { path: folder.join(name), reason }),
    };
    // Written last.
    if folder.join(ISTIO.certificate).exists() {
        return Ok(None);
    }
    let (chain, root) = (read("cert-chain.pem")?, read(ISTIO.root)?);
    let Some(key) = read(ISTIO.key)?.filter(|_| root.is_none() || root == chain) else { return Ok(None) };
    Ok(Some((key, chain)))
}

/// Reads a complete set of files.
pub(super) fn read(folder: &Path) -> Result<Texts, IdentityError> {
    let names = if folder.join(TLS.certificate).exists() { &TLS } else { &ISTIO };
    let missing: Vec<&str> = names.all().filter(|name| !folder.join(name).exists()).collect();
    if !missing.is_empty() {
        return Err(IdentityError::IncompleteCa { folder: folder.to_owned(), missing: missing.join(", ") });
    }
    let text = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(|reason| IdentityError::File { path, reason })
    };
    Ok(Texts {
        certificate: text(names.certificate)?,
        certificate_path: folder.join(names.certificate),
        key: text(names.key)?,
        key_path: folder.join(names.key),
        root: text(names.root)?,
        root_path: folder.join(names.root),
        chain: names.chain.map(text).transpose()?.unwrap_or_default(),
        revocations: folder.join(REVOCATIONS).exists().then(|| text(REVOCATIONS)).transpose()?,
        revocations_path: folder.join(REVOCATIONS),
    })
}

/// Writes a self-signed root as a complete set: key first, so that a crash in between leaves a set that [`begun_root`]
/// finds, instead of a certificate with a key nobody can find again.
pub(super) fn write_root(folder: &Path, key_pem: &str, certificate_pem: &str) -> Result<(), IdentityError> {
    write(&folder.join(ISTIO.key), key_pem, PRIVATE)?;
    for name in ["cert-chain.pem", "root-cert.pem", "ca-cert.pem"] {
        write(&folder.join(name), certificate_pem, PUBLIC)?;
    }
    Ok(())
}

/// Writes a file whole or not at all, on disk before it has its name.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let draft = path.with_extension("pem.new");
    let written = write_draft(&draft, text, mode).and_then(|()| fs::rename(&draft, path)).and_then(|()| sync_folder(path));
    written.map_err(|reason| {
        // The draft may hold half of a key; that it cannot be removed too changes nothing for the caller.
        let _ = fs::remove_file(&draft);
        IdentityError::File { path: path.to_owned(), reason }
    })
}

fn write_draft(draft: &Path, text: &str, mode: u32) -> io::Result<()> {
    let _ = fs::remove_file(draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

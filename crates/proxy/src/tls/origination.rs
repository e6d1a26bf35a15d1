//! TLS towards servers outside the mesh, with files that a DestinationRule names, or what its `credentialName` stands for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mutua_identity::tls::Roots;
use mutua_identity::{Algorithms, ClientConfig, Origination, PrivateKey, TlsError};

use crate::world::{ClientMode, ClientTls};

/// The largest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Why TLS settings of a destination cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OriginationError {
    /// No folder is allowed.
    #[error("{0}: files are read only below --tls-dir, and none is given")]
    NoFolder(PathBuf),
    /// The file lies outside the allowed folders, links resolved.
    #[error("{0}: lies outside the folders of --tls-dir")]
    Outside(PathBuf),
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// There is nothing behind a `credentialName`; falling back to other roots would trust what the rule does not.
    #[error("credentialName {name}: {problem}")]
    Credential {
        /// The name.
        name: String,
        /// What the control plane says of it.
        problem: String,
    },
    /// MUTUAL needs both.
    #[error("MUTUAL needs clientCertificate and privateKey")]
    Incomplete,
    /// The private key is none.
    #[error("{place}: {reason}")]
    Key {
        /// The file, or the secret.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The contents of the files cannot be used.
    #[error("{error} (the rule names {files})")]
    Contents {
        /// The fields of the rule with what they name.
        files: String,
        /// What is wrong.
        error: TlsError,
    },
}

/// The contents of what one rule names.
#[derive(PartialEq, Eq)]
pub struct Files {
    certificate: Option<String>,
    key: Option<String>,
    roots: Option<String>,
    crl: Option<String>,
}

impl Files {
    /// Reads what `tls` names, below `folders` only.
    ///
    /// # Errors
    /// A file that is missing, unreadable, or outside `folders`.
    pub fn read(tls: &ClientTls, folders: &[PathBuf]) -> Result<Self, OriginationError> {
        if !tls.credential_name.is_empty() {
            return Self::given(tls);
        }
        let mutual = tls.mode == ClientMode::Mutual;
        if mutual && (tls.client_certificate.is_empty() || tls.private_key.is_empty()) {
            return Err(OriginationError::Incomplete);
        }
        let read = |name: &str, wanted: bool| if wanted && !name.is_empty() { read(name, folders).map(Some) } else { Ok(None) };
        Ok(Self {
            certificate: read(&tls.client_certificate, mutual)?,
            key: read(&tls.private_key, mutual)?,
            roots: read(&tls.ca_certificates, !tls.insecure_skip_verify)?,
            crl: read(&tls.ca_crl, !tls.insecure_skip_verify)?,
        })
    }

    /// What the control plane gave for a `credentialName`. Nothing that the mode needs may be missing: it would weaken the
    /// connection.
    fn given(tls: &ClientTls) -> Result<Self, OriginationError> {
        let refused =
            |problem: &str| OriginationError::Credential { name: tls.credential_name.clone(), problem: problem.to_owned() };
        let Some(given) = &tls.credential else { return Err(refused("the control plane gave nothing for it")) };
        if !given.problem.is_empty() {
            return Err(refused(&given.problem));
        }
        let mutual = tls.mode == ClientMode::Mutual;
        if mutual && (given.certificate.is_empty() || given.private_key.is_empty()) {
            return Err(refused("without a certificate and a key"));
        }
        if given.roots.is_empty() && !tls.insecure_skip_verify {
            return Err(refused("without roots"));
        }
        let part = |text: &String, wanted: bool| (wanted && !text.is_empty()).then(|| text.clone());
        Ok(Self {
            certificate: part(&given.certificate, mutual),
            key: part(&given.private_key, mutual),
            roots: part(&given.roots, !tls.insecure_skip_verify),
            crl: part(&given.revocation_list, !tls.insecure_skip_verify),
        })
    }

    /// The client configuration of these contents under `tls`.
    ///
    /// # Errors
    /// Contents that cannot be used.
    pub fn client(
        &self,
        tls: &ClientTls,
        verify_server_name: bool,
        algorithms: &Algorithms,
    ) -> Result<ClientConfig, OriginationError> {
        let client = match (&self.certificate, &self.key) {
            (Some(chain), Some(key)) => {
                let wrong = |reason: mutua_identity::IdentityError| OriginationError::Key {
                    place: if tls.credential_name.is_empty() {
                        tls.private_key.clone()
                    } else {
                        format!("credentialName {}: private key", tls.credential_name)
                    },
                    reason: reason.to_string(),
                };
                Some((chain.clone(), Arc::new(PrivateKey::from_pem(key).map_err(wrong)?)))
            }
            _ => None,
        };
        let settings = Origination {
            client,
            roots: self.roots.clone().map_or(Roots::System, Roots::Pem),
            names: tls.subject_alt_names.clone(),
            verify_server_name,
            crl: self.crl.clone(),
            insecure_skip_verify: tls.insecure_skip_verify,
            algorithms: algorithms.clone(),
        };
        ClientConfig::origination(&settings).map_err(|error| OriginationError::Contents { files: self.named(tls), error })
    }

    /// What was read, by the fields of the rule.
    fn named(&self, tls: &ClientTls) -> String {
        if !tls.credential_name.is_empty() {
            return format!("credentialName {}", tls.credential_name);
        }
        let files = [
            ("clientCertificate", &self.certificate, &tls.client_certificate),
            ("caCertificates", &self.roots, &tls.ca_certificates),
            ("caCrl", &self.crl, &tls.ca_crl),
        ];
        let read = files.iter().filter(|(_, text, _)| text.is_some());
        read.map(|(field, _, path)| format!("{field} {path}")).collect::<Vec<_>>().join(", ")
    }
}

fn read(name: &str, folders: &[PathBuf]) -> Result<String, OriginationError> {
    let path = PathBuf::from(name);
    if folders.is_empty() {
        return Err(OriginationError::NoFolder(path));
    }
    let unreadable = |source| OriginationError::Unreadable { path: path.clone(), source };
    let resolved = path.canonicalize().map_err(unreadable)?;
    let below = |folder: &PathBuf| folder.canonicalize().is_ok_and(|folder| resolved.starts_with(folder));
    if !folders.iter().any(below) {
        return Err(OriginationError::Outside(path));
    }
    bounded(&resolved).map_err(unreadable)
}

fn bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("no regular file"));
    }
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other(format!("longer than {MAX_FILE} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_below_the_folders_only() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out.pem"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(&outside, "secret").unwrap();
        std::fs::write(inside.join("ok.pem"), "fine").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link.pem")).unwrap();
        let allowed = [inside.clone()];
        let name = |path: PathBuf| path.to_str().unwrap().to_owned();
        assert_eq!(read(&name(inside.join("ok.pem")), &allowed).unwrap(), "fine");
        assert!(matches!(read(&name(inside.join("link.pem")), &allowed), Err(OriginationError::Outside(_))));
        assert!(matches!(read(&name(inside.join("../out.pem")), &allowed), Err(OriginationError::Outside(_))));
        assert!(matches!(read(&name(outside), &[]), Err(OriginationError::NoFolder(_))));
        assert!(matches!(read(&name(inside.join("none")), &allowed), Err(OriginationError::Unreadable { .. })));
    }
}

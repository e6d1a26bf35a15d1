//! A signing CA as an operator plugs it in: a root, an intermediate below it and their revocation lists, by openssl.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The intermediate that signs at first.
pub const SIGNER: &str = "signer";
/// The root.
pub const ROOT: &str = "root";

/// A root with intermediates, and the folder that is handed to a control plane.
pub struct Pki {
    folder: tempfile::TempDir,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    /// A root, and the intermediate [`SIGNER`], which is plugged in.
    #[must_use]
    pub fn new() -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(this.dir()).unwrap();
        std::fs::write(this.path("ca.cnf"), CONFIGURATION).unwrap();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "root-key.pem"];
        let root = ["-x509", "-days", "3650", "-subj", "/CN=root", "-extensions", "authority", "-out", "root-cert.pem"];
        this.openssl(&[&["req", "-config", "ca.cnf"][..], &key, &root].concat());
        this.intermediate(SIGNER);
        this.plug(SIGNER);
        this
    }

    /// The folder for `--ca-dir`, with Istio's file names.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.path("plugged")
    }

    /// Makes a further intermediate.
    pub fn intermediate(&self, name: &str) {
        let [key, request, certificate] = ["key.pem", "csr.pem", "cert.pem"].map(|file| format!("{name}-{file}"));
        let subject = format!("/CN={name}");
        let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", &key, "-subj", &subject];
        self.openssl(&[&["req", "-config", "ca.cnf"][..], &new, &["-out", &request]].concat());
        let by_root = ["-CA", "root-cert.pem", "-CAkey", "root-key.pem", "-CAcreateserial", "-days", "3000"];
        let as_authority = ["-extfile", "ca.cnf", "-extensions", "authority"];
        self.openssl(&[&["x509", "-req", "-in", &request, "-out", &certificate][..], &by_root, &as_authority].concat());
    }

    /// Puts an intermediate's files into the folder, in place of those before.
    pub fn plug(&self, name: &str) {
        let read = |file: String| std::fs::read_to_string(self.path(&file)).unwrap();
        let (certificate, root) = (read(format!("{name}-cert.pem")), read("root-cert.pem".to_owned()));
        self.put("ca-key.pem", &read(format!("{name}-key.pem")));
        self.put("cert-chain.pem", &format!("{certificate}{root}"));
        self.put("root-cert.pem", &root);
        self.put("ca-cert.pem", &certificate);
    }

    /// Writes a file of the folder.
    pub fn put(&self, name: &str, text: &str) {
        std::fs::write(self.path("draft"), text).unwrap();
        std::fs::rename(self.path("draft"), self.dir().join(name)).unwrap();
    }

    /// The serial number of an intermediate, hexadecimal.
    #[must_use]
    pub fn serial(&self, name: &str) -> String {
        let said = self.openssl(&["x509", "-in", &format!("{name}-cert.pem"), "-noout", "-serial"]);
        said.trim().trim_start_matches("serial=").to_owned()
    }

    /// The list of one CA that revokes these serial numbers (hexadecimal), good for so many seconds.
    #[must_use]
    pub fn list(&self, name: &str, revoked: &[&str], seconds: u32) -> String {
        let lines = revoked.iter().map(|serial| {
            let digits = serial.to_uppercase();
            let even = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits };
            format!("R\t491231235959Z\t250101000000Z\t{even}\tunknown\t/CN=x\n")
        });
        std::fs::write(self.path("index.txt"), lines.collect::<String>()).unwrap();
        std::fs::write(self.path("crlnumber"), "01\n").unwrap();
        let (certificate, key) = (format!("{name}-cert.pem"), format!("{name}-key.pem"));
        let by = ["-cert", &certificate, "-keyfile", &key, "-crlsec", &seconds.to_string()];
        self.openssl(&[&["ca", "-config", "ca.cnf", "-gencrl"][..], &by].concat())
    }

    /// The lists of root and [`SIGNER`], the latter with these serial numbers, good for a day.
    #[must_use]
    pub fn lists(&self, revoked: &[&str]) -> String {
        self.list(ROOT, &[], 86_400) + &self.list(SIGNER, revoked, 86_400)
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    fn openssl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        let output = command.output().expect("openssl is installed (apt-get install openssl)");
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

const CONFIGURATION: &str = "\
[req]
distinguished_name = nobody
prompt = no
[nobody]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[ca]
default_ca = lists
[lists]
database = index.txt
crlnumber = crlnumber
default_md = sha256
";

use mutua_identity::{Ca, TrustDomain, certificate_request};

use super::*;
use crate::world::{ClientMode, Mode, Protocol};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(folder.path(), &TrustDomain::new("cluster.local").unwrap()).unwrap();
        let key = PrivateKey::generate().unwrap();
        let id = "spiffe://cluster.local/ns/shop/sa/client".parse().unwrap();
        let leaf = ca.sign(&certificate_request(&key).unwrap(), &id, std::time::Duration::from_secs(3600)).unwrap();
        std::fs::write(folder.path().join("client.crt"), leaf.chain_pem.concat()).unwrap();
        std::fs::write(folder.path().join("client.key"), key.to_pkcs8_pem()).unwrap();
        std::fs::write(folder.path().join("ca.crt"), ca.bundle().to_pem()).unwrap();
        Self(folder)
    }

    fn read(&self, text: &str) -> Result<StaticConfig, String> {
        let file = self.0.path().join("sidecar.yaml");
        std::fs::write(&file, text).unwrap();
        StaticConfig::read(&file).map_err(|error| error.to_string().replace(&format!("{}/", self.0.path().display()), ""))
    }
}

const WHOLE: &str = include_str!("../../../../docs/static.example.yaml");

#[test]
fn the_documented_example_is_in_force_as_it_reads() {
    let folder = Folder::new();
    let world = World::default();
    folder.read(WHOLE).unwrap().apply(&world).unwrap();
    let now = world.current();
    assert!(now.is_ready() && !now.registry_only);
    let inbound = now.inbound.as_ref().unwrap();
    assert_eq!(inbound.treatment(8080), (Mode::Strict, Protocol::Http));
    assert_eq!(inbound.treatment(9), (Mode::Strict, Protocol::Auto));
    assert_eq!(inbound.treatment(9090), (Mode::Permissive, Protocol::Tcp));
    assert_eq!(inbound.server.trust_domains[0].as_str(), "cluster.local");
    let found = now.table.find("10.96.0.10:80".parse().unwrap()).unwrap();
    assert_eq!(found.port.tls.mode, ClientMode::IstioMutual);
    assert_eq!(found.port.tls.peer.0.ids, ["spiffe://cluster.local/ns/shop/sa/server"]);
    assert_eq!(found.port.tls.peer.0.trust_domains[0].as_str(), "cluster.local");
    assert!(found.port.endpoints.iter().all(|endpoint| endpoint.tls) && found.port.endpoints.len() == 2);
    assert_eq!(found.port.decided_by, "line 38");
}

#[test]
fn a_second_reading_replaces_the_first() {
    let folder = Folder::new();
    let world = World::default();
    folder.read(WHOLE).unwrap().apply(&world).unwrap();
    let without = &WHOLE[..WHOLE.find("destinations:").unwrap()];
    folder.read(without).unwrap().apply(&world).unwrap();
    assert!(world.current().table.destinations().is_empty() && world.current().registry_only);
}

/// Each change of the example with what is said of it.
#[test]
fn what_is_wrong_names_file_line_and_field() {
    let folder = Folder::new();
    for (from, to, said) in [
        (
            "mode: STRICT",
            "mode: strict",
            "sidecar.yaml:15: inbound/mode: \"strict\" is not allowed; one of DISABLE, PERMISSIVE, STRICT",
        ),
        (
            "ports:",
            "prots:",
            "sidecar.yaml:16: inbound/prots: no such field; allowed here: mode, ports, trustDomains, minTlsVersion, cipherSuites, labels",
        ),
        ("port: 8080", "port: 80800", "sidecar.yaml:17: inbound/ports[0]/port: \"80800\" is no port; 1 to 65535 is allowed"),
        (
            "workload: shop/client",
            "workload: client",
            "sidecar.yaml:4: workload: \"client\" is no workload; write it as NAMESPACE/NAME",
        ),
        (
            "chain: client.crt",
            "chain: clinet.crt",
            "sidecar.yaml:6: certificate/chain: clinet.crt: No such file or directory (os error 2)",
        ),
        (
            "key: client.key",
            "key: ca.crt",
            "sidecar.yaml:7: certificate/key: ca.crt: private key: no PEM private key of a known kind",
        ),
        (
            "chain: client.crt",
            "chain: ca.crt",
            "sidecar.yaml:6: certificate/chain: ca.crt: the private key does not belong to the certificate",
        ),
        (
            "[10.96.0.10]",
            "[10.96.0.300]",
            "sidecar.yaml:35: destinations[0]/addresses[0]: \"10.96.0.300\" is no IP address or prefix",
        ),
        ("  - ca.crt", "  []", "sidecar.yaml:10: trustBundle: names no file; without roots no peer can be trusted"),
        ("mode: ISTIO_MUTUAL", "mode: [a]", "sidecar.yaml:41: destinations[0]/ports[0]/tls/mode: must be a text"),
    ] {
        assert!(WHOLE.contains(from), "{from}");
        assert_eq!(folder.read(&WHOLE.replacen(from, to, 1)).err().as_deref(), Some(said));
    }
    let error = folder.read("workload: a/b\ncertificate: @x\n").err().unwrap();
    assert!(error.starts_with("sidecar.yaml:2: "), "{error}");
    let error = folder.read("workload: a/b\nworkload: a/c\n").err().unwrap();
    assert_eq!(error, "sidecar.yaml:2: the key `workload` is given twice");
    assert_eq!(folder.read("").err().unwrap(), "sidecar.yaml:1: the file is empty");
    assert_eq!(folder.read("{workload: a/b}").err().unwrap(), "sidecar.yaml:1: certificate: is missing");
}

#[test]
fn an_unreadable_file_is_named() {
    let error = StaticConfig::read(Path::new("/nowhere/x.yaml")).err().unwrap().to_string();
    assert_eq!(error, "--static /nowhere/x.yaml: No such file or directory (os error 2)");
}

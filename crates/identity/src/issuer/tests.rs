#[path = "revocation_tests.rs"]
mod revocation;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use x509_parser::prelude::FromDer;

use super::*;
use crate::{CertificateInfo, Credentials, IdentityError, PrivateKey, SpiffeId, TrustDomain, certificate_request};

const HOUR: Duration = Duration::from_secs(3600);

fn domain() -> TrustDomain {
    TrustDomain::new("cluster.local").unwrap()
}

fn cart() -> SpiffeId {
    SpiffeId::new(domain(), "shop", "cart").unwrap()
}

fn new_ca() -> (tempfile::TempDir, Ca) {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::load_or_create(folder.path(), &domain()).unwrap();
    (folder, ca)
}

#[test]
fn a_leaf_is_as_istio_issues_it() {
    let (_folder, ca) = new_ca();
    let key = PrivateKey::generate().unwrap();
    let before = SystemTime::now();
    let issued = ca.sign(&certificate_request(&key).unwrap(), &cart(), HOUR).unwrap();
    let der = pem::parse(&issued.chain_pem[0]).unwrap().into_contents();
    let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(&der).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical, "SPIFFE: the names of a certificate without subject are critical");
    assert_eq!(san.value.general_names.len(), 1);
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth);
    let basic = leaf.basic_constraints().unwrap().unwrap();
    assert!(!basic.value.ca);
    assert!(leaf.raw_serial().len() == 16 && leaf.raw_serial()[0] < 0x80);
    let info = CertificateInfo::from_pem(&issued.chain_pem[0]).unwrap();
    assert_eq!(info.uris, ["spiffe://cluster.local/ns/shop/sa/cart"]);
    let backdated = before.duration_since(info.not_before).unwrap();
    assert!((119..=122).contains(&backdated.as_secs()), "{backdated:?}");
    assert_eq!(issued.chain_pem.len(), 2, "leaf, and the root last");
    assert_eq!(issued.chain_pem[1], ca.bundle().to_pem());
    let credentials = Credentials::new(&key, &issued.chain_pem[..1]).unwrap();
    assert_eq!((credentials.id(), credentials.serial()), (Some(&cart()), issued.serial.as_str()));
}

#[test]
fn the_root_survives_and_its_key_is_private() {
    let (folder, ca) = new_ca();
    let again = Ca::load_or_create(folder.path(), &domain()).unwrap();
    assert_eq!(ca.bundle(), again.bundle());
    let mode = std::fs::metadata(folder.path().join("ca-key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "no draft remains: {names:?}");
}

#[test]
fn nothing_but_the_key_is_taken_from_a_request() {
    let (_folder, ca) = new_ca();
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    let csr = params.serialize_request(&pair).unwrap().pem().unwrap();
    let issued = ca.sign(&csr, &cart(), HOUR).unwrap();
    let info = CertificateInfo::from_pem(&issued.chain_pem[0]).unwrap();
    assert_eq!((info.subject.as_str(), info.is_ca), ("", false));
    assert_eq!(info.uris, ["spiffe://cluster.local/ns/shop/sa/cart"]);
    assert_eq!(
        CertificateRequest::from_pem(&csr).unwrap().key_digest(),
        CertificateRequest::from_pem(&params.serialize_request(&pair).unwrap().pem().unwrap()).unwrap().key_digest()
    );
}

#[test]
fn bad_requests_are_refused() {
    let (_folder, ca) = new_ca();
    let good = certificate_request(&PrivateKey::generate().unwrap()).unwrap();
    let mut der = pem::parse(&good).unwrap().into_contents();
    let last = der.len() - 1;
    der[last] ^= 1;
    let forged = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let weak = CertificateParams::default().serialize_request(&p521).unwrap().pem().unwrap();
    let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let ed = CertificateParams::default().serialize_request(&ed).unwrap().pem().unwrap();
    let huge = format!("{good}{}", " ".repeat(20_000));
    for bad in ["", "x", &forged, &weak, &ed, &huge, &good.replace("CERTIFICATE REQUEST", "CERTIFICATE")] {
        assert!(matches!(ca.sign(bad, &cart(), HOUR), Err(IdentityError::Request(_))), "{bad:.40}");
    }
}

#[test]
fn lives_are_bounded() {
    let (_folder, ca) = new_ca();
    let csr = certificate_request(&PrivateKey::generate().unwrap()).unwrap();
    let now = SystemTime::now();
    let day = ca.sign_at(now, &csr, &cart(), Duration::ZERO).unwrap();
    assert_eq!(day.not_after, now + DEFAULT_TTL);
    let long = ca.sign(&csr, &cart(), MAX_TTL + Duration::from_secs(1)).unwrap_err();
    assert_eq!(long.to_string(), "requested TTL 7776001s is greater than the max allowed TTL 7776000s");
    let late = ca.signer().not_after - HOUR;
    assert_eq!(ca.sign_at(late, &csr, &cart(), DEFAULT_TTL).unwrap().not_after, ca.signer().not_after);
    assert!(matches!(ca.sign_at(ca.signer().not_after, &csr, &cart(), HOUR), Err(IdentityError::SignerExpired(_))));
}

#[test]
fn a_curve_is_known_by_its_identifier_not_by_its_size() {
    let (_folder, ca) = new_ca();
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let pair = KeyPair::generate_for(algorithm).unwrap();
        let csr = CertificateParams::default().serialize_request(&pair).unwrap().pem().unwrap();
        ca.sign(&csr, &cart(), HOUR).unwrap();
    }
    // `openssl req -new -sha256` with a P-384 key: the signature does not tell the curve.
    let mixed = include_str!("p384-sha256.csr.pem");
    let leaf = pem::parse(&ca.sign(mixed, &cart(), HOUR).unwrap().chain_pem[0]).unwrap().into_contents();
    let (_, leaf) = x509_parser::certificate::X509Certificate::from_der(&leaf).unwrap();
    let asked = pem::parse(mixed).unwrap().into_contents();
    let (_, asked) = x509_parser::certification_request::X509CertificationRequest::from_der(&asked).unwrap();
    assert_eq!(leaf.public_key().raw, asked.certification_request_info.subject_pki.raw, "the very key");
    // `openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:secp256k1 -subj /`: coordinates of 256 bits.
    let koblitz = include_str!("secp256k1.csr.pem");
    let error = ca.sign(koblitz, &cart(), HOUR).unwrap_err().to_string();
    assert_eq!(error, "certificate request: key is none of RSA, ECDSA P-256, ECDSA P-384");
}

#[test]
fn a_chain_is_checked_as_a_peer_would() {
    let (_folder, ca) = new_ca();
    let (_other_folder, other) = new_ca();
    let key = PrivateKey::generate().unwrap();
    let csr = certificate_request(&key).unwrap();
    let now = SystemTime::now();
    let issue = |at, ttl| Credentials::new(&key, &ca.sign_at(at, &csr, &cart(), ttl).unwrap().chain_pem[..1]).unwrap();
    let leaf = issue(now, HOUR);
    leaf.check_chain(ca.bundle(), now).unwrap();
    leaf.check_chain(&other.bundle().union(ca.bundle()), now).unwrap();
    for (roots, at) in [(other.bundle(), now), (ca.bundle(), now + 2 * HOUR), (ca.bundle(), now - HOUR)] {
        let error = leaf.check_chain(roots, at).unwrap_err().to_string();
        assert!(error.starts_with("certificate chain: "), "{error}");
    }
    let last = issue(ca.signer().not_after - HOUR, DEFAULT_TTL);
    last.check_chain(ca.bundle(), last.not_after() - Duration::from_secs(1)).unwrap();
}

#[test]
fn a_leaf_that_outlives_its_issuer_is_found_out() {
    let (root_key, key) = (KeyPair::generate().unwrap(), PrivateKey::generate().unwrap());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = (SystemTime::now() + HOUR).into();
    let root = params.self_signed(&root_key).unwrap().pem();
    let mut leaf = CertificateParams::default();
    leaf.not_after = (SystemTime::now() + 2 * HOUR).into();
    let leaf = leaf.signed_by(key.pair(), &Issuer::new(params, root_key)).unwrap().pem();
    let credentials = Credentials::new(&key, &[leaf]).unwrap();
    let error = credentials.check_chain(&crate::TrustBundle::from_pem(&root).unwrap(), SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains("it ends later than its issuer"), "{error}");
}

struct Plugged {
    folder: tempfile::TempDir,
    root: String,
    signer: String,
}

/// A root, an intermediate below it, and its files under Istio's names.
fn plugged(is_ca: IsCa) -> Plugged {
    let authority = || {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let named = |mut params: CertificateParams, name: &str| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let root_params = named(authority(), "root");
    let root = root_params.self_signed(&root_key).unwrap().pem();
    let mut params = named(authority(), "signer");
    params.is_ca = is_ca;
    let signer = params.signed_by(&key, &Issuer::new(root_params, root_key)).unwrap().pem();
    let folder = tempfile::tempdir().unwrap();
    let chain = format!("{signer}{root}");
    for (name, text) in
        [("ca-cert.pem", &signer), ("ca-key.pem", &key.serialize_pem()), ("root-cert.pem", &root), ("cert-chain.pem", &chain)]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    Plugged { folder, root, signer }
}

#[test]
fn a_plugged_in_intermediate_signs() {
    let files = plugged(IsCa::Ca(BasicConstraints::Unconstrained));
    let ca = Ca::from_dir(files.folder.path()).unwrap();
    let issued = ca.sign(&certificate_request(&PrivateKey::generate().unwrap()).unwrap(), &cart(), HOUR).unwrap();
    let der = |text: &str| pem::parse(text).unwrap().into_contents();
    assert_eq!(issued.chain_pem.len(), 3, "leaf, intermediate, root");
    assert_eq!(der(&issued.chain_pem[1]), der(&files.signer));
    assert_eq!(der(&issued.chain_pem[2]), der(&files.root));
}

#[test]
fn unfit_files_are_refused_by_name() {
    let no_ca = plugged(IsCa::ExplicitNoCa);
    let error = Ca::from_dir(no_ca.folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("certificate is not authorized to sign other certificates"), "{error}");

    let files = plugged(IsCa::Ca(BasicConstraints::Unconstrained));
    std::fs::write(files.folder.path().join("ca-key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = Ca::from_dir(files.folder.path()).unwrap_err().to_string();
    assert!(error.contains("ca-key.pem: the private key does not belong"), "{error}");

    let files = plugged(IsCa::Ca(BasicConstraints::Unconstrained));
    std::fs::write(files.folder.path().join("root-cert.pem"), plugged(IsCa::ExplicitNoCa).root).unwrap();
    let error = Ca::from_dir(files.folder.path()).unwrap_err().to_string();
    assert!(error.contains("does not chain to a root of"), "{error}");

    std::fs::remove_file(files.folder.path().join("cert-chain.pem")).unwrap();
    let error = Ca::load_or_create(files.folder.path(), &domain()).unwrap_err().to_string();
    assert!(error.starts_with("incomplete signing CA bundle detected") && error.contains("cert-chain.pem is missing"), "{error}");
}

#[test]
fn the_control_planes_own_certificate_holds_id_and_names() {
    let (_folder, ca) = new_ca();
    let id = SpiffeId::new(domain(), "istio-system", "istiod").unwrap();
    let own = ca.sign_server(&id, &["localhost".to_owned(), "127.0.0.1".to_owned()], HOUR).unwrap();
    assert_eq!(own.id(), Some(&id));
    let shown = format!("{own:?} {ca:?} {:?}", PrivateKey::generate().unwrap());
    assert!(!shown.contains("PRIVATE") && !shown.contains("MII"), "{shown}");
}

//! Revocation lists on the wire: whoever is on one is refused at both ends with the kind that says so, and both learn of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, SystemTime};

use common::{CART, End, domain, run};
use mutua_identity::{
    ClientConfig, Credentials, PeerExpectation, PrivateKey, ServerConfig, ServerPolicy, Session, TlsErrorKind, TrustBundle,
};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};

const FRONT: &str = "spiffe://cluster.local/ns/shop/sa/front";
const HOUR: Duration = Duration::from_secs(3600);

struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str, above: Option<&Self>) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(SerialNumber::from(7));
        let key = KeyPair::generate().unwrap();
        let certificate = above.map_or_else(|| params.self_signed(&key), |above| params.signed_by(&key, &above.issuer)).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn list(&self, revoked: &[u64], ends: SystemTime) -> String {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: (SystemTime::now() - HOUR).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: (ends - 2 * HOUR).into(),
            next_update: ends.into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// A root, an intermediate, and a leaf for each end: the caller's has the serial number 1, the server's 2.
struct Pki {
    root: Authority,
    intermediate: Authority,
}

impl Pki {
    fn new() -> Self {
        let root = Authority::new("root", None);
        let intermediate = Authority::new("intermediate", Some(&root));
        Self { root, intermediate }
    }

    fn leaf(&self, id: &str, serial: u64) -> Credentials {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.intermediate.issuer).unwrap();
        let key = PrivateKey::from_pem(&key.serialize_pem()).unwrap();
        Credentials::new(&key, &[leaf.pem(), self.intermediate.certificate.pem()]).unwrap()
    }

    fn roots(&self) -> TrustBundle {
        TrustBundle::from_pem(&self.root.certificate.pem()).unwrap()
    }

    /// Caller and server, with what each trusts, after their handshake.
    fn meet(&self, of_caller: &TrustBundle, of_server: &TrustBundle) -> (End, End) {
        let peer = PeerExpectation { ids: vec![CART.to_owned()], trust_domains: vec![domain()] };
        let caller = ClientConfig::mesh(&self.leaf(FRONT, 1), of_caller, &peer).unwrap();
        let policy = ServerPolicy { trust_domains: vec![domain()], ..Default::default() };
        let server = ServerConfig::mesh(&self.leaf(CART, 2), of_server, &policy).unwrap();
        let mut caller = End::new(Session::client(&caller, None, &[]).unwrap());
        let mut server = End::new(Session::server(&server, false).unwrap());
        run(&mut caller, &mut server, usize::MAX);
        (caller, server)
    }
}

fn soon() -> SystemTime {
    SystemTime::now() + HOUR
}

/// What each end says when it alone holds `lists`: first the server of its caller, then the caller of its server.
fn refusals(pki: &Pki, lists: &str) -> [(TlsErrorKind, String, Option<String>); 2] {
    let (plain, listed) = (pki.roots(), pki.roots().with_revocations(Some(lists)).unwrap());
    let (told_caller, server) = pki.meet(&plain, &listed);
    let (caller, told_server) = pki.meet(&listed, &plain);
    for told in [told_caller, told_server] {
        let told = told.error.expect("the other end learns of it");
        assert!(matches!(told.kind, TlsErrorKind::Revoked | TlsErrorKind::AlertReceived), "{told:?}");
        assert_eq!(told.kind == TlsErrorKind::Revoked, told.detail.contains("the peer says that the certificate shown to it"));
    }
    [server, caller].map(|end| {
        assert!(end.plain.is_empty());
        let error = end.error.expect("refused");
        (error.kind, error.detail, error.peer)
    })
}

#[test]
fn a_revoked_leaf_or_intermediate_is_refused_at_both_ends() {
    let pki = Pki::new();
    let lists = [pki.intermediate.list(&[1, 2], soon()), pki.root.list(&[7], soon()) + &pki.intermediate.list(&[], soon())];
    for lists in lists {
        let [server, caller] = refusals(&pki, &lists);
        assert_eq!((server.0, server.2.as_deref()), (TlsErrorKind::Revoked, Some(FRONT)), "{}", server.1);
        assert_eq!((caller.0, caller.2.as_deref()), (TlsErrorKind::Revoked, Some(CART)), "{}", caller.1);
        assert!(caller.1.contains("is revoked"), "{}", caller.1);
    }
}

#[test]
fn who_is_on_no_list_is_served_and_found_when_a_list_comes() {
    let pki = Pki::new();
    let listed = |text: String| pki.roots().with_revocations(Some(&text)).unwrap();
    // A CA without a list revokes nobody; another CA's list says nothing of this one's serial numbers.
    let stranger = Authority::new("stranger", None);
    let others = pki.root.list(&[1, 2, 3], soon()) + &stranger.list(&[1, 2], soon()) + &pki.intermediate.list(&[3], soon());
    for lists in [pki.root.list(&[], soon()), others] {
        let bundle = listed(lists);
        let (caller, server) = pki.meet(&bundle, &bundle);
        assert!(caller.error.is_none() && server.error.is_none(), "{:?} {:?}", caller.error, server.error);
        let (of_server, of_caller) = (caller.session.negotiated().unwrap(), server.session.negotiated().unwrap());
        assert!(!bundle.revokes_peer(&of_server) && !bundle.revokes_peer(&of_caller));
        let caller_only = listed(pki.intermediate.list(&[1], soon()));
        assert!(caller_only.revokes_peer(&of_caller) && !caller_only.revokes_peer(&of_server));
        let intermediate = listed(pki.root.list(&[7], soon()));
        assert!(intermediate.revokes_peer(&of_caller) && intermediate.revokes_peer(&of_server));
    }
}

#[test]
fn a_list_that_has_ended_is_not_relied_on() {
    let pki = Pki::new();
    let ended = pki.intermediate.list(&[], SystemTime::now() - Duration::from_secs(60));
    for (kind, detail, peer) in refusals(&pki, &ended) {
        assert_eq!(kind, TlsErrorKind::RevocationList, "{detail}");
        assert!(detail.contains("has ended") && peer.is_some(), "{detail}");
    }
    // Signed by somebody else who bears the CA's name.
    let forged = Authority::new("intermediate", None).list(&[], soon());
    for (kind, detail, _) in refusals(&pki, &forged) {
        assert_eq!(kind, TlsErrorKind::RevocationList, "{detail}");
    }
}

#[test]
fn malformed_lists_are_refused_when_they_are_read() {
    let pki = Pki::new();
    let good = pki.intermediate.list(&[1], soon());
    let (cut, other) = (&good[..good.len() / 2], pki.root.certificate.pem());
    let garbage = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    let long = good.repeat(1 + mutua_identity::MAX_REVOCATIONS / good.len());
    for (text, words) in [("", "no PEM list"), (cut, "END"), (&other, "no PEM list"), (garbage, ""), (&long, "are more than")] {
        let error = pki.roots().with_revocations(Some(text)).unwrap_err().to_string();
        assert!(error.starts_with("certificate revocation list: ") && error.contains(words), "{error}");
    }
    let bundle = pki.roots().with_revocations(Some(&format!("{good}{good}"))).unwrap();
    assert_eq!(bundle.revocations_pem().len(), 1, "the same list twice is one");
    assert_eq!((bundle.revocation_infos()[0].issuer.as_str(), bundle.revocation_infos()[0].revoked), ("CN=intermediate", 1));
    assert_ne!(bundle, pki.roots());
    assert_eq!(bundle.union(&pki.roots()), bundle);
}

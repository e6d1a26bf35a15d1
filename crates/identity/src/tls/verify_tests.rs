use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};

use super::*;
use crate::TrustBundle;

const FRONT: &str = "spiffe://cluster.local/ns/shop/sa/front";
/// Seconds since 1970 between which the leaf is valid.
const VALID: (u64, u64) = (1_700_000_000, 1_700_003_600);

/// A root, an intermediate below it, and a leaf below that.
struct Chain {
    root: Issuer<'static, KeyPair>,
    bundle: TrustBundle,
    intermediate: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn chain() -> Chain {
    let (root_key, middle_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = authority();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "root");
    let root_certificate = params.self_signed(&root_key).unwrap();
    let root = Issuer::new(params, root_key);
    let mut params = authority();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "middle");
    params.serial_number = Some(SerialNumber::from(7_u64));
    let intermediate = params.signed_by(&middle_key, &root).unwrap().der().clone();
    let middle = Issuer::new(params, middle_key);
    let mut params = CertificateParams::new(vec!["front.shop".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI(FRONT.try_into().unwrap()));
    let at = |seconds| time::OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap();
    (params.not_before, params.not_after) = (at(VALID.0), at(VALID.1));
    let leaf = params.signed_by(&key, &middle).unwrap().der().clone();
    Chain { root, bundle: TrustBundle::from_pem(&root_certificate.pem()).unwrap(), intermediate, leaf }
}

fn mesh() -> Accept {
    Accept::Mesh { trust_domains: vec![TrustDomain::new("cluster.local").unwrap()], ids: Vec::new() }
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

fn kind<T>(outcome: Result<T, Error>) -> Option<TlsErrorKind> {
    outcome.err().map(|error| TlsError::from(error).kind)
}

#[test]
fn a_caller_is_remembered_byte_for_byte_and_never_outside_its_validity() {
    let Chain { bundle, intermediate, leaf, .. } = chain();
    let verifier = ClientVerifier::new(bundle.checks().unwrap(), mesh(), true);
    let verify = |rest: &[CertificateDer<'_>], now| kind(verifier.verify_client_cert(&leaf, rest, at(now)));
    let rest = [intermediate.clone()];
    for _ in 0..2 {
        assert_eq!(verify(&rest, VALID.0), None);
        assert_eq!(verifier.known.count(), 1, "found in the second round");
    }
    assert_eq!(verify(&rest, VALID.1), None);
    assert_eq!(verify(&rest, VALID.1 + 1), Some(TlsErrorKind::Expired), "although it is remembered");
    assert_eq!(verify(&rest, VALID.0 - 1), Some(TlsErrorKind::NotYetValid));
    assert_eq!(verify(&[], VALID.0), Some(TlsErrorKind::UnknownIssuer), "the leaf alone was never found good");
    assert_eq!(verify(&[intermediate.clone(), intermediate], VALID.0), None);
    assert_eq!(verifier.known.count(), 2, "another chain, checked on its own");

    let mut other = leaf.to_vec();
    *other.last_mut().unwrap() ^= 1;
    assert!(verifier.verify_client_cert(&other.into(), &rest, at(VALID.0)).is_err(), "another signature");
    let stranger = ClientVerifier::new(chain().bundle.checks().unwrap(), mesh(), true);
    // A root of the same name with another key.
    assert_eq!(kind(stranger.verify_client_cert(&leaf, &rest, at(VALID.0))), Some(TlsErrorKind::BadCertificate));
    assert_eq!(stranger.known.count(), 0, "other roots are another verifier, which knows nobody");
}

#[test]
fn a_refusal_names_its_own_peer_whoever_was_refused_before() {
    use rustls::internal::msgs::codec::{Codec, Reader};
    let Chain { bundle, intermediate, leaf, .. } = chain();
    let verifier = ClientVerifier::new(bundle.checks().unwrap(), mesh(), true);
    // ECDSA with SHA-256, and a signature of one byte.
    let forged = DigitallySignedStruct::read(&mut Reader::init(&[4, 3, 0, 1, 0])).unwrap();
    let refused = |by: &CertificateDer<'_>| {
        assert!(verifier.verify_client_cert(&leaf, &[], at(VALID.0)).is_err(), "nobody asks whom");
        let error = verifier.verify_tls13_signature(b"transcript", by, &forged).unwrap_err();
        TlsError::from(error).peer
    };
    assert_eq!(refused(&intermediate), None, "it has no identity");
    assert_eq!(refused(&leaf).as_deref(), Some(FRONT));
}

/// What the root takes back: certificates with the number of the intermediate, or of nobody.
fn list(root: &Issuer<'static, KeyPair>, number: u64, (from, until): (u64, u64)) -> rcgen::CertificateRevocationList {
    let time = |seconds| time::OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap();
    let revoked = RevokedCertParams {
        serial_number: SerialNumber::from(number),
        revocation_time: time(from),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: time(from),
        next_update: time(until),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(root).unwrap()
}

#[test]
fn who_is_not_accepted_or_revoked_is_not_remembered() {
    let Chain { root, bundle, intermediate, leaf } = chain();
    let name = ServerName::try_from("front.shop").unwrap();
    let rest = [intermediate];
    let verify = |verifier: &ServerVerifier| kind(verifier.verify_server_cert(&leaf, &rest, &name, &[], at(VALID.0)));
    let elsewhere = Accept::Mesh { trust_domains: Vec::new(), ids: vec!["spiffe://cluster.local/x".into()] };
    let elsewhere = ServerVerifier::of_mesh(bundle.checks().unwrap(), elsewhere);
    let revoking = bundle.clone().with_revocations(Some(&list(&root, 7, VALID).pem().unwrap())).unwrap();
    let revoking = ServerVerifier::of_mesh(revoking.checks().unwrap(), mesh());
    for _ in 0..2 {
        assert_eq!(verify(&elsewhere), Some(TlsErrorKind::WrongIdentity));
        assert_eq!(verify(&revoking), Some(TlsErrorKind::Revoked), "its intermediate is");
    }
    assert_eq!((elsewhere.known.count(), revoking.known.count()), (0, 0));

    let open = ServerVerifier::of_mesh(bundle.checks().unwrap(), mesh());
    assert_eq!((verify(&open), open.known.count()), (None, 1));
    let mut store = RootCertStore::empty();
    bundle.roots().iter().for_each(|root| store.add(root.clone()).unwrap());
    let by_name = ServerVerifier::new(store, Vec::new(), Accept::ServerName).unwrap();
    assert_eq!((verify(&by_name), by_name.known.count()), (None, 0), "good for one name says nothing of another");
    let another = ServerName::try_from("cart.shop").unwrap();
    assert!(by_name.verify_server_cert(&leaf, &rest, &another, &[], at(VALID.0)).is_err());
}

#[test]
fn nobody_is_known_once_a_revocation_list_has_ended() {
    let Chain { root, bundle, intermediate, leaf } = chain();
    let ends = VALID.0 + 100;
    let bundle = bundle.with_revocations(Some(&list(&root, 8, (VALID.0, ends)).pem().unwrap())).unwrap();
    let verifier = ClientVerifier::new(bundle.checks().unwrap(), mesh(), true);
    let rest = [intermediate];
    let verify = |now| kind(verifier.verify_client_cert(&leaf, &rest, at(now)));
    assert_eq!((verify(VALID.0), verify(ends - 1), verifier.known.count()), (None, None, 1));
    assert!(verify(ends).is_some(), "although it is remembered");
}

/// The library takes a root whatever its own time; here it counts as long as its certificate says.
#[test]
fn a_root_that_has_ended_vouches_for_nobody() {
    let time = |seconds: u64| time::OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap();
    let end = VALID.0 + 100;
    let root = |key: &KeyPair, until: u64| {
        let mut params = authority();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "root");
        (params.not_before, params.not_after) = (time(VALID.0 - 100), time(until));
        (params.self_signed(key).unwrap().pem(), params)
    };
    let (key, other_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let ((ends, params), (renewed, _)) = (root(&key, end), root(&key, VALID.1));
    let (stranger, _) = root(&other_key, VALID.1);
    let mut leaf = CertificateParams::new(vec!["front.shop".to_owned()]).unwrap();
    leaf.subject_alt_names.push(SanType::URI(FRONT.try_into().unwrap()));
    (leaf.not_before, leaf.not_after) = (time(VALID.0), time(VALID.1));
    let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(params, key)).unwrap().der().clone();
    let name = ServerName::try_from("front.shop").unwrap();
    let cluster = TrustDomain::new("cluster.local").unwrap();
    let of_domain = |roots: &str| {
        TrustBundle::from_pem(&chain_pem()).unwrap().with_domain(cluster.clone(), &TrustBundle::from_pem(roots).unwrap())
    };
    let of_all = |roots: &str| TrustBundle::from_pem(roots).unwrap();
    // A root of the same name and another key is of no help; one of the same key is.
    let cases = [(ends.clone(), false), (ends.clone() + &stranger, false), (ends + &renewed, true)];
    for (roots, lives_on) in cases {
        for bundle in [of_all(&roots), of_domain(&roots)] {
            let server = ServerVerifier::of_mesh(bundle.checks().unwrap(), mesh());
            let client = ClientVerifier::new(bundle.checks().unwrap(), mesh(), true);
            let as_server = |now| server.verify_server_cert(&leaf, &[], &name, &[], at(now)).err();
            let as_client = |now| client.verify_client_cert(&leaf, &[], at(now)).err();
            assert!(as_server(end).is_none() && as_client(end).is_none(), "its last second");
            for refused in [as_server(end + 1), as_client(end + 1)] {
                let error = refused.map(TlsError::from);
                assert_eq!(error.is_none(), lives_on, "{roots} {error:?}");
                if let Some(error) = error {
                    assert_eq!((error.kind, error.peer.as_deref()), (TlsErrorKind::Expired, Some(FRONT)), "{error:?}");
                    assert!(error.detail.contains("root") && error.detail.contains("has ended"), "{error:?}");
                }
            }
            assert!(as_server(VALID.0).is_none() && as_client(VALID.0).is_none(), "by the clock alone");
        }
    }
}

/// A root that nobody here is below.
fn chain_pem() -> String {
    chain().bundle.to_pem()
}

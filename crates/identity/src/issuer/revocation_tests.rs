//! `ca-crl.pem` beside the files of a plugged-in CA: taken when peers could rely on it, else refused with the reason.

use rcgen::{CertificateRevocationListParams, KeyIdMethod, KeyUsagePurpose, RevokedCertParams};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;
use crate::{CertificateName, TrustBundle};

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
    key: String,
}

fn authority(name: &str, above: Option<&Authority>) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(rcgen::SerialNumber::from(7));
    let pair = KeyPair::generate().unwrap();
    let signed = above.map_or_else(|| params.self_signed(&pair), |above| params.signed_by(&pair, &above.issuer));
    Authority { certificate: signed.unwrap().pem(), key: pair.serialize_pem(), issuer: Issuer::new(params, pair) }
}

/// The same CA with a certificate that lets it sign certificates only.
fn without_list_signing(of: &Authority, above: &Authority) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "signer");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.signed_by(&KeyPair::from_pem(&of.key).unwrap(), &above.issuer).unwrap().pem()
}

fn list(by: &Authority, revoked: &[u64], ends: SystemTime) -> String {
    let entry = |serial: &u64| RevokedCertParams {
        serial_number: rcgen::SerialNumber::from(*serial),
        revocation_time: SystemTime::now().into(),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: (ends - 2 * HOUR).into(),
        next_update: ends.into(),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&by.issuer).unwrap().pem().unwrap()
}

/// A folder with root and intermediate, and what comes of it with each text as `ca-crl.pem`.
fn outcomes<const N: usize>(root: &Authority, signer: &Authority, texts: [String; N]) -> [Result<Ca, IdentityError>; N] {
    texts.map(|text| {
        let folder = tempfile::tempdir().unwrap();
        let chain = format!("{}{}", signer.certificate, root.certificate);
        for (name, text) in [
            ("ca-cert.pem", &signer.certificate),
            ("ca-key.pem", &signer.key),
            ("root-cert.pem", &root.certificate),
            ("cert-chain.pem", &chain),
            ("ca-crl.pem", &text),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Ca::from_dir(folder.path())
    })
}

#[test]
fn lists_that_peers_can_rely_on_are_taken_and_others_refused_by_name() {
    let root = authority("root", None);
    let signer = authority("signer", Some(&root));
    let soon = SystemTime::now() + HOUR;
    let of_root = list(&root, &[], soon);
    let stranger = list(&authority("elsewhere", None), &[1], soon);
    let [good] = outcomes(&root, &signer, [format!("{of_root}{}{stranger}", list(&signer, &[1, 2], soon))]);
    let lists = good.unwrap().bundle().revocation_infos();
    let held: Vec<_> = lists.iter().map(|list| (list.issuer.as_str(), list.revoked)).collect();
    assert!(
        held.contains(&("CN=signer", 2)) && held.contains(&("CN=root", 0)) && held.contains(&("CN=elsewhere", 1)),
        "{held:?}"
    );

    let refused = outcomes(
        &root,
        &signer,
        [
            "nothing".to_owned(),
            of_root.clone(),
            list(&signer, &[], soon),
            format!("{of_root}{}{}", list(&signer, &[1], soon), list(&signer, &[2], soon)),
            format!("{of_root}{}", list(&signer, &[], SystemTime::now() - HOUR)),
            format!("{of_root}{}", list(&authority("signer", None), &[], soon)),
            format!("{}{}", list(&root, &[7], soon), list(&signer, &[], soon)),
        ],
    );
    let words = [
        "no PEM list in it",
        "exactly one list of CN=signer",
        "exactly one list of CN=root",
        "exactly one list of CN=signer",
        "the list of CN=signer has ended",
        "the list of CN=signer is not signed by that CA",
        "it revokes CN=signer (07), which is to sign",
    ];
    for (outcome, words) in refused.into_iter().zip(words) {
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("ca-crl.pem: ") && error.contains(words), "{words}: {error}");
    }

    let mut mute = authority("signer", Some(&root));
    let lists = format!("{of_root}{}", list(&mute, &[], soon));
    mute.certificate = without_list_signing(&mute, &root);
    let [error] = outcomes(&root, &mute, [lists]);
    assert!(error.unwrap_err().to_string().contains("does not allow it to sign lists"));
}

/// Its certificate as it is sent.
fn sent(authority: &Authority) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap()
}

#[test]
fn whoever_is_above_a_leaf_is_named_in_whatever_order_it_was_sent() {
    let root = authority("root", None);
    let upper = authority("upper", Some(&root));
    let lower = authority("lower", Some(&upper));
    let leaf = authority("leaf", Some(&lower));
    let revoking = |by: &Authority| {
        let list = list(by, &[7], SystemTime::now() + HOUR);
        TrustBundle::from_pem(&root.certificate).unwrap().with_revocations(Some(&list)).unwrap()
    };
    for order in [[&leaf, &lower, &upper], [&leaf, &upper, &lower]] {
        let path = CertificateName::path(&order.map(sent));
        assert_eq!(path.len(), 3);
        assert!([&root, &upper, &lower].iter().all(|by| revoking(by).revokes(&path)), "each of the three has the number 7");
        assert!(!revoking(&leaf).revokes(&path), "nobody is below the leaf");
    }
    let beside = authority("beside", Some(&root));
    let path = CertificateName::path(&[&leaf, &beside, &lower].map(sent));
    assert!(path.len() == 2 && !revoking(&root).revokes(&path), "of the root's only one that is not above the leaf was sent");
}

#[test]
fn a_list_takes_the_place_of_one_of_the_same_ca() {
    let (root, other) = (authority("root", None), authority("other", None));
    let below = |by: &Authority| CertificateName::path(&[sent(&authority("below", Some(by)))]);
    let bundle =
        |lists: &[String]| TrustBundle::from_pem(&root.certificate).unwrap().with_revocations(Some(&lists.concat())).unwrap();
    let soon = SystemTime::now() + HOUR;
    let before = bundle(&[list(&root, &[7], soon), list(&other, &[7], soon)]);
    for newer in [list(&root, &[8], soon), list(&root, &[], soon)] {
        let after = before.union(&bundle(&[newer]));
        assert!(before.revokes(&below(&root)) && !after.revokes(&below(&root)), "the new list does not hold it");
        assert!(after.revokes(&below(&other)), "the other CA's list stays");
        assert_eq!((before.revocations_pem().len(), after.revocations_pem().len()), (2, 2));
    }
}

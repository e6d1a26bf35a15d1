//! Revocation lists of a plugged-in CA, from its folder to both ends of a connection.

use std::io::Read;

use mutua_testbed::Pki;

use crate::mesh::{Mesh, echo, in_lab, until};

const NAME: &str = "revocation::who_is_revoked_is_cut_and_refused_at_both_ends_and_a_bad_list_changes_nothing";

/// How often the control plane has refused the files of its CA.
fn refused(mesh: &Mesh) -> usize {
    mesh.said("control").matches("the signing CA is not changed; the one in use stays").count()
}

/// Connections that a sidecar has cut because its peer is revoked.
fn cut(mesh: &Mesh, name: &str) -> usize {
    let records = mesh.admin(name, "/connections").expect("the admin socket answers");
    let of_revoked = |record: &&serde_json::Value| record["outcome"] == "mtls" && record["reason"] == "CERTIFICATE_REVOKED";
    records.as_array().unwrap().iter().filter(of_revoked).count()
}

#[test]
fn who_is_revoked_is_cut_and_refused_at_both_ends_and_a_bad_list_changes_nothing() {
    in_lab(NAME, |folder| {
        let pki = Pki::new();
        let (mesh, _front, _back) = Mesh::whole(folder, &["--ca-dir", pki.dir().to_str().unwrap()]);
        let serial = |name: &str| {
            let certs = mesh.admin(name, "/certs").expect("the admin socket answers");
            certs["leaf"]["serial"].as_str().expect("a leaf").to_owned()
        };
        let serials = ["front", "back"].map(serial);
        let malformed = "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n";
        // The caller's sidecar finds the application's revoked, then the other way round.
        for (revoked, by) in [(1, "front"), (0, "back")] {
            let mut held = mesh.call().unwrap();
            echo(&mut held, b"from before").unwrap();
            let (before, cuts) = (refused(&mesh), cut(&mesh, by));
            pki.put("ca-crl.pem", malformed);
            until("the refusal of a malformed list", || refused(&mesh) > before);
            echo(&mut held, b"nothing has changed").unwrap();
            mesh.is_served();

            let counts = ["front", "back"].map(|name| mesh.refusals(name, "CERTIFICATE_REVOKED"));
            pki.put("ca-crl.pem", &pki.lists(&[&serials[revoked]]));
            let end = held.read(&mut [0; 16]);
            assert!(
                end.as_ref().map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |read| *read == 0),
                "{end:?}"
            );
            until("the record of the cut", || cut(&mesh, by) > cuts);
            let is_refused = || mesh.call().and_then(|mut stream| echo(&mut stream, b"hello")).is_err();
            until("both ends to refuse, with the code that says why", || {
                assert!(is_refused());
                ["front", "back"].iter().zip(counts).all(|(name, count)| mesh.refusals(name, "CERTIFICATE_REVOKED") > count)
            });
            let before = refused(&mesh);
            pki.put("ca-crl.pem", malformed);
            until("the refusal of a malformed list", || refused(&mesh) > before);
            assert!(is_refused(), "the list in force stays");
            pki.put("ca-crl.pem", &pki.lists(&[]));
            mesh.is_served();
        }
    });
}

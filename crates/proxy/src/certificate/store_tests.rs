use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use mutua_identity::{Ca, TrustDomain, certificate_request};

use super::*;

fn issue(ca: &Ca) -> Credentials {
    let key = PrivateKey::generate().unwrap();
    let id = "spiffe://cluster.local/ns/shop/sa/front".parse().unwrap();
    let issued = ca.sign(&certificate_request(&key).unwrap(), &id, Duration::from_secs(600)).unwrap();
    Credentials::new(&key, &issued.chain_pem).unwrap()
}

#[test]
fn what_is_saved_is_loaded_and_nobody_else_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::load_or_create(folder.path(), &TrustDomain::new("cluster.local").unwrap()).unwrap();
    let store = Store::open(folder.path().join("state")).unwrap();
    assert!(store.load().unwrap().is_none());
    let joined = store.join_key().unwrap().to_pkcs8_pem();
    assert_eq!(store.join_key().unwrap().to_pkcs8_pem(), joined, "an unanswered join keeps its key");
    let first = issue(&ca);
    store.save(&first).unwrap();
    assert_eq!(store.load().unwrap().unwrap().0.serial(), first.serial());
    assert_ne!(store.join_key().unwrap().to_pkcs8_pem(), joined, "an answered join forgets it");
    for name in [KEY, CHAIN] {
        assert_eq!(std::fs::metadata(store.folder().join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(store.folder()).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn an_interrupted_save_leaves_a_usable_pair() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::load_or_create(folder.path(), &TrustDomain::new("cluster.local").unwrap()).unwrap();
    let store = Store::open(folder.path().join("state")).unwrap();
    let (first, second) = (issue(&ca), issue(&ca));
    store.save(&first).unwrap();
    store.prepare(KEY, second.key_pem()).unwrap();
    store.prepare(CHAIN, &second.chain_pem()).unwrap();
    assert_eq!(store.load().unwrap().unwrap().0.serial(), first.serial(), "before the first rename");
    store.put(CHAIN).unwrap();
    assert_eq!(store.load().unwrap().unwrap().0.serial(), second.serial(), "between the two");
    store.put(KEY).unwrap();
    assert_eq!(store.load().unwrap().unwrap().0.serial(), second.serial());
    std::fs::write(store.folder().join(KEY), "damaged").unwrap();
    assert!(store.load().unwrap().is_none());
}

#[test]
fn a_file_that_others_own_or_write_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::load_or_create(folder.path(), &TrustDomain::new("cluster.local").unwrap()).unwrap();
    let path = folder.path().join("state");
    let store = Store::open(path.clone()).unwrap();
    let own = rustix::process::geteuid().as_raw();
    let refused = |what: &str| {
        let store = Store::open(path.clone()).unwrap();
        assert!(store.load().unwrap().is_none(), "{what}");
        assert!(path.join("key.pem.refused").symlink_metadata().is_ok(), "{what}");
        std::fs::remove_file(path.join("key.pem.refused")).unwrap();
    };
    store.save(&issue(&ca)).unwrap();
    assert!(Store::open(path.clone()).unwrap().load().unwrap().is_some());
    std::fs::set_permissions(path.join(KEY), std::fs::Permissions::from_mode(0o620)).unwrap();
    refused("others may write it");
    store.save(&issue(&ca)).unwrap();
    std::fs::rename(path.join(KEY), folder.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), path.join(KEY)).unwrap();
    refused("a link");
    store.save(&issue(&ca)).unwrap();
    // Only root can give a file away; where the test is not root, the mode above has to do.
    if own == 0 && std::os::unix::fs::chown(path.join(KEY), Some(4242), None).is_ok() {
        assert!(Store::open_for(path.clone(), 4242).unwrap().load().unwrap().is_some(), "the user that it becomes");
        refused("another user's");
    }
}

use std::os::unix::fs::PermissionsExt;

use mutua_wire::MeshResource;
use mutua_wire::mesh;
use prost_types::Any;

use super::*;

const TYPE: &str = mesh::Destination::TYPE_URL;

fn kept(folder: &tempfile::TempDir, name: &str) -> Kept {
    let workload = Workload { namespace: "shop".to_owned(), name: name.to_owned() };
    Kept::new(Store::open(folder.path().join("state")).unwrap(), &workload)
}

fn resource(name: &str, version: &str) -> Resource {
    let any = Any { type_url: TYPE.to_owned(), value: version.repeat(50).into_bytes() };
    Resource { name: name.to_owned(), version: version.to_owned(), resource: Some(any), aliases: Vec::new() }
}

fn put(kept: &Kept, generation: &str, resources: &[Resource], removed: &[&str]) {
    let removed: Vec<String> = removed.iter().map(ToString::to_string).collect();
    kept.keep(&Change { type_url: TYPE, generation, resources, removed: &removed });
}

/// Generation and resources, as they are kept.
fn held(kept: &Kept) -> Option<(String, BTreeMap<String, String>)> {
    let mut all = kept.load(&[TYPE]).unwrap()?;
    let one = all.remove(0);
    Some((one.generation, one.resources.into_iter().map(|one| (one.name, one.version)).collect()))
}

#[test]
fn changes_add_up_and_survive() {
    let folder = tempfile::tempdir().unwrap();
    let front = kept(&folder, "front");
    assert_eq!(held(&front), None);
    put(&front, "1", &[resource("a", "1"), resource("b", "1")], &[]);
    put(&front, "2", &[resource("b", "2"), resource("c", "2")], &["a", "never there"]);
    put(&front, "", &[], &[]);
    let expected = [("b", "2"), ("c", "2")].map(|(name, version)| (name.to_owned(), version.to_owned()));
    assert_eq!(held(&kept(&folder, "front")), Some(("2".to_owned(), expected.into())));
    assert!(front.load(&[TYPE, mesh::TrustBundle::TYPE_URL]).unwrap().is_none(), "all types or none");
    let error = kept(&folder, "back").load(&[TYPE]).unwrap_err();
    assert_eq!(error.to_string(), "kept-Destination: it is of shop/front, not of shop/back");
    let mode = std::fs::metadata(folder.path().join("state/kept-Destination")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "destinations may hold keys");
}

#[test]
fn every_damage_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let front = kept(&folder, "front");
    put(&front, "1", &[resource("a", "1"), resource("b", "1")], &[]);
    let path = folder.path().join("state/kept-Destination");
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        std::fs::write(&path, &whole[..at]).unwrap();
        front.load(&[TYPE]).unwrap_err();
        let mut changed = whole.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        front.load(&[TYPE]).unwrap_err();
    }
    std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    front.load(&[TYPE]).unwrap_err();
    std::fs::write(&path, &whole).unwrap();
    assert!(held(&front).is_some());
}

#[test]
fn what_cannot_be_kept_is_forgotten_and_asked_for_anew() {
    let folder = tempfile::tempdir().unwrap();
    let front = kept(&folder, "front");
    put(&front, "1", &[resource("a", "1")], &[]);
    let versions = || front.versions(TYPE, [("a".to_owned(), "1".to_owned())].into());
    assert_eq!(versions()["a"], "1");
    // A draft that cannot be made, as on a disk that is full.
    let draft = folder.path().join("state/.kept-Destination.new");
    std::fs::create_dir(&draft).unwrap();
    put(&front, "2", &[resource("a", "2")], &[]);
    assert_eq!(held(&front), None, "the old state never comes back");
    assert_eq!(versions()["a"], "", "of no known version: it is sent again");
    std::fs::remove_dir(&draft).unwrap();
    put(&front, "2", &[resource("a", "2")], &[]);
    assert_eq!(held(&front).unwrap().0, "2");
    assert_eq!(versions()["a"], "1");
}

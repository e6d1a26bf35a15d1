use std::path::Path;
use std::time::Duration;

use super::*;

fn domain() -> TrustDomain {
    TrustDomain::new("cluster.local").unwrap()
}

/// Starts over a copy of a state folder, as after a crash, and leads a change that is under way to its end. Returns the
/// roots at the start and at the end.
fn resumes(folder: &Path) -> (Vec<String>, Vec<String>) {
    let state = Arc::new(StateDir::open(folder).unwrap());
    let (ca, record) = load(&state, &domain()).unwrap();
    let begin = ca.bundle().roots_pem();
    let ca = Arc::new(ArcSwap::from_pointee(ca));
    let rotation = Rotation::new(Arc::clone(&state), Arc::clone(&ca), record, None);
    while rotation.record().is_some() {
        rotation.advance(BTreeMap::new()).unwrap();
    }
    rotation.begin(&domain(), BTreeMap::new()).expect("and another one can begin");
    rotation.abort().unwrap();
    let roots = ca.load().bundle().roots_pem();
    assert_eq!(load(&state, &domain()).unwrap().0.bundle().roots_pem(), roots);
    (begin, roots)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for sub in ["", CURRENT, NEXT] {
        for entry in std::fs::read_dir(folder.join(sub)).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_file() {
                let name = Path::new(sub).join(entry.file_name()).to_string_lossy().into_owned();
                files.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

/// A kill between any two of the writes that lead from one state folder to another. `order`: the files in the order in
/// which they are written or removed.
fn killed_anywhere(before: &Path, after: &Path, order: &[String]) -> Vec<(Vec<String>, Vec<String>)> {
    let (old, new) = (files(before), files(after));
    let changed: Vec<&String> = order.iter().filter(|name| old.get(*name) != new.get(*name)).collect();
    let all = old.keys().chain(new.keys()).filter(|name| old.get(*name) != new.get(*name));
    assert!(all.clone().all(|name| order.contains(name)), "{:?}", all.collect::<Vec<_>>());
    let mut outcomes = Vec::new();
    for done in 0..=changed.len() {
        let folder = tempfile::tempdir().unwrap();
        copy(before, folder.path());
        for name in &changed[..done] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match new.get(*name) {
                Some(content) => std::fs::write(path, content).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
        }
        outcomes.push(resumes(folder.path()));
    }
    outcomes
}

fn in_folder(folder: &str) -> Vec<String> {
    ["ca-key.pem", "cert-chain.pem", "root-cert.pem", "ca-cert.pem"].map(|name| format!("{folder}/{name}")).into()
}

fn reversed(mut names: Vec<String>) -> Vec<String> {
    names.reverse();
    names
}

/// A control plane that is killed at any moment of a change starts again, with the old root or the new one or both, and
/// the change can be led to its end.
#[test]
fn killed_at_any_moment_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let live = at("live");
    // The first start of all.
    std::fs::create_dir(at("nothing")).unwrap();
    let state = Arc::new(StateDir::open(&live).unwrap());
    let (ca, _) = load(&state, &domain()).unwrap();
    for (begin, end) in killed_anywhere(&at("nothing"), &live, &in_folder(CURRENT)) {
        assert_eq!((begin.len(), &begin), (1, &end));
    }
    let old = ca.bundle().roots_pem();
    let ca = Arc::new(ArcSwap::from_pointee(ca));
    let rotation = Rotation::new(Arc::clone(&state), Arc::clone(&ca), None, None);
    let step = |name: &str, order: Vec<String>, change: &dyn Fn()| {
        copy(&live, &at(&format!("before-{name}")));
        change();
        killed_anywhere(&at(&format!("before-{name}")), &live, &order)
    };
    let record = || vec![RECORD.to_owned()];
    let begin = step("begin", [in_folder(NEXT), record()].concat(), &|| rotation.begin(&domain(), BTreeMap::new()).unwrap());
    let (last, earlier) = begin.split_last().unwrap();
    assert!(earlier.iter().all(|(begin, end)| *begin == old && *end == old), "it had not begun");
    assert!(last.0.len() == 2 && last.1 != old && last.1.len() == 1, "it had begun, and goes on");
    let new = last.1.clone();
    for (begin, end) in step("reissue", record(), &|| rotation.advance(BTreeMap::new()).unwrap()) {
        assert_eq!((begin.len(), end), (2, new.clone()));
    }
    // Taken back, on a copy.
    copy(&live, &at("taken-back"));
    let other = Arc::new(StateDir::open(&at("taken-back")).unwrap());
    let (back, reissuing) = load(&other, &domain()).unwrap();
    let back = Rotation::new(Arc::clone(&other), Arc::new(ArcSwap::from_pointee(back)), reissuing, None);
    back.abort().unwrap();
    let ends: Vec<_> = killed_anywhere(&live, &at("taken-back"), &record()).into_iter().map(|(_, end)| end).collect();
    assert_eq!(ends, [new.clone(), old], "only what is recorded counts");
    let order = [record(), in_folder(CURRENT), record(), reversed(in_folder(NEXT))].concat();
    copy(&live, &at("installing"));
    root_files::write(
        &StateDir::open(&at("installing")).unwrap(),
        &Record { phase: RootPhase::Install, ..rotation.record().unwrap() },
    )
    .unwrap();
    rotation.advance(BTreeMap::new()).unwrap();
    for (_, end) in killed_anywhere(&at("installing"), &live, &order[1..]) {
        assert_eq!(end, new);
    }
}

/// A folder where a file is to be written or removed: neither works.
fn in_the_way(state: &StateDir, name: &str) -> (std::path::PathBuf, Option<Vec<u8>>) {
    let path = state.join(name);
    let content = std::fs::read(&path).ok();
    let _ = std::fs::remove_file(&path);
    std::fs::create_dir_all(path.join("inside")).unwrap();
    (path, content)
}

fn out_of_the_way((path, content): (std::path::PathBuf, Option<Vec<u8>>)) {
    std::fs::remove_dir_all(&path).unwrap();
    if let Some(content) = content {
        std::fs::write(path, content).unwrap();
    }
}

/// What an answer says of a change is what a restart finds, whichever file could not be written or removed.
#[test]
fn what_cannot_be_recorded_has_not_happened() {
    let (trust, reissue) = (Some(RootPhase::Trust), Some(RootPhase::Reissue));
    let same = [true; 2];
    for (stage, name, done, here) in [
        // Nothing has happened: the record stands.
        (trust, RECORD, false, trust),
        (reissue, RECORD, false, reissue),
        // It is over, though files are left.
        (trust, "next-ca/ca-cert.pem", true, None),
        (trust, "next-ca/ca-key.pem", true, None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(folder.path()).unwrap());
        let (ca, _) = load(&state, &domain()).unwrap();
        let ca = Arc::new(ArcSwap::from_pointee(ca));
        let rotation = Rotation::new(Arc::clone(&state), Arc::clone(&ca), None, None);
        rotation.begin(&domain(), BTreeMap::new()).unwrap();
        if stage == reissue {
            rotation.advance(BTreeMap::new()).unwrap();
        }
        let before = (ca.load().signer().serial.clone(), ca.load().bundle().roots_pem().len());
        let obstacle = in_the_way(&state, name);
        assert_eq!(rotation.abort().is_ok(), done, "{stage:?} {name}");
        assert_eq!(rotation.record().map(|record| record.phase), here, "{stage:?} {name}");
        assert!(rotation.record().is_none_or(|record| !record.aborted), "{stage:?} {name}");
        let after = (ca.load().signer().serial.clone(), ca.load().bundle().roots_pem().len());
        assert_eq!([before.0 == after.0, (before.1 == after.1) != done], same, "{stage:?} {name}");
        out_of_the_way(obstacle);
        let (restarted, record) = load(&state, &domain()).unwrap();
        assert_eq!(record, rotation.record(), "{stage:?} {name}");
        assert_eq!((restarted.signer().serial.clone(), restarted.bundle().roots_pem().len()), after, "{stage:?} {name}");
    }
}

/// Once the new root is being put in its place there is no way back, though a file could not be written yet.
#[test]
fn half_installed_is_not_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(StateDir::open(folder.path()).unwrap());
    let (ca, _) = load(&state, &domain()).unwrap();
    let ca = Arc::new(ArcSwap::from_pointee(ca));
    let rotation = Rotation::new(Arc::clone(&state), Arc::clone(&ca), None, None);
    rotation.begin(&domain(), BTreeMap::new()).unwrap();
    rotation.advance(BTreeMap::new()).unwrap();
    let (renewed, signer) = (rotation.record().unwrap().renew_not_before(), ca.load().signer().serial.clone());
    let obstacle = in_the_way(&state, "ca/root-cert.pem");
    rotation.advance(BTreeMap::new()).unwrap_err();
    let record = rotation.record().unwrap();
    assert_eq!((record.phase, record.renew_not_before()), (RootPhase::Install, renewed), "nobody renews again");
    assert!(matches!(rotation.abort(), Err(RotationError::TooLate)));
    out_of_the_way(obstacle);
    rotation.advance(BTreeMap::new()).unwrap();
    let installed = load(&state, &domain()).unwrap();
    assert_eq!((installed.0.signer().serial.clone(), installed.1, rotation.record()), (signer, None, None));
}

/// A plugged-in CA below a root of its own, in a folder, with the roots of `beside` in its bundle.
fn plug(folder: &Path, from: &Path, beside: &[&Path]) -> Ca {
    std::fs::create_dir_all(folder).unwrap();
    for name in ["ca-key.pem", "cert-chain.pem", "ca-cert.pem"] {
        std::fs::copy(from.join(name), folder.join(name)).unwrap();
    }
    let roots: String = std::iter::once(from).chain(beside.iter().copied()).map(root).collect();
    std::fs::write(folder.join("root-cert.pem"), roots).unwrap();
    Ca::from_dir(folder).unwrap()
}

fn root(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("root-cert.pem")).unwrap()
}

#[test]
fn a_plugged_in_root_is_changed_in_stages() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["a", "b"] {
        std::fs::create_dir(at(name)).unwrap();
        Ca::load_or_create(&at(name), &domain()).unwrap();
    }
    let state = Arc::new(StateDir::open(&at("state")).unwrap());
    let dir = at("plugged");
    let first = plug(&dir, &at("a"), &[]);
    let (ca, record) = load_plugged(&state, &dir, Some(first.bundle().clone()), BTreeMap::new()).unwrap();
    assert!(record.is_none());
    let ca = Arc::new(ArcSwap::from_pointee(ca));
    let rotation = Rotation::new(Arc::clone(&state), Arc::clone(&ca), None, Some(dir.clone()));
    assert!(matches!(rotation.begin(&domain(), BTreeMap::new()), Err(RotationError::Plugged)));
    assert_eq!(rotation.due(), None);
    let shown = || (root(&at("a")) == ca.load().anchors().concat(), ca.load().bundle().roots_pem().len());
    // A further root is nobody's loss.
    assert!(!rotation.replaced(plug(&dir, &at("a"), &[&at("b")]), BTreeMap::new()).unwrap());
    assert_eq!(shown(), (true, 2));
    // Another signer and the old root left out at once: in stages all the same.
    assert!(rotation.replaced(plug(&dir, &at("b"), &[]), BTreeMap::new()).unwrap());
    assert_eq!(shown(), (true, 2), "the former CA signs on");
    assert!(matches!(rotation.abort(), Err(RotationError::PutBack)));
    // A restart has the new key only.
    let (restarted, record) = load_plugged(&state, &dir, None, BTreeMap::new()).unwrap();
    assert_eq!((restarted.bundle().roots_pem().len(), record.unwrap().phase), (2, RootPhase::Trust));
    rotation.advance(BTreeMap::new()).unwrap();
    assert_eq!(shown(), (false, 2), "the new one signs, both are trusted");
    rotation.advance(BTreeMap::new()).unwrap();
    assert_eq!((shown(), rotation.record()), ((false, 1), None));
    // Changed while no control plane ran: the roots that proxies were told of stay trusted, and those away are waited for.
    let told = ca.load().bundle().clone();
    plug(&dir, &at("a"), &[]);
    let expected: BTreeMap<WorkloadName, i64> = [("shop/front".parse().unwrap(), 1)].into();
    let (later, record) = load_plugged(&state, &dir, Some(told), expected.clone()).unwrap();
    assert_eq!((later.bundle().roots_pem().len(), record.unwrap().expected), (2, expected));
}

/// While both roots are trusted, the lists of the new CA are held against peers below the old one too: a list that bears the
/// name of the old root, and that the old root has not signed, would say who of its leaves is revoked.
#[test]
fn lists_that_bear_the_name_of_the_root_in_use_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (mutua_testbed::Pki::new(), mutua_testbed::Pki::new());
    let state = Arc::new(StateDir::open(&folder.path().join("state")).unwrap());
    let (ca, record) = load_plugged(&state, &old.dir(), None, BTreeMap::new()).unwrap();
    let ca = Arc::new(ArcSwap::from_pointee(ca));
    let rotation = Rotation::new(Arc::clone(&state), Arc::clone(&ca), record, Some(old.dir()));
    let before = ca.load().bundle().clone();
    // Both roots have the same name.
    new.put("ca-crl.pem", &new.lists(&[]));
    let next = Ca::from_dir(&new.dir()).expect("good by itself");
    let refused = rotation.replaced(next, BTreeMap::new()).expect_err("not beside the other").to_string();
    assert!(refused.contains("ca-crl.pem") && refused.contains("is not signed by that CA"), "{refused}");
    assert_eq!((rotation.record(), ca.load().bundle() == &before), (None, true), "nothing is changed");
    assert!(root_files::read(&state).unwrap().is_none(), "nor for a restart");
    std::fs::remove_file(new.dir().join("ca-crl.pem")).unwrap();
    assert!(rotation.replaced(Ca::from_dir(&new.dir()).unwrap(), BTreeMap::new()).unwrap(), "without lists it begins");
}

#[test]
fn a_root_is_changed_by_itself_when_a_fifth_remains() {
    let folder = tempfile::tempdir().unwrap();
    let year = Duration::from_secs(365 * 24 * 3600);
    for (age, is_due) in [(7 * year, false), (8 * year + year / 10, true)] {
        let path = folder.path().join(age.as_secs().to_string());
        std::fs::create_dir(&path).unwrap();
        let ca = Ca::load_or_create_at(&path, &domain(), SystemTime::now() - age).unwrap();
        let state = Arc::new(StateDir::open(&path).unwrap());
        let rotation = Rotation::new(state, Arc::new(ArcSwap::from_pointee(ca)), None, None);
        assert_eq!(rotation.due().unwrap() <= SystemTime::now(), is_due, "{age:?}");
    }
}

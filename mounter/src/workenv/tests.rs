//! Environments on a real disk: who gets which name, what is kept, what the marker files say.

use std::fs;
use std::time::{Duration, SystemTime};

use super::*;

/// Returns facts of a package at a path; its identity follows from the path.
pub(crate) fn facts(path: &str) -> PackageFacts {
    build(path, "app", 1)
}

fn build(path: impl Into<PathBuf>, name: &str, checksum: u32) -> PackageFacts {
    let index = IndexFacts { index_checksum: checksum, ..IndexFacts::default() };
    PackageFacts {
        kind: PackageKind::Package,
        path: path.into(),
        name: name.into(),
        version: "1".into(),
        id: PackageId::of(name, "1", &index.checksum_text()),
        index,
        metadata_json: format!(r#"{{"package":{{"name":"{name}","version":"1"}}}}"#).into_bytes(),
    }
}

struct Place {
    folder: tempfile::TempDir,
    cache: Cache,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("cache"));
        Self { folder, cache }
    }

    /// Puts a file where a package would be and returns facts about it.
    fn package(&self, path: &str, name: &str, checksum: u32) -> PackageFacts {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"").unwrap();
        build(path.canonicalize().unwrap(), name, checksum)
    }

    fn claim(&self, facts: &PackageFacts) -> (String, Claim) {
        let claimed = self.cache.claim(facts, NameRule::Any, SystemTime::UNIX_EPOCH).unwrap();
        (claimed.workenv.name().to_string(), claimed.claim)
    }

    /// Leaves what a launcher leaves behind.
    fn launcher_made(&self, name: &str, package: &PackageFacts) -> Workenv {
        let workenv = self.named(name);
        workenv.describe(package).unwrap();
        fs::remove_dir_all(workenv.own_directory()).unwrap();
        fs::write(workenv.content().join("file"), b"").unwrap();
        fs::write(workenv.checksum_file(), package.index.checksum_text()).unwrap();
        fs::write(workenv.complete_marker(), b"1\n").unwrap();
        workenv
    }

    fn named(&self, name: &str) -> Workenv {
        self.cache.workenv(WorkenvName::new(name.as_ref()).unwrap())
    }
}

#[test]
fn two_packages_with_one_file_name_get_two_environments_and_keep_them() {
    let place = Place::new();
    let one = place.package("a/app.psp", "one", 1);
    let two = place.package("b/app.psp", "two", 2);
    let second = format!("app-{}", two.id);
    assert_eq!(place.claim(&one), ("app".into(), Claim::New));
    assert_eq!(place.claim(&two), (second.clone(), Claim::New));
    assert_eq!(place.claim(&one), ("app".into(), Claim::Same));
    assert_eq!(place.claim(&two), (second.clone(), Claim::Same));
    // The second keeps its environment when the first one's is gone, and when it is rebuilt.
    fs::remove_dir_all(place.named("app").metadata()).unwrap();
    assert_eq!(place.claim(&two), (second.clone(), Claim::Same));
    let newer = place.package("b/app.psp", "two", 3);
    let (name, claim) = place.claim(&newer);
    assert!(name == second && matches!(claim, Claim::Rebuilt(record) if record.id == two.id));
    // Who needs the launcher's own name is told who has it.
    place.claim(&one);
    let error = place.cache.claim(&newer, NameRule::Launcher, SystemTime::now()).unwrap_err().to_string();
    assert!(error.contains("`app`") && error.contains("a/app.psp"), "{error}");
}

#[test]
fn a_rebuilt_package_is_recognised_by_its_path_or_by_a_file_that_is_gone() {
    let place = Place::new();
    let old = place.package("a/app.psp", "one", 1);
    place.claim(&old);
    let rebuilt = place.package("a/app.psp", "one", 2);
    assert!(
        matches!(place.claim(&rebuilt), (name, Claim::Rebuilt(record)) if name == "app" && record.id == old.id)
    );
    // A copy is the same package; the note follows it.
    let copy = place.package("c/app.psp", "one", 1);
    assert_eq!(place.claim(&copy), ("app".into(), Claim::Same));
    assert_eq!(Record::read(&place.named("app")).unwrap().path, copy.path);
    // Another build elsewhere is another package while that file exists, an upgrade when it is gone.
    let elsewhere = place.package("d/app.psp", "one", 5);
    assert_eq!(place.claim(&elsewhere), (format!("app-{}", elsewhere.id), Claim::New));
    fs::remove_file(&copy.path).unwrap();
    let upgrade = place.package("e/app.psp", "one", 6);
    assert!(matches!(place.claim(&upgrade), (name, Claim::Rebuilt(_)) if name == "app"));
    let stranger = place.package("e/app.psp", "other", 7);
    assert_eq!(place.claim(&stranger).0, format!("app-{}", stranger.id));
}

#[test]
fn environments_of_launchers_are_adopted_upgraded_or_left_alone() {
    let place = Place::new();
    let package = place.package("a/app.psp", "one", 1);
    place.launcher_made("app", &package);
    assert_eq!(place.claim(&package), ("app".into(), Claim::Same));

    let place = Place::new();
    place.launcher_made("app", &package);
    let newer = place.package("a/app.psp", "one", 2);
    assert!(matches!(place.claim(&newer), (name, Claim::Rebuilt(_)) if name == "app"));
    let other = place.package("b/app.psp", "two", 3);
    assert_eq!(place.claim(&other), (format!("app-{}", other.id), Claim::New));
    assert_eq!(fs::read_dir(place.named("app").content()).unwrap().count(), 1);
}

#[test]
fn a_handover_sets_writes_aside_and_carries_over_what_is_the_users() {
    let place = Place::new();
    let old = place.package("a/app.psp", "one", 1);
    place.claim(&old);
    let workenv = place.named("app");
    workenv.describe(&old).unwrap();
    workenv.mark_prepared(&old).unwrap();
    workenv.publish(&old).unwrap();
    for path in ["home/config", "lib/module.py"] {
        fs::create_dir_all(workenv.upper().join(path).parent().unwrap()).unwrap();
        fs::write(workenv.upper().join(path), path).unwrap();
    }
    let new = place.package("a/app.psp", "one", 2);
    let (_, Claim::Rebuilt(previous)) = place.claim(&new) else { panic!("not seen as rebuilt") };
    let done =
        workenv.replace(&new, &previous, SystemTime::now(), |name| name == "home", |_, _| Ok(())).unwrap();
    let aside = done.set_aside.unwrap();
    assert_eq!(done.carried, ["home"]);
    assert_eq!(fs::read_to_string(workenv.upper().join("home/config")).unwrap(), "home/config");
    assert!(!workenv.upper().join("lib").exists() && aside.join("lib/module.py").exists());
    assert_eq!(workenv.instance_state(), InstanceState::default());
    assert_eq!(place.claim(&new), ("app".into(), Claim::Same));
    // A build that wrote nothing leaves nothing behind, and a second handover does not touch the first.
    let third = place.package("a/app.psp", "one", 3);
    let (_, Claim::Rebuilt(previous)) = place.claim(&third) else { panic!("not seen as rebuilt") };
    let done = workenv.replace(&third, &previous, SystemTime::now(), |_| true, |_, _| Ok(())).unwrap();
    assert_eq!(done.set_aside, None);
    assert!(aside.join("lib/module.py").exists());
}

#[test]
fn an_interrupted_handover_is_finished_by_the_next_one() {
    // The states that a kill can leave: only noted, moved, or moved and partly carried over.
    for state in 0..3 {
        let place = Place::new();
        let old = place.package("a/app.psp", "one", 1);
        place.claim(&old);
        let workenv = place.named("app");
        workenv.describe(&old).unwrap();
        let aside = workenv.earlier().join("0-0/upper");
        let written = if state == 0 { workenv.upper() } else { aside.clone() };
        for name in ["home", "etc", "lib"] {
            fs::create_dir_all(written.join(name)).unwrap();
        }
        fs::create_dir_all(aside.parent().unwrap()).unwrap();
        fs::write(workenv.own_directory().join("replacing"), "0-0/upper").unwrap();
        if state == 2 {
            fs::rename(aside.join("home"), workenv.upper().join("home")).unwrap();
        }
        let previous = Record::read(&workenv).unwrap();
        let new = place.package("a/app.psp", "one", 2);
        let done =
            workenv.replace(&new, &previous, SystemTime::now(), |name| name != "lib", |_, _| Ok(())).unwrap();
        assert_eq!(done.set_aside.as_deref(), Some(aside.as_path()), "{state}");
        let names = |path: &Path| {
            let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|one| one.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&workenv.upper()), ["etc", "home"], "{state}");
        assert_eq!(names(&aside), ["lib"], "{state}");
        assert!(!workenv.own_directory().join("replacing").exists());
    }
}

#[test]
fn launchers_may_start_only_while_the_content_is_there() {
    let place = Place::new();
    let package = place.package("a/app.psp", "one", 0xfdec_57e6);
    place.claim(&package);
    let workenv = place.named("app");
    workenv.describe(&package).unwrap();
    assert!(!workenv.instance_state().is_prepared(&package));
    workenv.mark_prepared(&package).unwrap();
    let state = workenv.instance_state();
    assert!(state.is_prepared(&package) && state.complete && !state.launcher_would_start(&package));
    workenv.publish(&package).unwrap();
    assert_eq!(fs::read(workenv.checksum_file()).unwrap(), b"fdec57e6");
    assert!(workenv.instance_state().launcher_would_start(&package));
    assert!(!workenv.instance_state().launcher_would_start(&place.package("a/app.psp", "one", 2)));
    // Nothing is written again when it says the same.
    let before = fs::metadata(workenv.index_json()).unwrap().modified().unwrap();
    workenv.describe(&package).unwrap();
    assert_eq!(fs::metadata(workenv.index_json()).unwrap().modified().unwrap(), before);

    fs::write(workenv.content().join("extracted"), b"").unwrap();
    workenv.withdraw().unwrap();
    assert!(workenv.instance_state().launcher_would_start(&package));
    fs::remove_file(workenv.content().join("extracted")).unwrap();
    workenv.withdraw().unwrap();
    let state = workenv.instance_state();
    assert!(state.complete && state.is_prepared(&package) && state.checksum.is_none());
    workenv.forget_preparation().unwrap();
    assert_eq!(workenv.instance_state(), InstanceState::default());
}

#[test]
fn the_extraction_lock_waits_for_the_living_and_clears_the_dead() {
    let place = Place::new();
    let workenv = place.named("app");
    let held = InstanceLock::acquire(&workenv, Duration::ZERO).unwrap();
    assert_eq!(fs::read_to_string(workenv.extract_lock()).unwrap(), format!("{}\n", std::process::id()));
    let error = InstanceLock::acquire(&workenv, Duration::from_millis(30)).unwrap_err().to_string();
    assert!(error.contains(&format!("process {} ", std::process::id())), "{error}");
    drop(held);
    assert!(!workenv.extract_lock().exists());
    for left_behind in ["", "garbage", "0\n", "4190000000\n"] {
        fs::write(workenv.extract_lock(), left_behind).unwrap();
        drop(InstanceLock::acquire(&workenv, Duration::ZERO).unwrap());
    }
}

#[test]
fn environments_are_found_by_everything_that_names_them() {
    let place = Place::new();
    let one = place.package("a/alpha.psp", "one", 1);
    let two = place.package("a/alphabet.psp", "two", 2);
    place.claim(&one);
    place.claim(&two);
    let made = place.launcher_made("beta", &build("/p", "three", 3));
    let find = |query: &str| place.cache.find(Path::new(query)).map(|one| one.workenv.name().to_string());
    assert_eq!(find("alpha").unwrap(), "alpha");
    assert_eq!(find("alphab").unwrap(), "alphabet");
    assert_eq!(find("b").unwrap(), "beta");
    assert_eq!(find(two.id.as_str()).unwrap(), "alphabet");
    assert_eq!(find(&PackageId::of("three", "1", "00000003").as_str()[..9]).unwrap(), "beta");
    assert_eq!(find(one.path.to_str().unwrap()).unwrap(), "alpha");
    assert_eq!(find(made.content().to_str().unwrap()).unwrap(), "beta");
    assert_eq!(find("al").unwrap_err().to_string(), "`al` could be any of `alpha`, `alphabet`");
    for nobody in ["gamma", "", "/", "/nonexistent/x", ".."] {
        assert!(matches!(find(nobody), Err(WorkenvError::NotFound { .. })), "{nobody}");
    }
    let all = place.cache.all().unwrap();
    assert_eq!(
        all.iter().map(|one| one.made_by).collect::<Vec<_>>(),
        [MadeBy::Slotfs, MadeBy::Slotfs, MadeBy::Launcher]
    );
    assert_eq!(all[2].package.as_ref().unwrap().name, "three");
    assert!(Cache::new(place.folder.path().join("none")).all().unwrap().is_empty());
}

#[test]
fn damaged_environments_are_listed_and_never_stop_the_others() {
    let place = Place::new();
    let good = place.package("a/good.psp", "one", 1);
    place.claim(&good);
    for (name, file, bytes) in [
        ("json", "package/psp.json", &b"{"[..]),
        ("binary", "instance/package.checksum", b"\xff\xfe"),
        ("deep", "package/psp.json", &b"[".repeat(100_000)[..]),
        ("note", "slotfs/workenv.json", b"{\"version\": 9}"),
        ("id", "slotfs/prepared", b"../../../etc/passwd"),
    ] {
        let path = place.named(name).metadata().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let directory = place.named("folder").package_json();
    fs::create_dir_all(directory).unwrap();
    fs::write(place.cache.directory().join(".file.pspf"), b"").unwrap();
    let all = place.cache.all().unwrap();
    let names: Vec<_> = all.iter().map(|one| one.workenv.name().to_string()).collect();
    assert_eq!(names, ["binary", "deep", "folder", "good", "id", "json", "note"]);
    assert!(all.iter().filter(|one| one.workenv.name().to_string() != "good").all(|one| one.id.is_none()));
    // Whoever claims such a name gets it, or another one, but never an error about the damage.
    for name in ["json", "binary", "deep", "note", "id", "folder"] {
        let package = place.package(&format!("b/{name}.psp"), "one", 9);
        assert!(place.claim(&package).0.starts_with(name));
    }
}

#[test]
fn many_claims_at_once_agree() {
    let place = Place::new();
    let packages: Vec<_> =
        (0..4).map(|number| place.package(&format!("{number}/app.psp"), "one", number)).collect();
    let (shared, all) = (&place, &packages);
    let names = std::thread::scope(|scope| {
        let claims: Vec<_> = (0..12)
            .map(|number| (number % 4, scope.spawn(move || shared.claim(&all[number % 4]).0)))
            .collect();
        let mut names: Vec<_> =
            claims.into_iter().map(|(number, claim)| (number, claim.join().unwrap())).collect();
        names.sort();
        names.dedup();
        names
    });
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(names.iter().filter(|(_, name)| name == "app").count(), 1);
}

//! What a program gets from slotfs is what it gets from its package's own launchers, but for the differences
//! that `docs/launchers.md` lists; and every difference listed there is real.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{Found, Peer, Place, file_slot, peer, run, take_apart};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use slotfs::launch::{Launch, Program, command_line};
use slotfs::settings::{Environment, Family, Overrides, Settings};
use slotfs::workenv::{Cache, WorkenvName};

const PAGE: &str = include_str!("../../../docs/launchers.md");

/// A package to run, and how.
#[derive(Deserialize)]
struct Case {
    name: String,
    /// Sections beside `package` and the probe's slot; `execution.command` is the probe where it is not given.
    #[serde(default)]
    sections: Map<String, Value>,
    /// Variables to set, or not to.
    #[serde(default)]
    variables: BTreeMap<String, Option<String>>,
    #[serde(default)]
    arguments: Vec<String>,
    /// Called through a link of another name.
    #[serde(default)]
    linked: bool,
}

impl Case {
    /// Reads the cases; `{folder}` in them is the place's.
    fn all(place: &Place) -> Vec<Self> {
        let folder = place.folder.path().display().to_string();
        serde_json::from_str(&include_str!("cases.json").replace("{folder}", &folder)).unwrap()
    }

    fn manifest(&self) -> Value {
        let mut manifest = plain();
        for (name, section) in &self.sections {
            match (manifest.get_mut(name), section) {
                (Some(Value::Object(known)), Value::Object(more)) => known.extend(more.clone()),
                (Some(Value::Array(known)), Value::Array(more)) => known.extend(more.clone()),
                _ => manifest[name] = section.clone(),
            }
        }
        manifest
    }
}

fn plain() -> Value {
    json!({
        "package": { "name": "pkg", "version": "1.0" },
        "execution": { "command": "/bin/sh {workenv}/probe.sh" },
        "slots": [file_slot("probe.sh", "probe.sh", "0755")],
    })
}

/// A row of the page's list.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    launcher: String,
    package: String,
    what: String,
    theirs: Option<String>,
    ours: Option<String>,
}

fn listed() -> Vec<Row> {
    let start = PAGE.find("<!-- differences").unwrap();
    let end = PAGE.find("<!-- end of differences").unwrap();
    let rows = PAGE[start..end].lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [launcher, package, what, theirs, ours, why] = cells[..] else { panic!("{row}") };
        assert!(!why.is_empty(), "a difference needs a reason: {row}");
        let value = |cell: &str| (cell != "not set").then(|| cell.trim_matches('`').to_owned());
        Row {
            launcher: launcher.to_owned(),
            package: package.to_owned(),
            what: what.trim_matches('`').to_owned(),
            theirs: value(theirs),
            ours: value(ours),
        }
    })
    .collect()
}

/// Runs a case under the launcher, then by slotfs's plan on the tree that the launcher unpacked.
fn differences(peer: &Peer, place: &Place, case: &Case, language: &str) -> Vec<Row> {
    let package = peer.build(language, place, &case.name, &case.manifest());
    let mut variables: Vec<(String, OsString)> = vec![
        ("HOME".into(), place.home().into()),
        ("PATH".into(), "/usr/bin:/bin".into()),
        ("FLAVOR_LOG_LEVEL".into(), "error".into()),
    ];
    for (name, value) in &case.variables {
        variables.retain(|(known, _)| known != name);
        variables.extend(value.as_ref().map(|value| (name.clone(), value.into())));
    }
    let arguments: Vec<OsString> = case.arguments.iter().map(OsString::from).collect();
    let called = if case.linked { place.folder.path().join("another-name") } else { package.clone() };
    if case.linked {
        let _ = std::fs::remove_file(&called);
        symlink(&package, &called).unwrap();
    }
    let theirs = run(&called, &arguments, &variables, &place.somewhere());
    assert_eq!(
        theirs.status.code(),
        Some(42),
        "{language} {}: {}",
        case.name,
        String::from_utf8_lossy(&theirs.stderr)
    );
    let theirs = place.take_found();

    let environment = Environment::new(Family::Unix, place.somewhere(), variables);
    let settings = Settings::resolve(&environment, &Overrides::default()).unwrap();
    let (metadata, facts) = take_apart(&called);
    let cache = Cache::new(&settings.launcher_cache_directory);
    let workenv = cache.workenv(WorkenvName::of(&facts));
    let program = Program {
        metadata: &metadata,
        package: &facts.path,
        workenv: &workenv.content(),
        cache: cache.directory(),
    };
    let launch = Launch::plan(&program, &environment, &arguments).unwrap();
    let mut command = Command::new(&launch.executable);
    command.arg0(&launch.argv0).args(&launch.arguments).env_clear().envs(&launch.environment);
    let status = command.current_dir(place.somewhere()).status().unwrap();
    assert_eq!(status.code(), Some(42), "slotfs {}", case.name);
    let ours = place.take_found();

    let launcher = if language == "rs" { "Rust" } else { "Go" };
    let generic = |text: String| {
        text.replace(program.workenv.to_str().unwrap(), "{W}")
            .replace(program.cache.to_str().unwrap(), "{cache}")
            .replace(place.home().to_str().unwrap(), "{home}")
            .replace(place.folder.path().to_str().unwrap(), "{folder}")
    };
    compare(&theirs, &ours)
        .into_iter()
        .map(|(what, theirs, ours)| Row {
            launcher: launcher.into(),
            package: case.name.clone(),
            what,
            theirs: theirs.map(generic),
            ours: ours.map(generic),
        })
        .collect()
}

fn compare(theirs: &Found, ours: &Found) -> Vec<(String, Option<String>, Option<String>)> {
    let mut found = Vec::new();
    let mut note = |what: &str, theirs: Option<String>, ours: Option<String>| {
        if theirs != ours {
            found.push((what.to_owned(), theirs, ours));
        }
    };
    let line = |found: &Found| Some(command_line::join(found.arguments.iter().map(AsRef::as_ref)));
    note("argv", line(theirs), line(ours));
    note("working directory", Some(theirs.directory.clone()), Some(ours.directory.clone()));
    let names: BTreeSet<_> = theirs.environment.keys().chain(ours.environment.keys()).collect();
    for name in names {
        note(name, theirs.environment.get(name).cloned(), ours.environment.get(name).cloned());
    }
    found
}

#[test]
fn a_program_gets_what_its_launchers_give_it_but_for_the_listed_differences() {
    let Some(peer) = peer() else { return };
    let place = Place::new();
    std::fs::copy(place.sources().join("probe.sh"), place.tools().join("tool")).unwrap();
    std::fs::set_permissions(place.tools().join("tool"), PermissionsExt::from_mode(0o755)).unwrap();
    let listed = listed();
    let mut used = BTreeSet::new();
    let mut unlisted = Vec::new();
    for case in Case::all(&place) {
        for language in ["rs", "go"] {
            // Each launcher unpacks anew: the two would not accept each other's environment of one name.
            let _ = std::fs::remove_dir_all(place.home().join(".cache"));
            for name in ["root", "outer"] {
                let _ = std::fs::remove_dir_all(place.folder.path().join(name));
            }
            for row in differences(&peer, &place, &case, language) {
                let fits = |known: &&Row| {
                    known.launcher == row.launcher
                        && known.what == row.what
                        && known.theirs == row.theirs
                        && known.ours == row.ours
                };
                let own = listed.iter().filter(|known| known.package == row.package).find(fits);
                match own.or_else(|| listed.iter().filter(|known| known.package == "any").find(fits)) {
                    Some(known) => drop(used.insert(known)),
                    None => unlisted.push(row),
                }
            }
        }
    }
    let shown =
        |value: &Option<String>| value.as_ref().map_or("not set".to_owned(), |value| format!("`{value}`"));
    for row in &unlisted {
        let (theirs, ours) = (shown(&row.theirs), shown(&row.ours));
        eprintln!("| {} | {} | `{}` | {theirs} | {ours} | ? |", row.launcher, row.package, row.what);
    }
    assert!(unlisted.is_empty(), "{} differences are not in docs/launchers.md", unlisted.len());
    let stale: Vec<_> = listed.iter().filter(|row| !used.contains(row)).collect();
    assert!(stale.is_empty(), "docs/launchers.md lists what is no difference: {stale:#?}");
}

#[test]
fn environments_are_where_the_launchers_put_them() {
    let Some(peer) = peer() else { return };
    let place = Place::new();
    let path = |name: &str| place.folder.path().join(name).display().to_string();
    let tables: [&[(&str, String)]; 7] = [
        &[("HOME", path("h"))],
        &[("HOME", path("h")), ("XDG_CACHE_HOME", path("x"))],
        &[("HOME", path("h")), ("XDG_CACHE_HOME", String::new())],
        &[("HOME", path("h")), ("XDG_CACHE_HOME", "relative".into())],
        &[("HOME", path("h")), ("XDG_CACHE_HOME", path("x")), ("FLAVOR_CACHE_DIR", path("f"))],
        &[("HOME", path("h")), ("FLAVOR_CACHE_DIR", path("f")), ("FLAVOR_WORKENV", path("o/any/name"))],
        &[("TMPDIR", path("t"))],
    ];
    for language in ["rs", "go"] {
        let package = peer.build(language, &place, "where.it.is", &plain());
        for table in tables {
            if language == "go" && table.iter().all(|(name, _)| *name != "HOME") {
                // The Go launcher's own place without a home, which slotfs does not share.
                continue;
            }
            let mut variables: Vec<(String, OsString)> =
                table.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
            variables.push(("FLAVOR_LOG_LEVEL".into(), "error".into()));
            for name in ["h", "x", "f", "o", "t", "somewhere/relative"] {
                let _ = std::fs::remove_dir_all(place.folder.path().join(name));
            }
            let ran = run(&package, &[], &variables, &place.somewhere());
            assert_eq!(ran.status.code(), Some(42), "{}", String::from_utf8_lossy(&ran.stderr));
            let theirs = place.take_found().environment["FLAVOR_WORKENV"].clone();
            let environment = Environment::new(Family::Unix, place.somewhere(), variables);
            let settings = Settings::resolve(&environment, &Overrides::default()).unwrap();
            let (_, facts) = take_apart(&package);
            let ours =
                Cache::new(&settings.launcher_cache_directory).workenv(WorkenvName::of(&facts)).content();
            assert_eq!(place.somewhere().join(Path::new(&theirs)), ours, "{language} {table:?}");
            assert_eq!(settings.cache_directory.value, settings.launcher_cache_directory);
        }
    }
}

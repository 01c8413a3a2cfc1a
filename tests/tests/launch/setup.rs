//! Setup commands: the same calls and files as under the Rust launcher, and what the launchers get wrong.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{Place, file_slot, peer, run, take_apart};
use serde_json::{Value, json};
use slotfs::launch::{LaunchError, Program, Setup, make_directories, passes_check};
use slotfs::settings::{Environment, Family};
use slotfs_fs::package::metadata::Metadata;

/// A work environment of plain files.
struct Made {
    folder: tempfile::TempDir,
}

impl Made {
    fn new(files: &[(&str, &str)]) -> Self {
        let made = Self { folder: tempfile::tempdir().unwrap() };
        for (name, content) in files {
            let path = made.workenv().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        fs::create_dir_all(made.workenv()).unwrap();
        made
    }

    fn workenv(&self) -> PathBuf {
        self.folder.path().join("workenv/app")
    }

    fn set_up(&self, commands: &Value) -> Result<Vec<String>, LaunchError> {
        let json = json!({ "package": { "name": "app", "version": "3" }, "setup_commands": commands });
        let metadata: Metadata = serde_json::from_value(json).unwrap();
        let environment = Environment::new(Family::Unix, "/", [("PATH", "/usr/bin:/bin")]);
        set_up(&metadata, Path::new("/p/app.psp"), &self.workenv(), &environment)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.workenv().join(name)).unwrap()
    }
}

fn set_up(
    metadata: &Metadata,
    package: &Path,
    workenv: &Path,
    environment: &Environment,
) -> Result<Vec<String>, LaunchError> {
    let program = Program { metadata, package, workenv, cache: workenv.parent().unwrap() };
    make_directories(&program)?;
    let setup = Setup::plan(&program, environment)?;
    let mut told = Vec::new();
    setup.run(&program, |step| told.push(step.title.clone()))?;
    assert!(passes_check(&program));
    Ok(told)
}

/// Every path below a directory with its mode and content.
fn tree(root: &Path) -> BTreeMap<String, (u32, String)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let known = path.symlink_metadata().unwrap();
            let content = if known.is_dir() { String::new() } else { fs::read_to_string(&path).unwrap() };
            if known.is_dir() {
                waiting.push(path.clone());
            }
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(name, (known.mode() & 0o7777, content));
        }
    }
    found
}

/// A package whose setup uses every kind of command that both understand alike.
fn manifest() -> Value {
    let mut slots = vec![file_slot("probe.sh", "probe.sh", "0755"), file_slot("log.sh", "bin/log", "0755")];
    let wheels = ["wh/a.whl", "wh/.h.whl", "wh/B.whl", "wh/d/n.whl", "wh/x.no"];
    slots.extend(wheels.map(|name| file_slot("content", name, "0644")));
    let each = |command: &str, path: &str, pattern: &str| json!({ "type": "enumerate_and_execute", "command": command, "enumerate": { "path": path, "pattern": pattern } });
    json!({
        "package": { "name": "app", "version": "3" },
        "execution": { "command": "/bin/sh {workenv}/probe.sh", "env": { "X": "plain", "PATH": "/nowhere" } },
        "slots": slots,
        "runtime": { "env": { "unset": ["INHERITED"], "set": { "R": "1" } } },
        "workenv": {
            "directories": [{ "path": "{workenv}/var/log", "mode": "0750" }],
            "env": { "HOME": "{workenv}/h" }
        },
        "cache_validation": {
            "check_file": "{workenv}/metadata/installed", "expected_content": "{package_name}-{version}"
        },
        "setup_commands": [
            { "type": "execute", "command": "{workenv}/bin/log '{package_name} x' {version} {slot:0} \"{workenv}/y\"" },
            { "type": "execute", "command": "log by-name" },
            { "type": "execute", "command": "/nonexistent/log by-name" },
            { "type": "execute", "command": "" },
            each("{workenv}/bin/log each", "{workenv}/wh", "*.whl"),
            each("{workenv}/bin/log deep", "{workenv}", "wh/**/[!B]*.whl"),
            each("{workenv}/bin/log none", "{workenv}/nope", "*"),
            { "type": "chmod", "path": "{workenv}/wh/*", "mode": "640" },
            { "type": "chmod", "path": "{workenv}/probe.sh", "mode": "bogus" },
            { "type": "chmod", "path": "{workenv}/nope/*", "mode": "640" },
            { "type": "write_file", "path": "{workenv}/deep/er/file", "content": "{package_name}\n{version} {slot:0}" },
            { "type": "write_file", "path": "{workenv}/metadata/installed", "content": "{package_name}-{version}" },
        ],
    })
}

/// The package's file slots as a mount shows them: at their targets, with their modes.
fn place_slots(place: &Place, manifest: &Value, workenv: &Path) {
    for slot in manifest["slots"].as_array().unwrap() {
        let path = workenv.join(slot["target"].as_str().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(place.sources().join(slot["source"].as_str().unwrap()), &path).unwrap();
        let mode = u32::from_str_radix(slot["permissions"].as_str().unwrap(), 8).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    for parent in ["bin", "wh", "wh/d"] {
        // The Rust launcher's mode for the parents of file slots, which is not what these tests are about.
        fs::set_permissions(workenv.join(parent), PermissionsExt::from_mode(0o700)).unwrap();
    }
}

#[test]
fn the_same_calls_and_files_as_under_the_rust_launcher() {
    let Some(peer) = peer() else { return };
    let place = Place::new();
    let log = place.found().join("log");
    let script = format!(
        "#!/bin/sh\n{{ echo CALL; for a; do echo \"[$a]\"; done; /usr/bin/tr '\\0' '\\n' < /proc/$$/environ | \
         /usr/bin/sort; /usr/bin/readlink /proc/$$/cwd; /bin/cat; }} >> '{}'\necho noise\n",
        log.display()
    );
    fs::write(place.sources().join("log.sh"), &script).unwrap();
    fs::write(place.sources().join("content"), "x").unwrap();
    let manifest = manifest();
    let package = peer.build("rs", &place, "app", &manifest);
    let variables: Vec<(String, OsString)> = vec![
        ("HOME".into(), place.home().into()),
        ("PATH".into(), "/usr/bin:/bin".into()),
        ("INHERITED".into(), "1".into()),
        ("FLAVOR_LOG_LEVEL".into(), "error".into()),
    ];
    // Setup runs where the caller is.
    let ran = run(&package, &[], &variables, &std::env::current_dir().unwrap());
    assert_eq!(ran.status.code(), Some(42), "{}", String::from_utf8_lossy(&ran.stderr));
    let workenv = place.home().join(".cache/flavor/workenv/app");
    // It sets up in a temporary place, which is gone afterwards.
    let temporary = place.home().join(".cache/flavor/workenv/.app.pspf/tmp").display().to_string();
    let told = fs::read_to_string(&log).unwrap();
    let process = told.split(&format!("{temporary}/")).nth(1).unwrap().split('/').next().unwrap();
    let their_calls = told.replace(&format!("{temporary}/{process}"), &workenv.display().to_string());
    let their_tree = tree(&workenv);

    fs::remove_file(&log).unwrap();
    fs::remove_dir_all(&workenv).unwrap();
    place_slots(&place, &manifest, &workenv);
    let (metadata, facts) = take_apart(&package);
    let environment = Environment::new(Family::Unix, place.somewhere(), variables);
    let titles = set_up(&metadata, &facts.path, &workenv, &environment).unwrap();
    assert_eq!(titles.len(), 11, "the empty command is none: {titles:#?}");
    let our_calls = fs::read_to_string(&log).unwrap();
    assert_eq!(our_calls, their_calls);
    assert!(our_calls.matches("CALL").count() == 9 && our_calls.contains("INHERITED=1"));
    assert_eq!(tree(&workenv), their_tree);
}

#[test]
fn any_file_name_is_one_argument() {
    let files = ["wh/b c.t", "wh/it's.t", "wh/\"q\".t", "wh/$x;&.t", "wh/é\n.t"].map(|name| (name, ""));
    let made = Made::new(&files);
    let log = made.workenv().join("log");
    let script = format!("#!/bin/sh\nprintf '%s|' \"$@\" >> '{}'\n", log.display());
    fs::write(made.workenv().join("log.sh"), script).unwrap();
    made.set_up(&json!([{ "type": "enumerate_and_execute", "command": "/bin/sh {workenv}/log.sh",
        "enumerate": { "path": "{workenv}/wh", "pattern": "*.t" } }]))
        .unwrap();
    let prefix = format!("{}/wh/", made.workenv().display());
    assert_eq!(made.read("log").replace(&prefix, ""), "\"q\".t|$x;&.t|b c.t|it's.t|é\n.t|");
}

#[test]
fn a_failure_shows_the_command_its_exit_code_and_the_end_of_its_output() {
    let made = Made::new(&[]);
    let fails = |command: &str| {
        made.set_up(&json!(["/bin/true", { "type": "execute", "command": command }, "touch {workenv}/never"]))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        fails("sh -c 'echo out; echo err >&2; exit 3'"),
        "setup command 2, `sh -c 'echo out; echo err >&2; exit 3'`, ended with exit code 3; it printed:\nout\nerr"
    );
    let error = fails("sh -c 'i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 1'");
    assert!(error.len() < 70_000 && error.ends_with("line 19999"), "{}", error.len());
    assert!(fails("sh -c 'kill -9 $$'").contains("signal: 9"));
    assert!(fails("/bin/false").ends_with("ended with exit code 1 and printed nothing"));
    let error = fails("no-such-program x");
    assert!(
        error.contains("cannot find the program `no-such-program`")
            && error.contains("`/bin/no-such-program`")
    );
    fs::write(made.workenv().join("data"), "").unwrap();
    assert!(fails("{workenv}/data").contains("Permission denied"));
    assert!(!made.workenv().join("never").exists());
}

#[test]
fn commands_have_no_input_and_may_leave_something_running() {
    let made = Made::new(&[]);
    let start = Instant::now();
    made.set_up(&json!(["/bin/cat", "sh -c 'sleep 3 & echo $! > {workenv}/pid'"])).unwrap();
    let error =
        made.set_up(&json!(["sh -c 'sleep 3 & echo $! >> {workenv}/pid; echo said; exit 1'"])).unwrap_err();
    assert!(error.to_string().ends_with("said"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    for process in made.read("pid").lines() {
        let process = nix::unistd::Pid::from_raw(process.parse().unwrap());
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

#[test]
fn nothing_is_written_or_changed_outside() {
    let made = Made::new(&[("bin/tool", ""), ("real/file", "")]);
    let outside = made.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "as it was").unwrap();
    fs::set_permissions(outside.join("victim"), PermissionsExt::from_mode(0o604)).unwrap();
    symlink(&outside, made.workenv().join("way-out")).unwrap();
    symlink(outside.join("victim"), made.workenv().join("bin/linked")).unwrap();
    symlink(outside.join("absent"), made.workenv().join("dangling")).unwrap();
    symlink("real", made.workenv().join("inner")).unwrap();
    for path in [
        "{workenv}/../outside/new",
        "../../outside/new",
        "{workenv}/way-out/new",
        "{workenv}/dangling",
        "{workenv}/bin/linked",
        "/tmp/slotfs-test-never-written",
    ] {
        for command in [
            json!({ "type": "write_file", "path": path, "content": "new" }),
            json!({ "type": "enumerate_and_execute", "command": "true", "enumerate": { "path": path, "pattern": "*" } }),
        ] {
            let error = made.set_up(&json!([command])).unwrap_err();
            assert!(matches!(error, LaunchError::Outside { .. }), "{path}: {error}");
        }
    }
    let pattern = json!([{ "type": "enumerate_and_execute", "command": "true", "enumerate": { "path": "{workenv}", "pattern": "../../*" } }]);
    assert!(matches!(made.set_up(&pattern), Err(LaunchError::Outside { .. })));
    made.set_up(&json!([
        { "type": "chmod", "path": "{workenv}/bin/*", "mode": "711" },
        { "type": "chmod", "path": "{workenv}/*", "mode": "711" },
        { "type": "write_file", "path": "{workenv}/inner/new", "content": "{workenv}", "mode": "0600" },
        { "type": "write_file", "path": "relative", "content": "r\n", "mode": 416 },
    ]))
    .unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(made.workenv().join("bin/tool")), 0o711);
    assert_eq!(mode(made.workenv().join("real/new")), 0o600);
    assert_eq!(mode(made.workenv().join("relative")), 0o640);
    assert_eq!(made.read("real/new"), made.workenv().display().to_string());
    assert_eq!(mode(outside.join("victim")), 0o604);
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "as it was");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn an_environment_with_spaces_in_its_path_works() {
    let folder = tempfile::tempdir().unwrap();
    let workenv = folder.path().join("two words/it's here");
    fs::create_dir_all(&workenv).unwrap();
    let metadata: Metadata = serde_json::from_value(json!({
        "setup_commands": ["/bin/sh -c 'echo \"$1\" > \"$1/said\"' sh {workenv}"],
    }))
    .unwrap();
    let environment = Environment::new(Family::Unix, "/", [("PATH", "/usr/bin:/bin")]);
    set_up(&metadata, Path::new("/p"), &workenv, &environment).unwrap();
    assert_eq!(fs::read_to_string(workenv.join("said")).unwrap(), format!("{}\n", workenv.display()));
}

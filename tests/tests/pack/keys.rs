//! `slotfs keygen`: the same files as FlavorPack's own tool, for nobody but their owner, never replaced unasked.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use slotfs_tests::command::{Done, Home, binary, flavor, real_builder, real_launcher, skip};

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

/// A file without what is different in every key.
fn form(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    // 16 characters of the algorithm's name, then the key.
    text.split('\n')
        .map(|line| line.chars().take(if line.starts_with('-') { 80 } else { 16 }).collect())
        .collect()
}

#[test]
fn the_files_are_those_of_flavor_keygen() {
    let Some(flavor) = flavor() else { return };
    let home = Home::new();
    home.run(["keygen"]).success();
    Done::of(home.program(flavor).args(["keygen", "--out-dir", "theirs"])).success();
    for name in ["flavor-private.key", "flavor-public.key"] {
        let (ours, theirs) = (home.path("keys").join(name), home.path("theirs").join(name));
        assert_eq!(form(&ours), form(&theirs), "{name}");
        assert_eq!(ours.metadata().unwrap().len(), theirs.metadata().unwrap().len(), "{name}");
        assert_ne!(std::fs::read(ours).unwrap(), std::fs::read(theirs).unwrap(), "{name}");
    }
    assert_eq!(mode(&home.path("keys")), 0o700);
    assert_eq!(mode(&home.path("keys/flavor-private.key")), 0o600);
}

#[test]
fn the_private_key_is_private_whatever_the_umask() {
    let home = Home::new();
    std::fs::create_dir(home.path("open")).unwrap();
    let line = format!("umask 0; exec {} keygen --out-dir open", binary().display());
    Done::of(home.program("sh").args(["-c", &line])).success();
    assert_eq!(mode(&home.path("open/flavor-private.key")), 0o600);
    assert_eq!(mode(&home.path("open/flavor-public.key")), 0o666);
}

#[test]
fn a_key_is_replaced_only_on_demand() {
    let home = Home::new();
    let first = home.run(["keygen", "--json"]).success();
    let first: Value = serde_json::from_str(&first.stdout).unwrap();
    let kept = std::fs::read(home.path("keys/flavor-private.key")).unwrap();
    let refused = home.run(["keygen"]).code(2);
    assert!(refused.stderr.contains("`keys/flavor-private.key` is there already"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--yes"), "{}", refused.stderr);
    assert_eq!(std::fs::read(home.path("keys/flavor-private.key")).unwrap(), kept);
    // Also when the private half alone, or a link to nowhere, is there.
    std::fs::create_dir(home.path("half")).unwrap();
    std::os::unix::fs::symlink("nowhere", home.path("half/flavor-public.key")).unwrap();
    home.run(["keygen", "--out-dir", "half"]).code(2);
    assert!(!home.path("half/flavor-private.key").exists());

    let second = home.run(["keygen", "--json", "-y"]).success();
    let second: Value = serde_json::from_str(&second.stdout).unwrap();
    assert_ne!(first["fingerprint"], second["fingerprint"]);
    assert_ne!(std::fs::read(home.path("keys/flavor-private.key")).unwrap(), kept);
    assert_eq!(std::fs::read_dir(home.path("keys")).unwrap().count(), 2, "no temporary is left");
}

#[test]
fn on_a_terminal_replacing_is_asked_about() {
    let home = Home::new();
    if home.program("script").arg("--version").output().is_err() {
        skip("`script` (util-linux) is not installed".into());
        return;
    }
    home.run(["keygen"]).success();
    let kept = std::fs::read(home.path("keys/flavor-private.key")).unwrap();
    let answer = |word: &str| {
        let line = format!("{} keygen", binary().display());
        let mut command = home.program("script");
        command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let mut running = slotfs_tests::command::Running::start(&mut command);
        running.tell(&format!("{word}\n"));
        running.finish()
    };
    let refused = answer("n");
    assert!(refused.stdout.contains("Replace it? [y/N]"), "{}", refused.stdout);
    assert_eq!(refused.code, 1);
    assert_eq!(std::fs::read(home.path("keys/flavor-private.key")).unwrap(), kept);
    assert_eq!(answer("y").code, 0);
    assert_ne!(std::fs::read(home.path("keys/flavor-private.key")).unwrap(), kept);
}

#[test]
fn flavorpack_signs_with_a_key_of_slotfs() {
    let Some(flavor) = flavor() else { return };
    let home = Home::new();
    let made = home.run(["keygen", "--json"]).success();
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    std::fs::write(home.path("hello"), "hello").unwrap();
    let manifest = json!({
        "package": { "name": "demo", "version": "1" }, "execution": { "command": "/bin/true" },
        "slots": [{ "id": "hello", "source": "hello", "target": "hello", "operations": "raw" }]
    });
    std::fs::write(home.path("manifest.json"), manifest.to_string()).unwrap();
    for language in ["rs", "go"] {
        let (Some(builder), Some(launcher)) = (real_builder(language), real_launcher(language)) else {
            return;
        };
        let package = format!("{language}.psp");
        let mut build: Command = home.program(builder);
        build.args(["--manifest", "manifest.json", "--output", &package, "--launcher-bin"]).arg(launcher);
        build.args(["--private-key", "keys/flavor-private.key", "--public-key", "keys/flavor-public.key"]);
        Done::of(&mut build).success();
        Done::of(home.program(&flavor).args(["verify", &package])).success();
        let shown = home.run(["inspect", "--json", &package]).success();
        let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
        assert_eq!(shown["package"]["signature"]["state"], "valid");
        assert_eq!(shown["package"]["signature"]["key_fingerprint"], made["fingerprint"], "{language}");
    }
}

#[test]
fn slotfs_signs_with_a_key_of_flavorpack() {
    let Some(flavor) = flavor() else { return };
    let home = Home::new();
    Done::of(home.program(&flavor).args(["keygen"])).success();
    std::fs::write(home.path("hello"), "hello").unwrap();
    home.run(["pack", "hello", "-o", "demo.psp", "--private-key", "keys/flavor-private.key"]).success();
    Done::of(home.program(&flavor).args(["verify", "demo.psp"])).success();
    let folder = home.path(".config/flavor/trusted-keys");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(home.path("keys/flavor-public.key"), folder.join("them.pub")).unwrap();
    let shown = home.run(["verify", "demo.psp"]).success();
    assert!(shown.stdout.contains("by `them`"), "{}", shown.stdout);
}

#[test]
fn a_public_key_of_slotfs_makes_its_packages_trusted() {
    let home = Home::new();
    home.run(["keygen"]).success();
    let folder = home.path(".config/flavor/trusted-keys");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(home.path("keys/flavor-public.key"), folder.join("me.pub")).unwrap();
    let stores = slotfs::plan::KeyStores::read(&[folder]);
    let key = slotfs_fs::package::keys::KeyPair::read(&home.path("keys/flavor-private.key")).unwrap();
    assert_eq!(stores.name_of(&key.public_key()), Some("me"));
}

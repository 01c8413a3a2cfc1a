//! FlavorPack's JSON manifest: the same one gives the same package from its builders and from slotfs.

use serde_json::{Value, json};
use slotfs_tests::command::{Done, Home, real_builder};
use slotfs_tests::package::{Tree, compress};

use super::support::{application, file, inspected, launchers, metadata, pack, started, verified};

fn manifest(home: &Home) -> Value {
    application(home);
    let tree = Tree::new().directory("lib", 0o755).file("lib/code", 0o644, b"code").file(
        "bin/show2",
        0o755,
        b"#!/bin/sh\n",
    );
    file(home, "tree.tgz", 0o644, compress("gzip", &tree.archive()));
    file(home, "tool.gz", 0o644, compress("gzip", b"#!/bin/sh\nexit 3\n"));
    let written = json!({
        "package": { "name": "demo", "version": "1.2.3", "description": "a thing" },
        "execution": { "command": "{workenv}/show one", "env": { "COLOUR": "red" } },
        "slots": [
            { "slot": 0, "id": "show", "source": "app/bin/show", "target": "show", "operations": "raw",
              "purpose": "code", "lifecycle": "runtime", "permissions": "0755" },
            { "slot": 1, "id": "tree", "source": "tree.tgz", "target": "{workenv}/ignored", "operations": "tgz",
              "lifecycle": "cache" },
            { "slot": 2, "id": "tool", "source": "{workenv}/tool.gz", "target": "bin/tool", "operations": "gzip",
              "permissions": "755", "lifecycle": "init" }
        ],
        "cache_validation": { "check_file": "{workenv}/mark", "expected_content": "{package_name}-{version}" },
        "setup_commands": [{ "type": "write_file", "path": "{workenv}/mark", "content": "{package_name}-{version}" }],
        "runtime": { "env": { "unset": ["NOTHING"] } },
        "workenv": { "directories": [{ "path": "{workenv}/var", "mode": "0700" }], "env": { "KIND": "test" } }
    });
    file(home, "manifest.json", 0o644, written.to_string());
    written
}

/// What of the metadata does not depend on who built it.
fn comparable(home: &Home, package: &str) -> Value {
    let mut metadata: Value = serde_json::from_str(&metadata(home, package)).unwrap();
    for key in ["build", "launcher", "slotfs"] {
        metadata.as_object_mut().unwrap().remove(key);
    }
    metadata["package"].as_object_mut().unwrap().remove("description");
    for slot in metadata["slots"].as_array_mut().unwrap() {
        // slotfs compresses again; who gives no mode gets one by the file; trees have none.
        for key in ["size", "checksum", "resolution", "permissions"] {
            slot.as_object_mut().unwrap().remove(key);
        }
    }
    metadata
}

#[test]
fn slotfs_makes_of_it_what_the_builders_make() {
    for (language, launcher) in launchers() {
        let Some(builder) = real_builder("rs") else { return };
        let home = Home::new();
        manifest(&home);
        let launcher = launcher.display().to_string();
        let line = ["-m", "manifest.json", "-o", "ours/demo.psp", "--launcher", &launcher, "--key-seed", "s"];
        std::fs::create_dir(home.path("ours")).unwrap();
        std::fs::create_dir(home.path("theirs")).unwrap();
        pack(&home, &line).success();
        let mut build = home.program(builder);
        build.args(["--manifest", "manifest.json", "--output", "theirs/demo.psp", "--key-seed", "s"]);
        Done::of(build.args(["--launcher-bin", &launcher])).success();
        assert_eq!(comparable(&home, "ours/demo.psp"), comparable(&home, "theirs/demo.psp"));
        let key = |package: &str| inspected(&home, package)["package"]["signature"].clone();
        assert_eq!(key("ours/demo.psp"), key("theirs/demo.psp"));
        verified(&home, "ours/demo.psp");
        let ran: Vec<_> = ["ours", "theirs"]
            .map(|maker| {
                let other = Home::new();
                std::fs::copy(home.path(maker).join("demo.psp"), other.path("demo.psp")).unwrap();
                started(&other, &other.path("demo.psp"), &["two"])
            })
            .into();
        assert_eq!(ran[0], ran[1], "{language}");
        assert!(ran[0].0.starts_with("red one two\n"), "{}", ran[0].0);
    }
}

#[test]
fn arguments_go_before_what_the_manifest_says() {
    let home = Home::new();
    manifest(&home);
    let line = [
        "app,id=more,target=opt",
        "-m",
        "manifest.json",
        "-o",
        "demo.psp",
        "--name",
        "other",
        "--package-version",
        "9",
        "--command",
        "{workenv}/opt/bin/show",
        "--env",
        "COLOUR=green",
    ];
    pack(&home, &line).success();
    let shown = inspected(&home, "demo.psp");
    let package = &shown["package"];
    assert_eq!((&package["name"], &package["version"]), (&"other".into(), &"9".into()));
    assert_eq!(package["command"], "{workenv}/opt/bin/show");
    assert_eq!(package["slots"].as_array().unwrap().len(), 4);
    assert_eq!(comparable(&home, "demo.psp")["execution"]["env"]["COLOUR"], "green");
}

#[test]
fn a_policy_of_the_author_is_signed_and_heeded() {
    let home = Home::new();
    let mut written = manifest(&home);
    written["policy"] =
        json!({ "platforms": ["linux_amd64", "linux_arm64"], "require_env": ["NEEDED_HERE"] });
    written["surprise"] = json!(1);
    file(&home, "manifest.json", 0o644, written.to_string());
    let Some((_, launcher)) = launchers().into_iter().find(|(language, _)| *language == "go") else { return };
    let launcher = launcher.display().to_string();
    let done = pack(&home, &["-m", "manifest.json", "-o", "demo.psp", "--launcher", &launcher]).success();
    assert!(done.stderr.contains("the manifest's `surprise` is left out"), "{}", done.stderr);
    let checks: Value =
        serde_json::from_str(&home.run(["verify", "--json", "demo.psp"]).code(107).stdout).unwrap();
    let checks = checks["packages"][0]["checks"].as_array().unwrap().clone();
    assert!(
        checks.iter().any(|check| check["name"] == "policy" && check["result"] == "passed"),
        "{checks:?}"
    );
    // The Go launcher compares the hash with the metadata before it heeds the policy.
    let refused = Done::of(&mut home.program(home.path("demo.psp")));
    assert!(
        refused.code == 104 && refused.stderr.contains("NEEDED_HERE"),
        "{} {}",
        refused.code,
        refused.stderr
    );
    let mut allowed = home.program(home.path("demo.psp"));
    Done::of(allowed.env("NEEDED_HERE", "1")).code(42);
}

//! The packages that commands are shown.

use std::path::PathBuf;

use serde_json::json;
use slotfs_tests::command::Home;
use slotfs_tests::package::{Built, PackageBuilder, SlotSpec, Tree};

/// A package as a builder makes it: a tree, a configuration file, and its description of itself.
pub(crate) fn application() -> PackageBuilder {
    let tree = Tree::new()
        .directory("bin", 0o755)
        .file("bin/hello", 0o755, b"#!/bin/sh\necho hello\n")
        .symlink("bin/hi", "hello")
        .file("lib/data.bin", 0o644, &[7; 5000]);
    PackageBuilder::new("hello", "1.2.3")
        .command("{workenv}/bin/hello --now")
        .section(
            "build",
            json!({
                "tool": "flavor-rs", "tool_version": "0.5.4", "timestamp": "2026-11-20T17:11:15.716356830+00:00",
                "platform": { "os": "linux", "arch": "x86_64" }
            }),
        )
        .section("setup_commands", json!([{ "type": "execute", "command": "{workenv}/bin/hello" }]))
        .slot(SlotSpec::tree("app", "tar", tree))
        .slot(SlotSpec::file("settings", "{workenv}/etc/app.toml", "raw", b"a = 1\n").lifecycle("config", 9))
        .slot(SlotSpec::file("wheels", "wheels/a.whl", "raw", &[1; 3000]).lifecycle("init", 0))
}

/// Writes the package to `hello.psp` in the home.
pub(crate) fn write(home: &Home, built: &Built) -> PathBuf {
    let path = home.path("hello.psp");
    built.write(&path);
    path
}

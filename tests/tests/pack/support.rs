//! Sources to pack, and the three that read what comes of them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;
use slotfs_tests::command::{Done, Home, flavor, real_launcher};

/// Writes a file below the home, with its directories.
pub(crate) fn file(home: &Home, path: &str, mode: u32, content: impl AsRef<[u8]>) -> PathBuf {
    let path = home.path(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// Bytes that compress to about half, more than one piece of a slot.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    noise_of(7, length)
}

/// As [`noise`], other bytes for every `seed`.
pub(crate) fn noise_of(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|at| if at / 512 % 2 == 0 { next() } else { 1 }).collect()
}

/// Makes `app/`: a program that shows what it was given and what it finds, a library of several pieces, links.
pub(crate) fn application(home: &Home) {
    let script = "#!/bin/sh\ncd \"$FLAVOR_WORKENV\" || exit 9\necho \"$COLOUR $*\"\n\
         find . -type f -not -path './_*' | LC_ALL=C sort | while read -r path; do cksum \"$path\"; done\nexit 42\n";
    file(home, "app/bin/show", 0o755, script);
    file(home, "app/lib/data.bin", 0o644, noise(900_000));
    file(home, "app/lib/private", 0o600, "secret");
    file(home, "app/lib/empty", 0o644, "");
    let long = format!("app/lib/{}/{}", "deep".repeat(30), "long ä".repeat(20));
    file(home, &long, 0o644, "far away");
    std::fs::write(home.path(OsStr::from_bytes(b"app/lib/no text \xff")), "bytes").unwrap();
    symlink("data.bin", home.path("app/lib/link")).unwrap();
    symlink("../lib", home.path("app/bin/libraries")).unwrap();
    std::fs::create_dir_all(home.path("app/void")).unwrap();
}

/// Runs `slotfs pack` with the words of `line`.
pub(crate) fn pack(home: &Home, line: &[&str]) -> Done {
    home.run([&["pack"], line].concat())
}

/// Returns the package's description.
pub(crate) fn inspected(home: &Home, package: &str) -> Value {
    let shown = home.run(["inspect", "--json", package]).success();
    serde_json::from_str(&shown.stdout).unwrap()
}

/// Fails unless FlavorPack and slotfs both find the package right.
pub(crate) fn verified(home: &Home, package: &str) {
    home.run(["verify", package]).success();
    if let Some(flavor) = flavor() {
        Done::of(home.program(flavor).args(["verify", package])).success();
    }
}

/// Returns FlavorPack's launchers by language.
pub(crate) fn launchers() -> Vec<(&'static str, PathBuf)> {
    ["rs", "go"].into_iter().filter_map(|language| Some((language, real_launcher(language)?))).collect()
}

/// Runs a package by itself and returns what its program said, with its exit code.
pub(crate) fn started(home: &Home, package: &Path, arguments: &[&str]) -> (String, i32) {
    let done = Done::of(home.program(package).args(arguments));
    assert!(done.code == 42, "{}\n{}", done.stdout, done.stderr);
    (done.stdout, done.code)
}

/// Returns the metadata as they were signed.
pub(crate) fn metadata(home: &Home, package: &str) -> String {
    let bytes = std::fs::read(home.path(package)).unwrap();
    let index = &bytes[bytes.len() - 8196..];
    let word =
        |at: usize| usize::try_from(u64::from_le_bytes(index[at..at + 8].try_into().unwrap())).unwrap();
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&bytes[word(24)..][..word(32)]);
    std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
    text
}

//! A tree with something of everything that archives hold, to make archives of.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Makes a tree with something of everything that archives hold.
///
/// # Panics
/// The disk refuses.
pub fn make_everything(root: &Path) {
    let file = |path: &str, bytes: &[u8], mode: u32| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    file("bin/run", b"#!/bin/sh\necho hello\n", 0o755);
    file("bin/secret", b"", 0o600);
    file("lib/large.bin", &noise(3_000_000), 0o644);
    file("lib/text.txt", "zeile\n".repeat(40_000).as_bytes(), 0o444);
    file(&format!("deep/{}/end", vec!["directory"; 30].join("/")), b"end", 0o640);
    file(&format!("names/{}", "n".repeat(255)), b"long", 0o644);
    file("names/with space\nand line", b"odd", 0o644);
    file("names/Grüße", b"utf-8", 0o644);
    fs::create_dir_all(root.join("empty/inner")).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("bin/run", root.join("link")).unwrap();
    symlink("/etc/passwd", root.join("absolute-link")).unwrap();
    symlink(format!("{}/end", "t".repeat(150)), root.join("long-link")).unwrap();
    fs::hard_link(root.join("bin/run"), root.join("lib/same")).unwrap();
    fs::hard_link(root.join("bin/run"), root.join("zzz")).unwrap();
    for (index, path) in ["bin/run", "bin", "lib/large.bin"].into_iter().enumerate() {
        let seconds = 1_600_000_000 + index as i64 * 1000;
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds as u64, 123_456_789);
        fs::File::open(root.join(path)).unwrap().set_modified(time).unwrap();
    }
}

/// Returns bytes that do not compress.
#[must_use]
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

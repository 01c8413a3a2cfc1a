//! Slots whose stored bytes are exactly those that were signed, and still do not decode: what a builder on a bad disk
//! makes. And a store and indexes that rot.

use std::path::Path;

use slotfs_tests::command::{Done, Home, missing_fuse, shell_package};
use slotfs_tests::package::{SlotSpec, Tree, codes_of, compress};

use super::support::{LIMIT, nothing_left, says, server_log, slotfs};

const FILES: usize = 40;

/// Content that no compression makes smaller, different for each file.
fn content(file: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ file as u64;
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(word).take(4000 + file * 100).flatten().collect()
}

fn archive() -> Vec<u8> {
    (0..FILES)
        .fold(Tree::new(), |tree, file| tree.file(format!("lib/file-{file}"), 0o644, &content(file)))
        .archive()
}

/// Stored bytes and operations of the archive.
fn stored(chain: &str) -> Vec<u8> {
    chain.split('.').filter(|name| *name != "tar").fold(archive(), |bytes, name| compress(name, &bytes))
}

/// Reads every file of a mounted tree: each gives its right content or EIO. Returns how many were right.
fn right_files(root: &Path) -> usize {
    let check = |file: &usize| match std::fs::read(root.join(format!("lib/file-{file}"))) {
        Ok(bytes) => {
            assert!(bytes == content(*file), "file {file} has wrong bytes");
            true
        }
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "file {file}: {error}");
            false
        }
    };
    (0..FILES).filter(check).count()
}

#[test]
fn bytes_that_do_not_decode_give_eio_and_a_line_that_names_slot_and_path() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    for chain in ["tar", "tar.gzip", "tar.bzip2", "tar.xz", "tar.zstd", "tar.gzip.zstd"] {
        let good = stored(chain);
        let middle = good.len() / 2;
        let mut flipped = good.clone();
        flipped[middle..middle + 600].iter_mut().for_each(|byte| *byte ^= 0x5A);
        let cut = good[..middle].to_vec();
        for (what, bytes) in [("flipped", flipped), ("cut", cut)] {
            // Nothing in a tar says what a file's content should be.
            if chain == "tar" && what == "flipped" {
                continue;
            }
            let slot = SlotSpec::stored("library", "{workenv}", &codes_of(chain), &bytes);
            let path = home.package("app.psp", shell_package("app", "true").slot(slot));
            let path = path.to_str().unwrap();
            slotfs(&home, ["verify", path]).success();
            slotfs(&home, ["mount", path]).success();
            let right = right_files(&home.workenv("app"));
            assert!(right < FILES, "{chain} {what}: nothing was noticed");
            let log = server_log(&home, "app");
            assert!(log.contains("slot=library"), "{chain} {what}: {log}");
            slotfs(&home, ["unmount", "app"]).success();
            let done = slotfs(&home, ["extract", path, "out"]);
            says(&done, chain, 107, &["library"]);
            nothing_left(&home, chain);
            std::fs::remove_file(home.session("app").join("server.log")).unwrap();
        }
    }
}

#[test]
fn a_file_slot_that_does_not_decode_is_never_half_right() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    for chain in ["gzip", "bzip2", "xz", "zstd"] {
        let mut bytes = compress(chain, &content(200));
        let end = bytes.len() - 9;
        bytes[end - 4..end].iter_mut().for_each(|byte| *byte ^= 0x41);
        let slot = SlotSpec::stored("data", "{workenv}/data", &codes_of(chain), &bytes);
        let path = home.package("app.psp", shell_package("app", "cat {workenv}/data").slot(slot));
        let mut command = home.slotfs(["run".as_ref(), path.as_os_str()]);
        let done = Done::within(LIMIT, &mut command);
        assert_ne!(done.code, 0, "{chain}");
        assert!(done.stderr.contains("Input/output error"), "{chain}: {}", done.stderr);
        let log = server_log(&home, "app");
        assert!(log.contains("slot=data"), "{chain}: {log}");
        std::fs::remove_file(home.session("app").join("server.log")).unwrap();
    }
}

/// Every file below a folder, largest first.
fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn rot_in_the_store_and_in_indexes_is_noticed_and_mended() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    for chain in ["tar.gzip", "tar.bzip2", "tar.xz", "tar.zstd"] {
        let slot = SlotSpec::stored("library", "{workenv}", &codes_of(chain), &stored(chain));
        let path = home.package("app.psp", shell_package("app", "true").slot(slot));
        let mounted_right = |what: &str| {
            slotfs(&home, ["mount", path.to_str().unwrap()]).success();
            assert_eq!(right_files(&home.workenv("app")), FILES, "{chain}: {what}");
            // Listing, too, waits for a whole index.
            let listed = std::fs::read_dir(home.workenv("app").join("lib")).unwrap().count();
            assert_eq!(listed, FILES, "{chain}: {what}");
            slotfs(&home, ["unmount", "app", "--wait", "10"]).success();
        };
        mounted_right("fresh");
        for folder in ["objects-v1", "indexes-v1"] {
            let files = files_below(&home.cache().join(".slotfs").join(folder));
            assert!(folder == "objects-v1" || !files.is_empty(), "{chain}: no index was kept");
            for (number, file) in files.iter().enumerate() {
                let mut bytes = std::fs::read(file).unwrap();
                if bytes.is_empty() {
                    continue;
                }
                match number % 3 {
                    0 => {
                        let at = bytes.len() / 2;
                        bytes[at] ^= 1;
                    }
                    1 => bytes.truncate(bytes.len() / 2),
                    _ => bytes.fill(0),
                }
                std::fs::remove_file(file).unwrap();
                std::fs::write(file, bytes).unwrap();
            }
            mounted_right(folder);
        }
        std::fs::remove_dir_all(home.cache().join(".slotfs")).unwrap();
    }
}

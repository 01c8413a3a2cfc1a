//! Slots whose stored bytes are exactly those that were signed, and still do not decode: what a builder on a bad disk
//! makes. And a store and indexes that rot.

use std::io::Read;
use std::path::Path;

use slotfs_tests::command::{Home, is_ours, missing_fuse, shell_package, wait_for};
use slotfs_tests::package::{SlotSpec, Tree, codes_of, compress};

use super::support::{nothing_left, says, server_log, slotfs};

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

/// Reads every file of a mounted tree: each gives its right content, or what `decoded` (an archive) holds in its place,
/// or EIO. Returns how many were right.
fn right_files(root: &Path, decoded: &[u8]) -> usize {
    let mut at = 0;
    let place = |file: usize| {
        let start = at + 512;
        let length = content(file).len();
        at = start + length.next_multiple_of(512);
        start..start + length
    };
    let places: Vec<_> = (0..FILES).map(place).collect();
    let check = |file: &usize| match std::fs::read(root.join(format!("lib/file-{file}"))) {
        Ok(bytes) => {
            let right = bytes == content(*file);
            assert!(
                right || decoded.get(places[*file].clone()) == Some(&bytes),
                "file {file} has wrong bytes"
            );
            right
        }
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(nix::libc::EIO), "file {file}: {error}");
            false
        }
    };
    (0..FILES).filter(check).count()
}

/// What any decoder makes of damaged bytes before it notices: a checksum comes after the content. It was signed like
/// this, so it may be served until then.
fn decoded(chain: &str, stored: &[u8]) -> Vec<u8> {
    let mut bytes = stored.to_vec();
    for name in chain.split('.').rev().filter(|name| *name != "tar") {
        let mut reader: Box<dyn Read> = match name {
            "gzip" => Box::new(flate2::read::MultiGzDecoder::new(&bytes[..])),
            "bzip2" => Box::new(bzip2::read::MultiBzDecoder::new(&bytes[..])),
            "xz" => Box::new(xz::read::XzDecoder::new(&bytes[..])),
            _ => Box::new(zstd::Decoder::new(&bytes[..]).unwrap()),
        };
        let mut out = Vec::new();
        let mut piece = [0; 512];
        while let Ok(count) = reader.read(&mut piece) {
            if count == 0 {
                break;
            }
            out.extend_from_slice(&piece[..count]);
        }
        drop(reader);
        bytes = out;
    }
    bytes
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
            // Nothing in a tar says what a file's content should be, and this encoder of zstd writes no checksum.
            if ["tar", "tar.zstd"].contains(&chain) && what == "flipped" {
                continue;
            }
            let slot = SlotSpec::stored("library", "{workenv}", &codes_of(chain), &bytes);
            let path = home.package("app.psp", shell_package("app", "true").slot(slot));
            let path = path.to_str().unwrap();
            slotfs(&home, ["verify", path]).success();
            slotfs(&home, ["mount", path]).success();
            let right = right_files(&home.workenv("app"), &decoded(chain, &bytes));
            assert!(right < FILES, "{chain} {what}: nothing was noticed");
            wait_for("a line in the log", || server_log(&home, "app").contains("slot `library`"));
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
        if chain == "zstd" {
            // This encoder writes no checksum.
            bytes.truncate(end);
        } else {
            bytes[end - 4..end].iter_mut().for_each(|byte| *byte ^= 0x41);
        }
        let slot = SlotSpec::stored("data", "{workenv}/data", &codes_of(chain), &bytes);
        let path = home.package("app.psp", shell_package("app", "cat {workenv}/data").slot(slot));
        // Its length is asked for at once, so the mount may be refused, too.
        let done = slotfs(&home, ["run".as_ref(), path.as_os_str()]);
        let refused = done.code == 107 && done.stderr.contains("slot `data` is damaged");
        let eio = done.code == 1 && done.stderr.contains("Input/output error");
        assert!(
            refused || (eio && server_log(&home, "app").contains("slot `data`")),
            "{chain}: {}",
            done.stderr
        );
        assert_eq!(done.stdout, "", "{chain}");
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
            assert_eq!(right_files(&home.workenv("app"), &[]), FILES, "{chain}: {what}");
            // Listing, too, waits for a whole index.
            let listed = std::fs::read_dir(home.workenv("app").join("lib")).unwrap().count();
            assert_eq!(listed, FILES, "{chain}: {what}");
            let servers = home.servers();
            slotfs(&home, ["unmount", "app", "--wait", "10"]).success();
            // Contents go to the store when nobody reads.
            wait_for("the end of the server", || !servers.iter().any(|&server| is_ours(server)));
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

//! Packages that unfold without end: the limit ends them, whether it is the built-in one, a flag's or the
//! configuration file's.

use std::io::Write as _;

use slotfs_tests::command::{Home, missing_fuse, shell_package};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree, compress};

use super::support::{nothing_left, says, server_log, slotfs};

/// A package that prints a small file, then how many bytes of a large one of zeros can be read.
fn bomb(chain: &str, size: usize) -> PackageBuilder {
    let tree = Tree::new().file("small", 0o644, b"small\n").file("zeros", 0o644, &vec![0; size]);
    shell_package("bomb", "cat {workenv}/zeros | wc -c; cat {workenv}/small")
        .slot(SlotSpec::tree("zeros", chain, tree))
}

#[test]
fn a_limit_by_flag_or_configuration_ends_a_bomb_of_every_compression() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    std::fs::write(home.path("limits.json"), r#"{ "limits": { "decoded": "1MiB" } }"#).unwrap();
    for chain in ["tar.gzip", "tar.bzip2", "tar.xz", "tar.zstd", "tar.gzip.gzip"] {
        let path = home.package("bomb.psp", bomb(chain, 40 << 20));
        let path = path.to_str().unwrap();
        for limit in [["--max-decoded", "1MiB"], ["--config", "limits.json"]] {
            let done = slotfs(&home, ["extract", limit[0], limit[1], path, "out"]);
            says(&done, chain, 107, &["zeros", "1048576"]);
            nothing_left(&home, chain);
            let done = slotfs(&home, ["run", limit[0], limit[1], path]);
            assert!(!done.stdout.starts_with("41943040"), "{chain}: {}", done.stdout);
            assert!(done.stderr.contains("Input/output error"), "{chain}: {}", done.stderr);
            let log = server_log(&home, "bomb");
            assert!(log.contains("zeros") && log.contains("1048576"), "{chain}: {log}");
        }
        // Without the limit it is an ordinary package, also after all that.
        assert_eq!(slotfs(&home, ["run", path]).success().stdout, "41943040\nsmall\n", "{chain}");
    }
}

#[test]
fn a_file_slot_is_limited_too() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    for chain in ["gzip", "bzip2", "xz", "zstd"] {
        let slot = SlotSpec::file("zeros", "{workenv}/zeros", chain, &vec![0; 8 << 20]);
        let package = shell_package("bomb", "cat {workenv}/zeros | wc -c").slot(slot);
        let path = home.package("bomb.psp", package);
        let done = slotfs(&home, ["extract", "--max-decoded", "1MiB", path.to_str().unwrap(), "out"]);
        says(&done, chain, 107, &["zeros", "1048576"]);
        nothing_left(&home, chain);
        // Its length is asked for at once, so the mount is refused, too.
        let done = slotfs(&home, ["run", "--max-decoded", "1MiB", path.to_str().unwrap()]);
        let refused = done.code == 107 && done.stderr.contains("1048576") && done.stdout.is_empty();
        assert!(
            refused || done.stderr.contains("Input/output error"),
            "{chain}: {} {}",
            done.stdout,
            done.stderr
        );
        assert_eq!(slotfs(&home, ["run", path.to_str().unwrap()]).success().stdout, "8388608\n", "{chain}");
    }
}

/// Nobody has to set a limit against what no honest package does: 3 GiB out of some thousand bytes.
#[test]
fn the_built_in_limit_ends_what_no_honest_package_does() {
    let home = Home::new();
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![0; 16 << 20];
    for _ in 0..(3 << 30) / zeros.len() {
        encoder.write_all(&zeros).unwrap();
    }
    let stored = encoder.finish().unwrap();
    assert!(stored.len() < 1 << 20, "{}", stored.len());
    let package = PackageBuilder::new("bomb", "1").slot(SlotSpec::stored("zeros", "zeros", &[0x1B], &stored));
    let path = home.package("bomb.psp", package);
    let done = slotfs(&home, ["extract", path.to_str().unwrap(), "out"]);
    says(&done, "extract", 107, &["zeros", "decodes to more than", "limit"]);
    nothing_left(&home, "extract");
}

#[test]
fn an_archive_of_too_many_entries_is_refused() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    std::fs::write(home.path("limits.json"), r#"{ "limits": { "entries": 100 } }"#).unwrap();
    let tree = (0..2000).fold(Tree::new(), |tree, number| tree.file(format!("{number}"), 0o644, b""));
    let path = home.package(
        "many.psp",
        shell_package("many", "ls {workenv} | wc -l").slot(SlotSpec::tree("files", "tar.gzip", tree)),
    );
    let path = path.to_str().unwrap();
    for limit in [["--max-entries", "100"], ["--config", "limits.json"]] {
        let done = slotfs(&home, ["extract", limit[0], limit[1], path, "out"]);
        says(&done, "extract", 107, &["files", "more than 100 entries"]);
        nothing_left(&home, "extract");
        let done = slotfs(&home, ["run", limit[0], limit[1], path]);
        assert!(done.stderr.contains("Input/output error"), "{} {}", done.stdout, done.stderr);
    }
    assert_eq!(slotfs(&home, ["run", path]).success().stdout, "2000\n");
}

/// A ZIP whose many entries share the same few stored bytes.
#[test]
fn an_archive_whose_entries_overlap_is_refused_or_limited() {
    let home = Home::new();
    std::fs::write(home.path("overlap.zip"), overlapping_zip(200, 4 << 20)).unwrap();
    let done = slotfs(&home, ["extract", "--max-decoded", "64MiB", "overlap.zip", "out"]);
    assert!([102, 107].contains(&done.code), "{} {}", done.code, done.stderr);
    assert!(done.stderr.contains("overlap.zip"), "{}", done.stderr);
    nothing_left(&home, "extract");
}

/// Every entry of the directory names the same local file of `size` zeros.
fn overlapping_zip(entries: u32, size: u32) -> Vec<u8> {
    let zeros = vec![0; size as usize];
    let gzip = compress("gzip", &zeros);
    // A gzip stream without options has a header of 10 bytes and a trailer of 8, CRC-32 first.
    let deflated = &gzip[10..gzip.len() - 8];
    let crc = &gzip[gzip.len() - 8..gzip.len() - 4];
    let stored = u32::try_from(deflated.len()).unwrap();
    let fields = |name: &str| {
        let name_length = u16::try_from(name.len()).unwrap();
        let mut fields = Vec::new();
        fields.extend(20_u16.to_le_bytes());
        fields.extend(0_u16.to_le_bytes());
        fields.extend(8_u16.to_le_bytes());
        fields.extend([0, 0, 0x21, 0x50]);
        fields.extend(crc);
        fields.extend(stored.to_le_bytes());
        fields.extend(size.to_le_bytes());
        fields.extend(name_length.to_le_bytes());
        fields.extend(0_u16.to_le_bytes());
        fields
    };
    let mut bytes = b"PK\x03\x04".to_vec();
    bytes.extend(fields("00000"));
    bytes.extend(b"00000");
    bytes.extend(deflated);
    let directory = u32::try_from(bytes.len()).unwrap();
    for number in 0..entries {
        let name = format!("{number:05}");
        bytes.extend(b"PK\x01\x02\x14\x03");
        bytes.extend(fields(&name));
        bytes.extend([0; 10]);
        bytes.extend([0; 4]);
        bytes.extend(name.as_bytes());
    }
    let length = u32::try_from(bytes.len()).unwrap() - directory;
    let count = u16::try_from(entries).unwrap();
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend(count.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(directory.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

//! What is seen through the kernel is what the archive's own tool unpacks: of every kind of archive and every chain, while the
//! pass over it runs and when it is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use slotfs_tests::archive::run;
use slotfs_tests::command::{Home, missing_fuse, shell_package};
use slotfs_tests::everything::make_everything;
use slotfs_tests::package::SlotSpec;
use slotfs_tests::tree::describe;
use slotfs_tests::workplace::assert_same;

/// The tree that archives are made of, in `source`, and what tar unpacks of it, in `unpacked`.
fn prepare(home: &Home) -> BTreeMap<PathBuf, String> {
    let root = home.root();
    make_everything(&home.path("source"));
    run(root, false, "tar", &["--format=posix", "--sort=name", "-cf", "tree.tar", "-C", "source", "."]);
    std::fs::create_dir(home.path("unpacked")).unwrap();
    run(root, false, "tar", &["-xpf", "tree.tar", "-C", "unpacked"]);
    describe(&home.path("unpacked"))
}

/// Mounts `archive` at `place` twice, without its index and with it, and compares.
fn compare(home: &Home, archive: &str, place: &str, within: &str, expected: &BTreeMap<PathBuf, String>) {
    let place = home.path(place);
    let (archive, place) = (home.path(archive), place.to_str().unwrap());
    let archive = archive.to_str().unwrap();
    for (time, access) in [("at the first time", "--rw"), ("with its index", "--ro"), ("again", "--rw")] {
        home.run(["mount", access, archive, place]).success();
        let found = describe(&Path::new(place).join(within));
        home.run(["unmount", place]).success();
        assert_same(expected, &found, &format!("in {archive} {access} {time}"));
    }
}

#[test]
fn every_kind_of_archive_is_mounted_as_its_own_tool_unpacks_it() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let expected = prepare(&home);
    assert!(expected.len() > 40, "{}", expected.len());
    let compressors: [(&str, &[&str]); 5] = [
        ("gz", &["gzip", "-kn"]),
        ("bz2", &["bzip2", "-k"]),
        ("xz", &["xz", "-k", "-1"]),
        ("zst", &["zstd", "-qk"]),
        ("tgz", &["gzip", "-knS", ".tgz"]),
    ];
    compare(&home, "tree.tar", "place", "", &expected);
    for (suffix, command) in compressors {
        run(home.root(), false, command[0], &[&command[1..], &["tree.tar"]].concat());
        let name = if suffix == "tgz" { "tree.tar.tgz".to_owned() } else { format!("tree.tar.{suffix}") };
        compare(&home, &name, "place", "", &expected);
    }
    compare(&home, "source", "place", "", &describe(&home.path("source")));
}

#[test]
fn zip_archives_are_mounted_as_unzip_unpacks_them() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    make_everything(&home.path("source"));
    // `zip` cannot name a line break.
    std::fs::remove_file(home.path("source/names/with space\nand line")).unwrap();
    for suffix in ["zip", "whl"] {
        let archive = format!("../tree.{suffix}");
        run(&home.path("source"), false, "zip", &["-qry", &archive, "."]);
        run(home.root(), false, "unzip", &["-q", &archive[3..], "-d", "unzipped"]);
        let expected = describe(&home.path("unzipped"));
        std::fs::remove_dir_all(home.path("unzipped")).unwrap();
        // `unzip` does not set the times of symbolic links.
        let links: Vec<_> = expected
            .iter()
            .filter(|(_, line)| line.contains(" link "))
            .map(|(path, _)| path.clone())
            .collect();
        let place = home.path("place");
        for access in ["--ro", "--rw"] {
            home.run(["mount", access, home.path(&archive[3..]).to_str().unwrap(), place.to_str().unwrap()])
                .success();
            let mut found = describe(&place);
            home.run(["unmount", place.to_str().unwrap()]).success();
            let mut expected = expected.clone();
            for tree in [&mut expected, &mut found] {
                for path in &links {
                    let line = tree.get_mut(path).unwrap();
                    line.truncate(line.rfind(' ').unwrap());
                }
            }
            assert_same(&expected, &found, &format!("in a {suffix}"));
        }
    }
}

/// Every chain of operations as a slot: of trees, which lie at the work environment's root whatever their target is, and of
/// files.
#[test]
fn slots_of_every_chain_are_mounted_as_tar_unpacks_them() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let expected = prepare(&home);
    let bytes = std::fs::read(home.path("tree.tar")).unwrap();
    for chain in ["tar", "tar.gzip", "tar.bzip2", "tar.xz", "tar.zstd", "tar.gzip.gzip"] {
        let package = shell_package(chain, "true").slot(SlotSpec::file("tree", "{workenv}", chain, &bytes));
        let package = home.package(&format!("{chain}.psp"), package);
        for time in ["at the first time", "with its index"] {
            home.run(["mount", package.to_str().unwrap()]).success();
            let mut found = describe(&home.workenv(chain));
            home.run(["unmount", chain]).success();
            // Every work environment has one, as the launchers make it.
            found.remove(Path::new("tmp"));
            assert_same(&expected, &found, &format!("of the chain {chain} {time}"));
        }
    }
    let chains = ["raw", "gzip", "bzip2", "xz", "zstd"];
    let package = chains.iter().fold(shell_package("files", "true"), |package, chain| {
        package.slot(SlotSpec::file(chain, &format!("files/{chain}"), chain, &bytes))
    });
    let package = home.package("files.psp", package);
    for _ in 0..2 {
        home.run(["mount", package.to_str().unwrap()]).success();
        for chain in chains {
            let found = std::fs::read(home.workenv("files").join("files").join(chain)).unwrap();
            assert!(found == bytes, "the chain {chain}");
        }
        home.run(["unmount", "files"]).success();
    }
}

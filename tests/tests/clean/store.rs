//! Content that environments share: it goes with the last of them, and is made again when it is needed.

use std::fs;
use std::path::{Path, PathBuf};

use slotfs_tests::command::{Home, missing_fuse, shell_package, wait_for, wait_until};
use slotfs_tests::everything::noise;
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};

use super::support::{age_tree, clean};

/// Contents of a chain that cannot be read at random are kept in the store.
fn slot(id: &str) -> SlotSpec {
    let tree = Tree::new().directory(id, 0o755).file(format!("{id}/text"), 0o644, id.repeat(5000).as_bytes());
    SlotSpec::tree(id, "tar.xz", tree)
}

fn package(name: &str, own: &str) -> PackageBuilder {
    let script = format!("cat {{workenv}}/shared/text {{workenv}}/{own}/text | wc -c");
    shell_package(name, &script).slot(slot("shared")).slot(slot(own))
}

fn files(home: &Home, folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![home.cache().join(".slotfs").join(folder)];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// How many objects and indexes there are. What is being made, or was left by whoever made it, is swept by the next start.
fn counts(home: &Home) -> (usize, usize) {
    let is_done = |path: &PathBuf| {
        !path.iter().any(|part| part == "staging") && path.extension().is_none_or(|suffix| suffix != "tmp")
    };
    let count = |folder| files(home, folder).iter().filter(|path| is_done(path)).count();
    (count("objects-v1"), count("indexes-v1"))
}

fn run(home: &Home, path: &str, expected: (usize, usize)) {
    assert_eq!(home.run(["run", path]).success().stdout, "55000\n");
    home.settle();
    // A server may finish its indexes after the program's end.
    let filled = wait_until(|| counts(home) == expected);
    assert!(filled, "{:?} {:?}", files(home, "objects-v1"), files(home, "indexes-v1"));
}

#[test]
fn shared_content_goes_with_the_last_environment_and_comes_back() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let one = home.package("one.psp", package("one", "first"));
    let two = home.package("two.psp", package("two", "other"));
    run(&home, one.to_str().unwrap(), (2, 2));
    run(&home, two.to_str().unwrap(), (3, 3));
    let before = clean(&home, &[]);
    assert_eq!((counts(&home), before["contents"]["files"].as_u64()), ((3, 3), Some(0)), "{before}");

    home.run(["remove", "one", "--yes"]).success();
    assert_eq!(counts(&home), (3, 3), "a removal leaves the store alone");
    let report = clean(&home, &[]);
    assert_eq!(report["contents"]["files"], 2, "{report}");
    assert_eq!(counts(&home), (2, 2), "what the other environment needs stays");

    home.run(["remove", "two", "--yes"]).success();
    let report = clean(&home, &[]);
    assert_eq!((counts(&home), report["contents"]["files"].as_u64()), ((0, 0), Some(4)), "{report}");
    assert!(report["freed_bytes"].as_u64().unwrap() > 30_000, "{report}");
    run(&home, two.to_str().unwrap(), (2, 2));
}

#[test]
fn unpacked_environments_keep_their_content_too() {
    let home = Home::new();
    let path = home.package("one.psp", package("one", "first"));
    home.run(["run", "--mode", "extract", path.to_str().unwrap()]).success();
    let before = counts(&home);
    clean(&home, &[]);
    assert_eq!(counts(&home), before);
    clean(&home, &["--all"]);
    assert_eq!((counts(&home), files(&home, "verified-v1").len()), ((0, 0), 0));
}

#[test]
fn a_live_mount_goes_on_when_its_content_is_taken_away() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let path = home.package("one.psp", package("one", "first"));
    run(&home, path.to_str().unwrap(), (2, 2));
    home.run(["mount", path.to_str().unwrap()]).success();
    // Without the note nothing tells that anybody needs it.
    fs::remove_file(home.session("one").join("served.json")).unwrap();
    assert_eq!(clean(&home, &[])["contents"]["files"], 4);
    assert_eq!(fs::read(home.workenv("one").join("shared/text")).unwrap(), "shared".repeat(5000).as_bytes());
    home.run(["unmount", "one"]).success();
    home.settle();
    run(&home, path.to_str().unwrap(), (2, 2));
}

#[test]
fn what_nothing_tells_about_goes_when_it_is_old() {
    let home = Home::new();
    let path = home.package("one.psp", package("one", "first"));
    home.run(["verify", path.to_str().unwrap()]).success();
    // Only a cache that exists remembers what was verified.
    fs::create_dir_all(home.cache().join(".slotfs")).unwrap();
    wait_for("the file to settle", || {
        home.run(["verify", path.to_str().unwrap()]).success();
        files(&home, "verified-v1").len() == 1
    });
    assert_eq!(clean(&home, &[])["contents"]["files"], 0);
    assert_eq!(clean(&home, &["--older-than", "1"])["contents"]["files"], 0);
    age_tree(&home.cache().join(".slotfs"), 31);
    // Looking is no use.
    home.run(["clean", "--dry-run"]).success();
    assert_eq!(clean(&home, &[])["contents"]["files"], 1);
    assert_eq!(files(&home, "verified-v1").len(), 0);
}

/// Bytes on the disk of everything that environments share.
fn taken(home: &Home) -> u64 {
    let blocks = |path: &PathBuf| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap()) * 512;
    ["objects-v1", "indexes-v1"].iter().flat_map(|folder| files(home, folder)).map(|path| blocks(&path)).sum()
}

/// Ten builds of one application, a twentieth of which differs from one to the next.
#[test]
fn ten_packages_that_share_most_of_their_content_take_little_more_than_one() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let run = |build: usize| {
        let tree = (0..40).fold(Tree::new().directory("lib", 0o755), |tree, number| {
            let of = if number < 2 { build } else { 0 };
            tree.file(format!("lib/{number}"), 0o644, format!("{number} of {of}\n").repeat(8000).as_bytes())
        });
        let package =
            shell_package("app", "cat {workenv}/lib/* | wc -c").slot(SlotSpec::tree("app", "tar.xz", tree));
        let path = home.package(&format!("app{build}.psp"), package);
        home.run(["run", path.to_str().unwrap()]).success();
        home.settle();
    };
    run(0);
    assert!(wait_until(|| counts(&home) == (40, 1)), "{:?}", counts(&home));
    let one = taken(&home);
    (1..10).for_each(run);
    assert!(wait_until(|| counts(&home) == (40 + 9 * 2, 10)), "{:?}", counts(&home));
    let ten = taken(&home);
    assert!(ten < one + one, "one takes {one} bytes, ten take {ten}");
}

/// Builds of an application whose largest file changes a little from one to the next: its bytes are kept once, and stay as
/// long as one of the builds needs them.
#[test]
fn large_files_share_what_they_have_in_common() {
    if missing_fuse().is_some() {
        return;
    }
    const SIZE: usize = 12 << 20;
    let home = Home::new();
    let model = |build: usize| {
        let mut bytes = noise(SIZE);
        let added = noise(build * 1000);
        bytes.splice(SIZE / 2..SIZE / 2, added);
        bytes
    };
    let run = |build: usize| {
        let tree = Tree::new().file("model", 0o644, &model(build));
        let package =
            shell_package("app", "cksum {workenv}/model").slot(SlotSpec::tree("app", "tar.zstd", tree));
        let path = home.package(&format!("app{build}.psp"), package);
        let said = home.run(["run", path.to_str().unwrap()]).success().stdout;
        home.settle();
        said
    };
    let said: Vec<String> = (0..4).map(run).collect();
    assert!(wait_until(|| files(&home, "objects-v1").iter().filter(|path| is_in_parts(path)).count() == 3));
    let taken = taken(&home);
    assert!(taken < SIZE as u64 * 6 / 5, "four builds take {taken} bytes");

    // The build whose file the others take bytes from.
    home.run(["remove", "app0", "--yes"]).success();
    clean(&home, &[]);
    assert_eq!(files(&home, "objects-v1").iter().filter(|path| is_in_parts(path)).count(), 3);
    let checked = home.run(["store", "check"]).success();
    for (build, said) in said.iter().enumerate().skip(1) {
        assert_eq!(run(build), *said, "{}", checked.stdout);
    }
    // Taken away, it is missed by nobody for long.
    let (largest, _) = files(&home, "objects-v1")
        .into_iter()
        .map(|path| (path.clone(), fs::metadata(path).unwrap().len()))
        .max_by_key(|(_, length)| *length)
        .unwrap();
    fs::remove_file(largest).unwrap();
    home.run(["store", "check"]).code(1);
    home.run(["store", "check", "--repair"]).success();
    home.run(["store", "check"]).success();
    for (build, said) in said.iter().enumerate().skip(1) {
        assert_eq!(run(build), *said);
    }
}

fn is_in_parts(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "parts")
}

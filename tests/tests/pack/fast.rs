//! The fast profile: zstd in frames that can be read at random, for slotfs alone.

use std::path::Path;

use slotfs_tests::command::{Done, Home, binary, missing_fuse, skip};

use super::index::{indexes, run};
use super::support::{application, file, inspected, launchers, noise_of, pack, verified};

const COMMAND: [&str; 4] = ["--command", "{workenv}/bin/show", "--env", "COLOUR=blue"];

fn packed(home: &Home) {
    application(home);
    for folder in 0..20 {
        file(home, &format!("app/data/{folder:02}/file"), 0o644, noise_of(folder, 150_000));
    }
    pack(home, &[&["app", "-o", "app.psp", "--profile", "fast", "--key-seed", "s"], &COMMAND[..]].concat())
        .success();
}

/// Returns the stored bytes of the first slot.
fn stored(home: &Home) -> Vec<u8> {
    let package = slotfs_fs::package::Package::open(&home.path("app.psp"), &Default::default()).unwrap();
    let range = &package.slot(0).unwrap().source.stored;
    let mut bytes = vec![0; usize::try_from(range.len()).unwrap()];
    range.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_fast_package_starts_without_a_pass_and_with_its_links() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    packed(&home);
    verified(&home, "app.psp");
    assert_eq!(inspected(&home, "app.psp")["package"]["slots"][0]["chain"], "tar.zstd");
    let (shown, log) = run(&home, "app.psp");
    assert!(log.contains("the package's own index is used") && !log.contains(" indexed"), "{log}");
    assert!(shown.contains(" ./data/19/file\n"), "{shown}");
    home.run(["extract", "app.psp", "out"]).success();
    assert_eq!(std::fs::read_link(home.path("out/lib/link")).unwrap(), Path::new("data.bin"));
    Done::of(home.program("diff").args(["-r", "--no-dereference", "app", "out"])).success();
    // With its index gone it is gone over as ever, and shows the same.
    let mut bytes = std::fs::read(home.path("app.psp")).unwrap();
    for range in indexes(&home, "app.psp") {
        bytes[range].fill(0);
    }
    let other = Home::new();
    std::fs::write(other.path("app.psp"), bytes).unwrap();
    let (again, log) = run(&other, "app.psp");
    assert!(again == shown && log.contains("cannot be used") && log.contains(" indexed"), "{log}");
}

#[test]
fn frames_begin_where_directories_do() {
    let home = Home::new();
    packed(&home);
    let stored = stored(&home);
    assert!(stored.ends_with(&0x8F92_EAB1_u32.to_le_bytes()), "the table of the seekable format");
    let frames = stored.windows(4).enumerate().filter(|(_, bytes)| *bytes == [0x28, 0xB5, 0x2F, 0xFD]);
    let mut beginnings = 0;
    let frames: Vec<usize> = frames.map(|(at, _)| at).collect();
    for at in &frames {
        let mut head = vec![0; 512];
        let mut decoder = zstd::stream::read::Decoder::new(&stored[*at..]).unwrap();
        std::io::Read::read_exact(&mut decoder, &mut head).unwrap();
        let name = String::from_utf8_lossy(&head[..100]).trim_end_matches('\0').to_owned();
        beginnings += usize::from(&head[257..262] == b"ustar" && name.ends_with('/'));
    }
    // All but the first frame, and what continues one large file.
    assert!(frames.len() >= 5 && beginnings + 2 >= frames.len(), "{beginnings} of {}", frames.len());
}

#[test]
fn it_is_as_small_as_zstd_makes_a_tar_archive() {
    let home = Home::new();
    packed(&home);
    if home.program("zstd").arg("--version").output().is_err() {
        skip("`zstd` is not installed".into());
        return;
    }
    let stored = stored(&home);
    std::fs::write(home.path("slot.tar.zst"), &stored).unwrap();
    Done::of(home.program("zstd").args(["-q", "-t", "slot.tar.zst"])).success();
    let line = "tar --sort=name -cf - -C app . | zstd -q -3 | wc -c";
    let theirs: f64 =
        Done::of(home.program("sh").args(["-c", line])).success().stdout.trim().parse().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = stored.len() as f64 / theirs;
    assert!(ratio < 1.05, "{ratio}");
}

#[test]
fn real_files_are_as_small_as_zstd_makes_a_tar_archive_at_the_same_level() {
    let Some(flavor) = slotfs_tests::command::flavor() else { return };
    let libraries = flavor.parent().unwrap().with_file_name("lib");
    let python = std::fs::read_dir(libraries).unwrap().next().unwrap().unwrap().path();
    let source = python.join("site-packages/pip").display().to_string();
    let home = Home::new();
    for level in ["3", "9"] {
        pack(&home, &[&source, "-o", "app.psp", "--profile", "fast", "--level", level]).success();
        let line = format!("tar --sort=name -cf - -C {source} . | zstd -q -{level} | wc -c");
        let theirs: f64 =
            Done::of(home.program("sh").args(["-c", &line])).success().stdout.trim().parse().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let ratio = stored(&home).len() as f64 / theirs;
        assert!(ratio < 1.05, "level {level}: {ratio}");
    }
}

#[test]
fn repeats_are_stored_once_and_stay_files_of_their_own() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    // Longer than a frame; the second half differs in one byte.
    let content = noise_of(5, 3_000_000);
    let mut almost = content.clone();
    almost[2_999_999] ^= 1;
    for folder in 0..6 {
        file(&home, &format!("app/{folder}/same"), 0o640 + folder, &content);
        file(&home, &format!("app/{folder}/own"), 0o644, noise_of(folder, 2_000));
    }
    file(&home, "app/9/almost", 0o644, &almost);
    pack(&home, &["app", "-o", "app.psp", "--profile", "fast", "--key-seed", "s"]).success();
    let slot = stored(&home);
    assert!(slot.len() < 4_500_000, "{} bytes for two of 3,000,000 that halve", slot.len());
    let expected = slotfs_tests::tree::describe(&home.path("app"));
    let whole_seconds = |mut lines: std::collections::BTreeMap<std::path::PathBuf, String>| {
        lines.values_mut().for_each(|line| {
            if let Some((before, _)) = line.rsplit_once('.') {
                *line = before.to_owned();
            }
        });
        lines
    };
    let same = |found, when: &str| {
        slotfs_tests::workplace::assert_same(&whole_seconds(expected.clone()), &whole_seconds(found), when);
    };
    // By the index that the package carries, by a pass over the slot, and as another program reads the slot.
    home.run(["extract", "app.psp", "out"]).success();
    same(slotfs_tests::tree::describe(&home.path("out")), "by the carried index");
    let other = Home::new();
    let mut bytes = std::fs::read(home.path("app.psp")).unwrap();
    for range in indexes(&home, "app.psp") {
        bytes[range].fill(0);
    }
    std::fs::write(other.path("app.psp"), bytes).unwrap();
    other.run(["mount", "app.psp"]).success();
    let root = other.workenv("app");
    same(slotfs_tests::tree::describe(&root), "by a pass");
    std::fs::write(root.join("3/same"), "changed").unwrap();
    assert!(std::fs::read(root.join("4/same")).unwrap() == content, "they are not one file");
    other.run(["unmount", "app"]).success();
    other.settle();
    std::fs::write(home.path("slot.tar.zst"), slot).unwrap();
    let line = "mkdir theirs && zstd -q -d < slot.tar.zst | tar -xf - -C theirs --warning=no-unknown-keyword && diff -r app theirs";
    Done::of(home.program("sh").args(["-c", line])).success();
    // In a slot for everybody each has its own bytes.
    pack(&home, &["app,operations=tgz", "-o", "app.psp", "--profile", "fast"]).success();
    assert!(stored(&home).len() > 9_000_000);
}

#[test]
fn the_same_sources_give_the_same_bytes_on_one_processor() {
    let home = Home::new();
    packed(&home);
    let first = std::fs::read(home.path("app.psp")).unwrap();
    let command = "--command {workenv}/bin/show --env COLOUR=blue";
    let line = format!(
        "exec taskset -c 0 {} pack app -o app.psp --profile fast --key-seed s {command}",
        binary().display()
    );
    Done::of(home.program("sh").args(["-c", &line])).success();
    assert!(std::fs::read(home.path("app.psp")).unwrap() == first);
}

#[test]
fn what_launchers_cannot_do_is_said() {
    let home = Home::new();
    application(&home);
    let refused = pack(&home, &["app,operations=tar.zst", "-o", "x.psp"]).code(2);
    assert!(
        refused.stderr.contains("are not for everybody") && refused.stderr.contains("--profile fast"),
        "{}",
        refused.stderr
    );
    let refused = pack(&home, &["app", "-o", "x.psp", "--level", "12"]).code(2);
    assert!(refused.stderr.contains("no level 12 of gzip"), "{}", refused.stderr);
    let Some((_, launcher)) = launchers().into_iter().next() else { return };
    let launcher = launcher.display().to_string();
    let line = ["app", "-o", "x.psp", "--profile", "fast", "--level", "12", "--launcher", &launcher];
    let done = pack(&home, &line).success();
    assert!(done.stderr.contains("launchers cannot start the package"), "{}", done.stderr);
    // One slot may still be for everybody.
    pack(&home, &["app,operations=tgz", "-o", "y.psp", "--profile", "fast"]).success();
    assert_eq!(inspected(&home, "y.psp")["package"]["slots"][0]["chain"], "tar.gzip");
}

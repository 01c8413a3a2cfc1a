//! A cache on a full disk, and one that cannot be written.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use slotfs_tests::command::{Home, missing_fuse, shell_package, skip, wait_for};
use slotfs_tests::package::{SlotSpec, Tree};

use super::support::{TEXT, application, nothing_left, says, slotfs};

/// A small disk in memory, mounted as long as this lives.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one of `size` at a new directory; `None` where this test may not mount.
    fn new(home: &Home, size: &str) -> Option<Self> {
        let place = home.path("disk");
        std::fs::create_dir_all(&place).unwrap();
        let options = format!("size={size}");
        match mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())) {
            Ok(()) => Some(Self(place)),
            Err(error) => {
                skip(format!("a disk in memory cannot be mounted: {error}"));
                None
            }
        }
    }

    /// Makes it read-only.
    fn protect(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &self.0, None::<&str>, flags, None::<&str>).unwrap();
    }

    /// Fills it until `left` bytes are free.
    fn fill(&self, left: u64) {
        let filler = self.0.join("filler");
        let _ = std::fs::remove_file(&filler);
        let space = nix::sys::statvfs::statvfs(&self.0).unwrap();
        let free = space.blocks_available() * space.fragment_size();
        std::fs::write(&filler, vec![1; usize::try_from(free.saturating_sub(left)).unwrap()]).unwrap();
    }

    fn empty(&self) {
        for entry in std::fs::read_dir(&self.0).unwrap().flatten() {
            let _ = std::fs::remove_dir_all(entry.path()).or_else(|_| std::fs::remove_file(entry.path()));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn cached<'a>(disk: &'a Disk, words: &[&'a str]) -> Vec<&'a str> {
    let cache = disk.0.to_str().unwrap();
    [&["--cache-dir", cache], words].concat()
}

#[test]
fn a_full_disk_can_be_cleaned() {
    let home = Home::new();
    let Some(disk) = Disk::new(&home, "4m") else { return };
    for name in ["removed", "cleaned"] {
        let package = home.package(&format!("{name}.psp"), application());
        let words = ["run", "--mode", "extract", package.to_str().unwrap()];
        assert_eq!(slotfs(&home, cached(&disk, &words)).success().stdout, TEXT);
    }
    let filler = disk.0.join("removed/filler");
    disk.fill(0);
    std::fs::rename(disk.0.join("filler"), &filler).unwrap();
    assert!(std::fs::write(disk.0.join("more"), [1; 4096]).is_err(), "the disk is not full");
    slotfs(&home, cached(&disk, &["remove", "removed", "--yes"])).success();
    assert!(!filler.exists());
    disk.fill(0);
    slotfs(&home, cached(&disk, &["clean", "--all", "--yes"])).success();
    assert!(!disk.0.join("cleaned").exists() && !disk.0.join(".cleaned.pspf").exists());
    let left = std::fs::read_dir(disk.0.join(".slotfs/removed-v1")).unwrap().count();
    assert_eq!(left, 0, "something waits to be deleted");
}

/// Waits until nothing is mounted but the disk itself, and no server is left: a command does not wait for one that is still
/// making an index or putting contents away, which takes room that it gives back when it finds that there is too little.
fn only_disk(home: &Home, disk: &Disk) {
    wait_for("the mount to go", || home.mounts() == std::slice::from_ref(&disk.0) && !home.is_at_work());
}

/// Whatever the amount of free space: the program gets the right bytes, or the user is told that there is no space.
#[test]
fn a_disk_that_is_full_at_any_moment_is_an_error_or_makes_no_difference() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let Some(disk) = Disk::new(&home, "4m") else { return };
    let package = home.package("app.psp", application());
    let package = package.to_str().unwrap();
    let (mut refused, mut served) = (0, 0);
    for pages in (0..12).chain([14, 18, 24, 32, 48, 100]) {
        disk.empty();
        disk.fill(pages * 4096);
        let done = slotfs(&home, cached(&disk, &["run", package]));
        if done.code == 0 {
            served += 1;
            assert_eq!(done.stdout, TEXT, "{pages} pages free");
        } else {
            refused += 1;
            says(
                &done,
                "run",
                106,
                &["No space left on device", disk.0.to_str().unwrap(), "free some space"],
            );
        }
        only_disk(&home, &disk);
        // With some space it works, from whatever the failure left behind.
        std::fs::remove_file(disk.0.join("filler")).unwrap();
        let done = slotfs(&home, cached(&disk, &["run", package])).success();
        assert_eq!(done.stdout, TEXT, "after {pages} pages were free");
        only_disk(&home, &disk);
    }
    assert!(refused > 0 && served > 0, "{refused} refused, {served} served");
}

/// Contents that would go to the store are served although they do not fit there.
#[test]
fn contents_larger_than_the_disk_are_served_all_the_same() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let Some(disk) = Disk::new(&home, "1m") else { return };
    for chain in ["tar.gzip", "tar.bzip2", "tar.xz", "tar.zstd"] {
        let text: String = (0..400_000).map(|number| format!("{number}\n")).collect();
        let tree = Tree::new().file("large", 0o644, text.as_bytes()).file("small", 0o644, TEXT.as_bytes());
        let script = "tail -n 1 {workenv}/large; wc -c < {workenv}/large; cat {workenv}/small";
        let path =
            home.package("app.psp", shell_package("app", script).slot(SlotSpec::tree("a", chain, tree)));
        for _ in 0..2 {
            let done = slotfs(&home, cached(&disk, &["run", path.to_str().unwrap()])).success();
            assert_eq!(done.stdout, format!("399999\n{}\n{TEXT}", text.len()), "{chain}");
            only_disk(&home, &disk);
        }
        disk.empty();
    }
}

/// The space of a removed file comes back when its last handle is closed, of which the kernel tells the server only after
/// `close` has returned; so the program tries again for a moment.
#[test]
fn a_program_that_fills_the_disk_is_told_so_and_everything_else_goes_on() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let Some(disk) = Disk::new(&home, "2m") else { return };
    let script = "head -c 8000000 /dev/zero > {workenv}/big; echo code $?; cat {workenv}/lib/text; \
                  rm {workenv}/big; for try in 0 1 2 3 4 5 6 7 8 9; do \
                  echo fine > {workenv}/small && break; sleep 0.$try; done; cat {workenv}/small";
    let tree = Tree::new().file("lib/text", 0o644, TEXT.as_bytes());
    let package = shell_package("app", script).slot(SlotSpec::tree("a", "tar.gzip", tree));
    let path = home.package("app.psp", package);
    let done = slotfs(&home, cached(&disk, &["run", path.to_str().unwrap()])).success();
    assert_eq!(done.stdout, format!("code 1\n{TEXT}fine\n"));
    assert!(done.stderr.contains("No space left on device"), "{}", done.stderr);
    only_disk(&home, &disk);
}

#[test]
fn extracting_to_a_full_disk_leaves_nothing() {
    let home = Home::new();
    let Some(disk) = Disk::new(&home, "256k") else { return };
    let tree = Tree::new().file("large", 0o644, &[b'x'; 400_000]);
    let package = shell_package("app", "true").slot(SlotSpec::tree("a", "tar.gzip", tree));
    let path = home.package("app.psp", package);
    let out = disk.0.join("tree");
    let done = slotfs(&home, ["extract".as_ref(), path.as_os_str(), out.as_os_str()]);
    says(&done, "extract", 106, &[disk.0.to_str().unwrap(), "free some space"]);
    assert_eq!(std::fs::read_dir(&disk.0).unwrap().count(), 0);
}

#[test]
fn a_read_only_cache_is_named_and_what_needs_no_cache_works() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let Some(disk) = Disk::new(&home, "4m") else { return };
    let package = home.package("app.psp", application());
    let package = package.to_str().unwrap();
    let place = disk.0.to_str().unwrap();
    disk.protect();
    for command in ["run", "mount", "warm"] {
        let done = slotfs(&home, cached(&disk, &[command, package]));
        says(&done, command, 106, &["Read-only file system", place, "--cache-dir"]);
        only_disk(&home, &disk);
    }
    slotfs(&home, cached(&disk, &["verify", package])).success();
    slotfs(&home, cached(&disk, &["inspect", package])).success();
    slotfs(&home, cached(&disk, &["list"])).success();
    slotfs(&home, cached(&disk, &["extract", package, home.path("out").to_str().unwrap()])).success();
    assert_eq!(std::fs::read_to_string(home.path("out/lib/text")).unwrap(), TEXT);
}

#[test]
fn a_cache_that_is_a_file_or_lies_below_one_is_named() {
    let home = Home::new();
    let package = home.package("app.psp", application());
    std::fs::write(home.path("file"), "").unwrap();
    for place in ["file", "file/below"] {
        for command in ["run", "mount"] {
            let done = slotfs(&home, ["--cache-dir", place, command, package.to_str().unwrap()]);
            let shown = home.path(place);
            let shown: &Path = if place == "file" { &shown } else { shown.parent().unwrap() };
            says(&done, place, 106, &[shown.to_str().unwrap()]);
            nothing_left(&home, command);
        }
    }
}

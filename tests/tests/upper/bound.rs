//! `--max-upper`: nothing goes beyond, nothing that was accepted is lost, and what is removed gives room back.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use slotfs_fs::disk::unix::Directory;
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_fs::overlay::Upper;
use slotfs_fs::volume::{
    Access, Caller, FsError, HandleId, NodeId, PlacedLayer, SetAttributes, Volume, VolumeOptions, XattrMode,
};
use slotfs_tests::command::{Home, missing_fuse, wait_for};

use super::support::package;

const WRITE: Access = Access { read: true, write: true, append: false };
const APPEND: Access = Access { append: true, ..WRITE };
const ME: Caller = Caller { user: 0, group: 0 };
const LIMIT: u64 = 1 << 20;

fn start(folder: &Path, limit: u64) -> Volume {
    let upper = Upper::open(&folder.join("upper"), &folder.join("work")).unwrap();
    let layer = MemoryLayer::builder().file("small", 0o644, *b"small").file("large", 0o644, vec![7; 3 << 20]);
    let layer = Arc::new(layer.build().unwrap());
    let placed = PlacedLayer { name: "slot".into(), layer, target: Vec::new(), writable: true };
    Volume::new(vec![placed], Some(upper), VolumeOptions { limit: Some(limit), ..VolumeOptions::default() })
        .unwrap()
}

/// What the volume kept as its number when it was closed, and what the disk says.
fn closed(volume: Volume, folder: &Path) -> (u64, u64) {
    let said = used(&volume);
    drop(volume);
    let upper = Upper::open(&folder.join("upper"), &folder.join("work")).unwrap();
    let kept = upper.used().unwrap();
    assert!(kept == said || kept > said && said == LIMIT, "{kept} was kept and {said} shown");
    (kept, upper.count().unwrap())
}

fn used(volume: &Volume) -> u64 {
    let space = volume.space().unwrap();
    (space.blocks - space.blocks_free) * space.block_size
}

fn create(volume: &Volume, name: &str, access: Access) -> (NodeId, HandleId) {
    let (entry, opened) = volume.create(ME, NodeId::ROOT, name.as_bytes(), 0o644, access).unwrap();
    (entry.node, opened.handle)
}

fn is_full(error: &FsError) -> bool {
    matches!(error, FsError::Disk(error) if error.kind() == ErrorKind::StorageFull)
}

/// Writes pieces until there is no room; returns how many bytes were accepted.
fn fill(volume: &Volume, (node, handle): (NodeId, HandleId), piece: usize) -> u64 {
    let mut done = 0;
    loop {
        let bytes: Vec<u8> = (0..piece).map(|at| pattern(done + at as u64)).collect();
        match volume.write(node, handle, done, &bytes) {
            Ok(count) => {
                assert!(count > 0);
                done += count as u64;
            }
            Err(error) => {
                assert!(is_full(&error), "{error}");
                return done;
            }
        }
        assert!(done <= 2 * LIMIT, "no bound");
    }
}

fn pattern(at: u64) -> u8 {
    (at % 251) as u8
}

fn check(volume: &Volume, node: NodeId, length: u64) {
    let mut bytes = vec![0; usize::try_from(length).unwrap() + 1];
    assert_eq!(volume.read(node, None, 0, &mut bytes).unwrap() as u64, length);
    let wrong = (0..length).find(|&at| bytes[at as usize] != pattern(at));
    assert_eq!(wrong, None, "what was accepted is lost");
}

#[test]
fn a_file_is_filled_to_the_bound_and_what_was_accepted_is_there() {
    for (access, piece) in [(WRITE, 100_000), (WRITE, 4096), (WRITE, 777), (APPEND, 100_000), (APPEND, 5000)]
    {
        let folder = tempfile::tempdir().unwrap();
        let volume = start(folder.path(), LIMIT);
        let file = create(&volume, "file", access);
        let done = fill(&volume, file, piece);
        assert!(done > LIMIT - 32_768 && done <= LIMIT, "{done} of {LIMIT} in pieces of {piece}");
        check(&volume, file.0, done);
        assert_eq!(volume.space().unwrap().blocks * volume.space().unwrap().block_size, LIMIT);
        assert!(used(&volume) <= LIMIT);
        // What is there may still be written over; only what is new has no room.
        assert_eq!(volume.write(file.0, file.1, 0, &[pattern(0)]).is_ok(), access == WRITE);
        let other = create(&volume, "other", WRITE);
        let left = fill(&volume, other, 4096);
        assert!(left <= 32_768, "{left}");
        volume.release(other.1);
        volume.unlink(NodeId::ROOT, b"other").unwrap();
        volume.release(file.1);
        volume.unlink(NodeId::ROOT, b"file").unwrap();
        volume.forget(file.0, 1);
        assert_eq!(used(&volume), 0);
        let again = create(&volume, "again", WRITE);
        assert!(fill(&volume, again, piece) > LIMIT - 32_768);
        volume.release(again.1);
        let (said, counted) = closed(volume, folder.path());
        assert_eq!(said, counted);
    }
}

#[test]
fn holes_truncation_and_closing_give_room_back() {
    const KEEP_AND_PUNCH: i32 = 0x03;
    let folder = tempfile::tempdir().unwrap();
    let volume = start(folder.path(), LIMIT);
    let (node, handle) = create(&volume, "file", WRITE);
    volume.write(node, handle, 0, &vec![1; 800_000]).unwrap();
    let full = used(&volume);
    volume.allocate(node, handle, 0, 400 << 10, KEEP_AND_PUNCH).unwrap();
    assert_eq!(used(&volume), full - (400 << 10));
    // The length may be any: holes take nothing.
    let size = SetAttributes { size: Some(1 << 40), ..SetAttributes::default() };
    volume.set_attributes(ME, node, Some(handle), &size).unwrap();
    assert_eq!(used(&volume), full - (400 << 10));
    assert!(is_full(&volume.allocate(node, handle, 0, LIMIT, 0).unwrap_err()));
    volume.allocate(node, handle, 0, 300 << 10, 0).unwrap();
    assert!(used(&volume) >= full - (100 << 10));
    let size = SetAttributes { size: Some(0), ..SetAttributes::default() };
    volume.set_attributes(ME, node, Some(handle), &size).unwrap();
    assert_eq!(used(&volume), 0);
    volume.write(node, handle, 0, &vec![2; 500_000]).unwrap();
    volume.unlink(NodeId::ROOT, b"file").unwrap();
    volume.forget(node, 1);
    assert!(used(&volume) >= 500_000, "it is still open, and still takes room");
    volume.write(node, handle, 500_000, &[3; 100_000]).unwrap();
    volume.release(handle);
    assert_eq!(used(&volume), 0);
    let (said, counted) = closed(volume, folder.path());
    assert_eq!((said, counted), (0, 0));
}

#[test]
fn a_file_that_does_not_fit_is_not_copied_up_and_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    let volume = start(folder.path(), LIMIT);
    let lookup = |name: &[u8]| match volume.lookup(NodeId::ROOT, name).unwrap() {
        slotfs_fs::volume::Lookup::Found(entry) => entry.node,
        slotfs_fs::volume::Lookup::Absent { .. } => panic!("it is in the layer"),
    };
    let large = lookup(b"large");
    assert!(is_full(&volume.open(large, WRITE, false).unwrap_err()));
    assert_eq!(used(&volume), 0);
    let mut byte = [0];
    assert_eq!(volume.read(large, None, (3 << 20) - 1, &mut byte).unwrap(), 1);
    assert_eq!(byte, [7]);
    let small = lookup(b"small");
    let opened = volume.open(small, WRITE, false).unwrap();
    assert!(opened.backing.is_none(), "what the kernel writes by itself is not counted");
    assert_eq!(used(&volume), 4096);
    volume.set_extended_attribute(small, b"user.long", &[b'x'; 2000], XattrMode::Set).unwrap();
    volume.release(opened.handle);
    let opened = volume.open(large, WRITE, true).unwrap();
    volume.write(large, opened.handle, 0, b"new").unwrap();
    volume.release(opened.handle);
    let (said, counted) = closed(volume, folder.path());
    assert_eq!(said, counted);
}

#[test]
fn threads_at_the_bound_lose_nothing_and_count_right() {
    let folder = tempfile::tempdir().unwrap();
    let volume = start(folder.path(), LIMIT);
    let shared = create(&volume, "shared", WRITE);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let volume = &volume;
            scope.spawn(move || {
                let own = create(volume, &format!("own{thread}"), WRITE);
                let mut accepted = Vec::new();
                for step in 0..400_u64 {
                    // Half blocks, so that two threads meet in each block.
                    let offset = (step * 4 + thread) * 2048;
                    if volume
                        .write(shared.0, shared.1, offset, &[thread as u8 + 1; 2048])
                        .is_ok_and(|n| n == 2048)
                    {
                        accepted.push(offset);
                    }
                    let _ = volume.write(own.0, own.1, step * 1000, &[9; 1000]);
                }
                for offset in accepted {
                    let mut bytes = [0; 2048];
                    volume.read(shared.0, None, offset, &mut bytes).unwrap();
                    assert_eq!(bytes, [thread as u8 + 1; 2048], "an accepted write is gone at {offset}");
                }
                volume.release(own.1);
            });
        }
    });
    volume.release(shared.1);
    look_again(&volume, &["shared", "own0", "own1", "own2", "own3"]);
    let (said, counted) = closed(volume, folder.path());
    assert_eq!(said, counted);
    // Besides the data there are the disk's own tables, for files in many pieces.
    assert!(said <= LIMIT + 5 * 8192, "{said}");
}

/// Everything that gives and takes names and room, in an order that a number decides.
fn step(volume: &Volume, random: u64) -> Result<(), FsError> {
    let name = |at: u64| format!("name{}", (random >> at) % 6).into_bytes();
    let layer_name = || [&b"linked"[..], b"linked too", b"plain"][(random >> 40) as usize % 3].to_vec();
    let (one, other) = (name(8), if random & 128 == 0 { name(16) } else { layer_name() });
    let find = |name: &[u8]| match volume.lookup(NodeId::ROOT, name)? {
        slotfs_fs::volume::Lookup::Found(entry) => Ok(entry.node),
        slotfs_fs::volume::Lookup::Absent { .. } => Err(FsError::NotFound),
    };
    let length = (random >> 20) % 90_000;
    match random % 9 {
        0 => {
            let (entry, opened) = volume.create(ME, NodeId::ROOT, &one, 0o644, WRITE)?;
            let written = volume.write(entry.node, opened.handle, 0, &vec![1; length as usize]);
            volume.release(opened.handle);
            volume.forget(entry.node, 1);
            written.map(drop)
        }
        1 => volume.unlink(NodeId::ROOT, &other),
        2 => volume.rename(NodeId::ROOT, &one, NodeId::ROOT, &other, slotfs_fs::volume::RenameMode::Replace),
        3 => volume.rename(NodeId::ROOT, &one, NodeId::ROOT, &other, slotfs_fs::volume::RenameMode::Exchange),
        4 => {
            let entry = volume.link(find(&other)?, NodeId::ROOT, &one)?;
            volume.forget(entry.node, 1);
            Ok(())
        }
        5 | 6 => {
            let node = find(&other)?;
            let opened = volume.open(node, WRITE, random & 64 == 0)?;
            let written = volume.write(node, opened.handle, length, b"more");
            // Sometimes the last name goes first.
            let _ = if random & 32 == 0 { volume.unlink(NodeId::ROOT, &other) } else { Ok(()) };
            let more = volume.write(node, opened.handle, length / 2, &[2; 5000]);
            volume.release(opened.handle);
            written.and(more).map(drop)
        }
        7 => {
            let size = SetAttributes { size: Some(length), ..SetAttributes::default() };
            volume.set_attributes(ME, find(&other)?, None, &size).map(drop)
        }
        _ => {
            let value = vec![b'x'; length as usize % 3000];
            volume.set_extended_attribute(find(&other)?, b"user.note", &value, XattrMode::Set)
        }
    }
}

/// The disk gives a file in many pieces blocks for its own tables when it writes it out; that is seen when the file is
/// next closed.
fn look_again(volume: &Volume, names: &[&str]) {
    volume.sync_all().unwrap();
    for name in names {
        if let slotfs_fs::volume::Lookup::Found(entry) = volume.lookup(NodeId::ROOT, name.as_bytes()).unwrap()
        {
            if let Ok(opened) = volume.open(entry.node, WRITE, false) {
                volume.release(opened.handle);
            }
            volume.forget(entry.node, 1);
        }
    }
}

#[test]
fn whatever_happens_the_count_is_that_of_the_disk() {
    for seed in 1..9_u64 {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let upper = Upper::open(&folder.path().join("upper"), &folder.path().join("work")).unwrap();
            let layer = MemoryLayer::builder()
                .file("linked", 0o644, vec![3; 20_000])
                .hard_link("linked too", "linked")
                .file("plain", 0o644, vec![4; 30_000]);
            let layer = Arc::new(layer.build().unwrap());
            let placed = PlacedLayer { name: "slot".into(), layer, target: Vec::new(), writable: true };
            let options = VolumeOptions { limit: Some(300_000), ..VolumeOptions::default() };
            Volume::new(vec![placed], Some(upper), options).unwrap()
        };
        let mut random = seed;
        for _ in 0..3 {
            let volume = open();
            for _ in 0..60 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let _ = step(&volume, random >> 3);
            }
            look_again(
                &volume,
                &["linked", "linked too", "plain", "name0", "name1", "name2", "name3", "name4", "name5"],
            );
            let (said, counted) = closed(volume, folder.path());
            assert_eq!(said, counted, "seed {seed}");
        }
    }
}

fn bounded(bound: &str) -> (Home, std::path::PathBuf) {
    let home = Home::new();
    let package = home.package("app.psp", package());
    home.run(["mount", "--max-upper", bound, package.to_str().unwrap()]).success();
    let root = home.workenv("app");
    (home, root)
}

/// Bytes that `statfs(2)` says are left.
fn left(root: &Path) -> u64 {
    let space = rustix::fs::statvfs(root).unwrap();
    space.f_bavail * space.f_frsize
}

fn on_disk(home: &Home) -> u64 {
    let upper = home.session("app").join("upper");
    assert!(Directory::open(&upper).is_ok());
    let files = slotfs_tests::tree::walk(&upper).into_iter().filter(|(_, found)| found.is_file());
    files.map(|(_, found)| found.blocks() * 512).sum()
}

#[test]
fn a_mount_is_full_at_its_bound_and_takes_more_when_something_goes() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = bounded("8MiB");
    assert_eq!(left(&root), 8 << 20);
    let dd = |file: &str| {
        let target = format!("of={}", root.join(file).display());
        home.program("dd").args(["if=/dev/zero", &target, "bs=1M", "count=20"]).output().unwrap()
    };
    let full = dd("big");
    assert!(!full.status.success());
    assert!(String::from_utf8_lossy(&full.stderr).contains("No space left on device"));
    let written = fs::metadata(root.join("big")).unwrap().len();
    assert!(written > 7 << 20 && written <= 8 << 20, "{written}");
    assert!(on_disk(&home) <= 8 << 20);
    assert!(left(&root) < 1 << 20);
    fs::remove_file(root.join("big")).unwrap();
    wait_for("the room of the removed file", || left(&root) == 8 << 20);
    assert!(!dd("big").status.success());
    assert_eq!(fs::metadata(root.join("big")).unwrap().len(), written);
    let file = fs::File::options().write(true).open(root.join("big")).unwrap();
    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, punch, 0, 4 << 20).unwrap();
    assert!(left(&root) >= 4 << 20, "{}", left(&root));
    file.write_all_at(&[1; 1 << 20], 0).unwrap();
    drop(file);
    home.run(["unmount", "app"]).success();
    home.settle();
}

#[test]
fn the_count_is_right_after_an_unmount_and_after_a_kill() {
    if missing_fuse().is_some() {
        return;
    }
    let (home, root) = bounded("8MiB");
    let mut file = fs::File::create(root.join("file")).unwrap();
    file.write_all(&vec![1; 3 << 20]).unwrap();
    drop(file);
    home.run(["unmount", "app"]).success();
    home.settle();
    assert!(home.session("app").join("upper-index/used").is_symlink());
    home.run(["mount", "--max-upper", "8MiB", "app.psp"]).success();
    assert!(!home.session("app").join("upper-index/used").is_symlink());
    assert_eq!(left(&root), (8 << 20) - on_disk(&home));
    fs::write(root.join("second"), vec![2; 2 << 20]).unwrap();
    for server in home.servers() {
        kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
    }
    wait_for("the end of the server", || home.servers().is_empty());
    home.run(["mount", "--max-upper", "8MiB", "app.psp"]).success();
    assert_eq!(left(&root), (8 << 20) - on_disk(&home));
    assert!(on_disk(&home) >= 5 << 20);
    let other = home.run(["mount", "--max-upper", "9MiB", "app.psp"]).code(110);
    assert!(other.stderr.contains("another bound"), "{}", other.stderr);
    home.run(["unmount", "app"]).success();
    home.settle();
}

#[test]
fn the_bound_comes_from_variable_and_file_too() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    home.package("app.psp", package());
    let config = home.path("config.json");
    fs::write(&config, r#"{ "max_upper": "5MiB" }"#).unwrap();
    let mounted = |variable: Option<&str>| {
        let mut command = home.slotfs(["mount", "app.psp", "--config", config.to_str().unwrap()]);
        command.envs(variable.map(|value| ("SLOTFS_MAX_UPPER", value)));
        slotfs_tests::command::Done::of(&mut command).success();
        let left = left(&home.workenv("app"));
        home.run(["unmount", "app"]).success();
        home.settle();
        left
    };
    assert_eq!(mounted(None), 5 << 20);
    assert_eq!(mounted(Some("6MiB")), 6 << 20);
    let unpacked = home.run(["run", "app.psp", "--mode", "extract", "--max-upper", "1MiB"]).success();
    assert!(unpacked.stderr.contains("unpacked files have no bound"), "{}", unpacked.stderr);
    let mut wrong = home.slotfs(["mount", "app.psp"]);
    slotfs_tests::command::Done::of(wrong.env("SLOTFS_MAX_UPPER", "much")).code(109);
}

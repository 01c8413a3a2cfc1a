//! What the kernel remembers: a warm path sends no request.

use std::path::Path;

use slotfs_fs::driver::{OpenMode, Operation, Statistics};
use slotfs_fs::layer::memory::{MemoryLayer, MemoryLayerBuilder};
use slotfs_tests::command::wait_for;
use slotfs_tests::mounted::{Mounted, Writable, volume};

fn tree() -> MemoryLayerBuilder {
    (0..300)
        .fold(MemoryLayer::builder(), |layer, number| {
            layer.file(format!("d{}/e{}/file{number}", number % 7, number % 3), 0o644, vec![7; 100 + number])
        })
        .symlink("link", "d0/e0/file0")
}

/// Walks everything, looks at every attribute, reads every file and link.
fn walk(place: &Path) -> (usize, usize) {
    let (mut files, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            let (more, inside) = walk(&path);
            (files, bytes) = (files + more, bytes + inside);
        } else if kind.is_symlink() {
            std::fs::read_link(&path).unwrap();
        } else {
            files += 1;
            bytes += std::fs::read(&path).unwrap().len();
        }
    }
    (files, bytes)
}

/// The kernel tells of a close after `close(2)` has returned. Of `refused` directories it was told to open them itself.
fn wait_until_closed(statistics: &Statistics, refused: u64) {
    let sent = |kinds: &[Operation]| kinds.iter().map(|&kind| statistics.requests(kind)).sum::<u64>();
    wait_for("everything to be closed", || {
        sent(&[Operation::Open, Operation::Create]) == sent(&[Operation::Release])
            && sent(&[Operation::OpenDirectory]) == refused + sent(&[Operation::ReleaseDirectory])
    });
}

/// Returns how many requests of each kind `action` makes the kernel send: the fewest of three times, as the kernel may take
/// back pages and inodes at any time.
fn fewest_by_operation(statistics: &Statistics, action: impl Fn()) -> Vec<(Operation, u64)> {
    let count = || Operation::ALL.iter().map(|&kind| statistics.requests(kind)).collect::<Vec<_>>();
    let mut fewest = vec![u64::MAX; Operation::ALL.len()];
    for _ in 0..3 {
        let before = count();
        action();
        for (least, (after, before)) in fewest.iter_mut().zip(count().into_iter().zip(before)) {
            *least = (*least).min(after - before);
        }
    }
    Operation::ALL.iter().copied().zip(fewest).collect()
}

#[test]
fn a_warm_walk_of_an_immutable_volume_sends_no_request() {
    let Some(mounted) = Mounted::new(volume(tree())) else { return };
    let cold = walk(mounted.root());
    assert_eq!(cold, (300, 300 * 100 + 299 * 300 / 2));
    let (warm, requests) = mounted.fewest_requests_of(|| walk(mounted.root()));
    assert_eq!(warm, cold);
    assert_eq!(requests, 0, "{:?}", mounted.statistics().by_operation());
}

/// In a writable one files are opened by request, directories are not.
#[test]
fn a_warm_walk_of_a_writable_volume_asks_for_no_directory() {
    let Some(mounted) = Writable::new(tree(), OpenMode::Automatic) else { return };
    let cold = walk(mounted.root());
    std::fs::write(mounted.path("d0/new"), b"new").unwrap();
    std::fs::remove_file(mounted.path("d1/e1/file1")).unwrap();
    let changed = walk(mounted.root());
    assert_eq!(changed, (cold.0, cold.1 + 3 - 101));
    let statistics = mounted.statistics();
    let opened = statistics.requests(Operation::OpenDirectory);
    assert_eq!(opened, 1);
    wait_until_closed(&statistics, 1);
    for (kind, sent) in fewest_by_operation(&statistics, || assert_eq!(walk(mounted.root()), changed)) {
        let allowed = [
            (Operation::Open, 300),
            (Operation::Release, 300),
            // The kernel is told late that what was written past it has changed.
            (Operation::GetAttributes, 4),
            // Somebody on the machine looks at how full its disks are.
            (Operation::Space, u64::MAX),
        ];
        let expected = allowed.iter().find(|(of, _)| *of == kind).map_or(0, |(_, count)| *count);
        assert!(sent <= expected, "{} {sent} times", kind.name());
    }
}

#[test]
fn only_opens_are_asked_for_where_files_are_opened_by_request() {
    let Some(mounted) = Mounted::with(volume(tree()), |options| options.open = OpenMode::Requests) else {
        return;
    };
    walk(mounted.root());
    let statistics = mounted.statistics();
    wait_until_closed(&statistics, 0);
    let walk_and_wait = || {
        walk(mounted.root());
        wait_until_closed(&statistics, 0);
    };
    for (kind, sent) in fewest_by_operation(&statistics, walk_and_wait) {
        let files = matches!(kind, Operation::Open | Operation::Release);
        let directories = matches!(kind, Operation::OpenDirectory | Operation::ReleaseDirectory);
        let expected = if files { 300 } else { u64::from(directories) * (1 + 7 + 21) };
        assert_eq!(sent, expected, "{}", kind.name());
    }
}

#[test]
fn what_is_absent_is_remembered() {
    let Some(mounted) = Mounted::new(volume(tree())) else { return };
    let look = |name: &str| std::fs::metadata(mounted.path(name)).unwrap_err().raw_os_error();
    assert_eq!(look("d0/absent"), Some(libc::ENOENT));
    let statistics = mounted.statistics();
    let lookups = statistics.requests(Operation::Lookup);
    for _ in 0..10 {
        assert_eq!(look("d0/absent"), Some(libc::ENOENT));
    }
    assert_eq!(statistics.requests(Operation::Lookup), lookups);
}

#[test]
fn the_kernel_stops_asking_to_open_after_the_first_time() {
    let Some(mounted) = Mounted::new(volume(tree())) else { return };
    walk(mounted.root());
    let statistics = mounted.statistics();
    assert!(mounted.served().features().unasked_opens);
    assert_eq!(statistics.requests(Operation::Open), 1);
    assert_eq!(statistics.requests(Operation::OpenDirectory), 1);
    assert_eq!(statistics.requests(Operation::Release), 0);
}

#[test]
fn what_the_kernel_forgets_the_volume_forgets() {
    let Some(mounted) = Mounted::new(volume(tree())) else { return };
    walk(mounted.root());
    let statistics = mounted.statistics();
    // Only root may; without, the kernel forgets when it likes and there is nothing to see.
    if std::fs::write("/proc/sys/vm/drop_caches", "2").is_err() {
        return;
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while statistics.requests(Operation::Forget) < 300 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(statistics.requests(Operation::Forget) >= 300, "{:?}", statistics.by_operation());
    assert_eq!(walk(mounted.root()).0, 300, "and finds it again");
}

#[test]
fn a_read_only_mount_of_what_was_written_sends_no_request_when_warm() {
    let Some(mut mounted) = Writable::new(tree(), OpenMode::Automatic) else { return };
    std::fs::write(mounted.path("d0/written"), "kept").unwrap();
    mounted.remount_read_only();
    assert_eq!(std::fs::read(mounted.path("d0/written")).unwrap(), b"kept");
    let refused = std::fs::write(mounted.path("d0/written"), "x").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    let cold = walk(mounted.root());
    assert_eq!(cold.0, 301);
    let (warm, requests) = mounted.fewest_requests_of(|| walk(mounted.root()));
    assert_eq!((warm, requests), (cold, 0), "{:?}", mounted.statistics().by_operation());
}

//! The mount itself: threads, unmounting, dead mounts, what is refused.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use slotfs::host::health::{Health, health, is_dead};
use slotfs::host::mount_table;
use slotfs::host::users::{self, Use};
use slotfs_fs::driver::{self, DriverError, MountOptions, OpenMode, UnmountError};
use slotfs_fs::layer::memory::MemoryLayer;
use slotfs_tests::mounted::{Mounted, is_listed, volume};

#[test]
fn the_mount_table_shows_the_mount_as_asked_for() {
    let source = "/some, path\\with spaces/app.psp";
    let layer = MemoryLayer::builder();
    let Some(mounted) = Mounted::with(volume(layer), |options| options.source = source.into()) else {
        return;
    };
    let table = mount_table::read().unwrap();
    let mount = mount_table::at(&table, mounted.root()).unwrap();
    assert!(mount.is_ours());
    assert_eq!(mount.source, Path::new(source));
    for option in ["ro", "nosuid", "nodev"] {
        assert!(mount.has_option(option), "{option} is missing in {:?}", mount.options);
    }
    assert!(mount.file_system_options.iter().any(|option| option == "default_permissions"));
    let root = mounted.root().to_path_buf();
    mounted.unmount();
    assert!(!is_listed(&root));
}

#[test]
fn a_busy_mount_is_not_taken_away_unless_told_and_its_users_are_named() {
    let Some(mounted) = Mounted::new(volume(MemoryLayer::builder().file("file", 0o644, *b"open"))) else {
        return;
    };
    let file = File::open(mounted.path("file")).unwrap();
    assert!(matches!(driver::unmount(mounted.root(), false), Err(UnmountError::Busy { .. })));
    let users = users::of(mounted.root()).users;
    let me = users.iter().find(|user| user.pid == std::process::id()).unwrap();
    assert_eq!(me.uses, [Use::OpenFile]);
    driver::unmount(mounted.root(), true).unwrap();
    assert!(!is_listed(mounted.root()));
    // Whoever has it open goes on reading.
    let mut text = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut text, 0).unwrap();
    assert_eq!(&text, b"open");
    drop(file);
    mounted.unmount();
}

#[test]
fn many_threads_read_one_mount_at_once() {
    for mode in [OpenMode::Automatic, OpenMode::Requests] {
        let layer = (0..64).fold(MemoryLayer::builder(), |layer, number: u8| {
            layer.file(format!("d{}/f{number}", number % 4), 0o644, vec![number; 100_000])
        });
        let Some(mounted) = Mounted::with(volume(layer), |options| options.open = mode) else { return };
        std::thread::scope(|scope| {
            for start in 0..16_u8 {
                let root = mounted.root();
                scope.spawn(move || {
                    for step in 0..64_u8 {
                        let number = (start * 5 + step) % 64;
                        let path = root.join(format!("d{}/f{number}", number % 4));
                        let content = std::fs::read(path).unwrap();
                        assert!(content.len() == 100_000 && content.iter().all(|&byte| byte == number));
                        assert!(std::fs::read_dir(root.join("d0")).unwrap().count() == 16);
                    }
                });
            }
        });
        mounted.unmount();
    }
}

#[test]
fn mounting_on_something_else_than_a_directory_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let serve = |place: &Path| {
        let volume = Arc::new(volume(MemoryLayer::builder()));
        driver::serve(volume, place, &MountOptions::new("x")).unwrap_err()
    };
    let error = serve(&file);
    assert!(matches!(error, DriverError::NotDirectory { .. }) && !error.is_unavailable());
    let error = serve(&folder.path().join("missing"));
    assert!(matches!(error, DriverError::Mountpoint { .. }) && !error.is_unavailable());
    assert!(error.to_string().contains("missing"));
}

#[test]
fn the_death_of_a_server_is_seen_and_its_mount_cleared() {
    let Some(mounted) = Mounted::new(volume(MemoryLayer::builder())) else { return };
    assert!(!is_dead(mounted.root()).unwrap());
    let table = mount_table::read().unwrap();
    let minor = mount_table::at(&table, mounted.root()).unwrap().device.1;
    // Cutting the connection does to the mount what the death of the server does.
    let abort = format!("/sys/fs/fuse/connections/{minor}/abort");
    if std::fs::write(abort, "1").is_err() {
        return;
    }
    // The server notices too, and whoever comes first clears the mount.
    match health(mounted.root(), Duration::from_secs(5)) {
        Ok(Health::Dead) => driver::unmount(mounted.root(), true).unwrap(),
        Ok(Health::Alive) => assert!(!is_listed(mounted.root())),
        other => panic!("{other:?}"),
    }
    mounted.unmount();
}

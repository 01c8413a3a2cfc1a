//! A package of two slots, mounted and written over in every way.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use slotfs_tests::command::{Home, shell_package, wait_for};
use slotfs_tests::package::{PackageBuilder, SlotSpec, Tree};
use slotfs_tests::tree;

/// Two slots, one below `lib`, one below `etc`, with links and a tree that can be moved.
pub(crate) fn package() -> PackageBuilder {
    let library = Tree::new()
        .file("lib/x.py", 0o644, b"print(1)\n")
        .file("lib/y.py", 0o644, b"print(2)\n")
        .file("lib/tool", 0o755, b"#!/bin/sh\n")
        .hard_link("lib/tool-too", "lib/tool")
        .symlink("lib/link", "x.py")
        .file("lib/deep/er/file", 0o644, b"deep\n")
        .file("lib/whole/one", 0o644, b"1\n")
        .file("lib/whole/two", 0o644, b"2\n");
    let etc = Tree::new()
        .file("etc/conf", 0o644, b"key=1\n")
        .file("etc/other", 0o644, b"o\n")
        .file("etc/old", 0o644, b"old\n");
    shell_package("app", "cat {workenv}/lib/x.py")
        .slot(SlotSpec::tree("library", "tar.gzip", library))
        .slot(SlotSpec::tree("settings", "tar", etc))
}

/// A home with the package in it, mounted.
pub(crate) fn mounted() -> (Home, PathBuf) {
    let home = Home::new();
    let package = home.package("app.psp", package());
    home.run(["mount", package.to_str().unwrap()]).success();
    let root = home.workenv("app");
    (home, root)
}

/// Something of every kind, over both slots and outside.
pub(crate) fn write(root: &std::path::Path) {
    fs::write(root.join("lib/x.py"), "print('changed')\n").unwrap();
    fs::set_permissions(root.join("lib/y.py"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(root.join("lib/new\n\u{1b}[m"), "new\n").unwrap();
    fs::write(root.join("etc/conf"), "key=2\n").unwrap();
    fs::remove_file(root.join("etc/old")).unwrap();
    fs::create_dir_all(root.join("var/log")).unwrap();
    fs::write(root.join("var/log/app.log"), "line\n").unwrap();
    fs::hard_link(root.join("var/log/app.log"), root.join("var/log/same.log")).unwrap();
    symlink("app.log", root.join("var/log/latest")).unwrap();
    fs::rename(root.join("lib/deep"), root.join("moved")).unwrap();
    fs::remove_dir_all(root.join("lib/whole")).unwrap();
    fs::create_dir(root.join("lib/whole")).unwrap();
    fs::write(root.join("lib/whole/three"), "3\n").unwrap();
}

/// Unmounts the package, and waits until its server is gone.
pub(crate) fn unmount(home: &Home) {
    home.run(["unmount", "app"]).success();
    home.settle();
}

/// What a mount shows, and shows again after a remount.
pub(crate) fn shown(home: &Home) -> BTreeMap<PathBuf, String> {
    home.run(["mount", "app.psp"]).success();
    let shown = tree::describe(&home.workenv("app"));
    unmount(home);
    shown
}

/// Writes the archive into the home.
pub(crate) fn archive(home: &Home, file: &str) -> PathBuf {
    let path = home.path(file);
    let output = fs::File::create(&path).unwrap();
    let status = home.slotfs(["diff", "app", "--tar"]).stdout(output).status().unwrap();
    assert!(status.success());
    path
}

/// Puts an OCI layer over `root`, as image tools do it.
pub(crate) fn apply(home: &Home, archive: &Path, root: &Path) {
    let bytes = fs::read(archive).unwrap();
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let path = entry.unwrap().path().unwrap().into_owned();
        let name = path.file_name().unwrap().to_str().unwrap_or_default().to_owned();
        let parent = root.join(path.parent().unwrap());
        if name == ".wh..wh..opq" {
            for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        } else if let Some(removed) = name.strip_prefix(".wh.") {
            let path = parent.join(removed);
            fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)).unwrap();
        }
    }
    let mut command = home.program("tar");
    command.arg("-xpf").arg(archive).arg("-C").arg(root);
    command.args(["--xattrs", "--xattrs-include=*", "--exclude=.wh.*", "--overwrite"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// As packaged: what the same package shows where nothing was ever written.
pub(crate) fn packaged() -> BTreeMap<PathBuf, String> {
    let (home, root) = mounted();
    let shown = tree::describe(&root);
    unmount(&home);
    shown
}

/// What `slotfs diff` says was written.
pub(crate) fn diff(home: &Home) -> String {
    home.run(["diff", "app"]).success().stdout
}

/// How many programs write at once.
pub(crate) const WRITERS: usize = 4;

/// Programs at work in a mount: each has two files of which the first is never behind, one that grows, and names that come
/// and go. They stop when this is dropped, or at the first error.
pub(crate) struct Writers {
    done: &'static AtomicBool,
    rounds: &'static [AtomicU64; WRITERS],
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Writers {
    pub(crate) fn start(root: &Path) -> Self {
        let done: &AtomicBool = Box::leak(Box::default());
        let rounds: &[AtomicU64; WRITERS] = Box::leak(Box::default());
        let threads = (0..WRITERS).map(|number| {
            let root = root.to_path_buf();
            std::thread::spawn(move || {
                let _ = write_until(&root, number, done, &rounds[number]);
            })
        });
        let writers = Self { done, rounds, threads: threads.collect() };
        writers.go_on();
        writers
    }

    /// Waits until each of them has written more.
    pub(crate) fn go_on(&self) {
        let written = || self.rounds.each_ref().map(|rounds| rounds.load(Ordering::Relaxed));
        let before = written();
        wait_for("the writers", || written().iter().zip(&before).all(|(now, before)| *now > before + 5));
    }

    pub(crate) fn stop(self) {
        self.done.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn write_until(root: &Path, number: usize, done: &AtomicBool, rounds: &AtomicU64) -> std::io::Result<()> {
    let open = |name: &str| {
        let path = root.join(format!("{name}-{number}"));
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    };
    let (first, second, grown) = (open("first")?, open("second")?, open("grown")?);
    for count in 1u64.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        first.write_all_at(&count.to_le_bytes(), 0)?;
        grown.write_all_at(&[count as u8; 4096], (count - 1) * 4096)?;
        second.write_all_at(&count.to_le_bytes(), 0)?;
        let before = root.join(format!("before-{number}-{}", count % 7));
        fs::write(&before, "")?;
        fs::rename(&before, root.join(format!("after-{number}-{}", count % 7)))?;
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

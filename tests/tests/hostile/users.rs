//! The same as an ordinary user: what may not be read or written is named, and what may be used works without root.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use slotfs_tests::command::{Done, Home, binary, missing_fuse, skip};

use super::support::{LIMIT, TEXT, all_refuse, application, calm, nothing_left, says, slotfs};

const NOBODY: u32 = 65534;

/// A home of an ordinary user, and slotfs in it; `None` where this test cannot become one.
struct User {
    home: Home,
}

impl User {
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skip("only root can become somebody else".into());
            return None;
        }
        let home = Home::new();
        set_mode(home.root(), 0o755);
        let program = home.path("slotfs");
        // A link has the same identity, by which leftover servers are found.
        if std::fs::hard_link(binary(), &program).is_err() {
            std::fs::copy(binary(), &program).unwrap();
        }
        chown(home.root(), Some(NOBODY), Some(NOBODY)).unwrap();
        let user = Self { home };
        let done = Done::of(&mut user.command(&["--version"]));
        if done.code != 0 {
            skip(format!("`{}` is not for everybody: {}", user.home.root().display(), done.stderr));
            return None;
        }
        Some(user)
    }

    fn command(&self, words: &[&str]) -> std::process::Command {
        let mut command = self.home.program("setpriv");
        let user = format!("--reuid={NOBODY}");
        let group = format!("--regid={NOBODY}");
        command.args([&user, &group, "--clear-groups", "--"]).arg(self.home.path("slotfs")).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Done {
        calm(Done::within(LIMIT, &mut self.command(words)))
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn package(home: &Home) -> String {
    let path = home.package("app.psp", application());
    set_mode(&path, 0o755);
    path.to_str().unwrap().to_owned()
}

#[test]
fn an_ordinary_user_lays_directories_over_each_other() {
    if missing_fuse().is_some() {
        return;
    }
    let Some(user) = User::new() else { return };
    for name in ["lower", "upper", "work", "target"] {
        let path = user.home.path(name);
        std::fs::create_dir(&path).unwrap();
        chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    std::fs::write(user.home.path("lower/file"), "text").unwrap();
    let options = "lowerdir=lower,upperdir=upper,workdir=work,nosuid,relatime,sync";
    if std::fs::metadata("/dev/fuse").unwrap().permissions().mode() & 0o006 != 0o006 {
        let done = user.run(&["overlay", "-o", options, "target"]).code(112);
        assert!(done.stderr.contains("/dev/fuse"), "{}", done.stderr);
        return;
    }
    user.run(&["overlay", "-o", options, "target"]).success();
    assert_eq!(user.home.mounts(), [user.home.path("target")]);
    user.run(&["unmount", "target"]).success();
    assert!(user.home.mounts().is_empty());
}

#[test]
fn an_ordinary_user_runs_a_package() {
    if missing_fuse().is_some() {
        return;
    }
    let Some(user) = User::new() else { return };
    let path = package(&user.home);
    let may_mount = std::fs::metadata("/dev/fuse").unwrap().permissions().mode() & 0o006 == 0o006;
    for _ in 0..2 {
        let done = user.run(&["run", &path]).success();
        assert_eq!(done.stdout, TEXT);
        assert_eq!(done.stderr.contains("/dev/fuse"), !may_mount, "{}", done.stderr);
    }
    if may_mount {
        user.run(&["mount", &path]).success();
        user.run(&["unmount", "app"]).success();
    } else {
        says(
            &user.run(&["mount", &path]),
            "mount",
            112,
            &["/dev/fuse", "Permission denied", "slotfs doctor"],
        );
    }
    nothing_left(&user.home, "run");
}

#[test]
fn an_unreadable_package_is_named() {
    let Some(user) = User::new() else { return };
    let path = package(&user.home);
    set_mode(Path::new(&path), 0o000);
    chown(&path, Some(0), Some(0)).unwrap();
    for command in ["verify", "run", "mount", "inspect"] {
        let done = user.run(&[command, &path]);
        says(&done, command, 106, &["app.psp`", "Permission denied"]);
    }
    let closed = user.home.path("closed");
    std::fs::create_dir(&closed).unwrap();
    set_mode(&closed, 0o700);
    let inside = closed.join("app.psp");
    let done = user.run(&["run", inside.to_str().unwrap()]);
    says(&done, "run", 106, &["closed/app.psp`", "Permission denied"]);
    nothing_left(&user.home, "run");
}

#[test]
fn a_cache_of_somebody_else_is_named() {
    let Some(user) = User::new() else { return };
    let path = package(&user.home);
    for mode in [0o755, 0o700] {
        let cache = user.home.path(format!("cache-{mode:o}"));
        std::fs::create_dir(&cache).unwrap();
        set_mode(&cache, mode);
        let cache = cache.to_str().unwrap();
        for command in ["run", "mount", "warm"] {
            let done = user.run(&["--cache-dir", cache, command, &path]);
            says(&done, command, 106, &[cache, "Permission denied"]);
        }
        // Looking works as far as the directory can be read.
        let done = user.run(&["--cache-dir", cache, "list"]);
        assert_eq!(done.code, if mode == 0o755 { 0 } else { 106 }, "{}", done.stderr);
    }
    nothing_left(&user.home, "run");
}

#[test]
fn a_tree_that_cannot_be_written_is_named() {
    let Some(user) = User::new() else { return };
    let path = package(&user.home);
    let closed = user.home.path("closed");
    std::fs::create_dir(&closed).unwrap();
    set_mode(&closed, 0o755);
    let out = closed.join("out");
    let done = user.run(&["extract", &path, out.to_str().unwrap()]);
    says(&done, "extract", 106, &["closed", "Permission denied"]);
    assert!(!out.exists());
}

/// An unreadable directory given as a package.
#[test]
fn an_unreadable_directory_is_named() {
    let Some(user) = User::new() else { return };
    let closed = user.home.path("closed");
    std::fs::create_dir(&closed).unwrap();
    set_mode(&closed, 0o700);
    let done = user.run(&["mount", closed.to_str().unwrap()]);
    says(&done, "mount", 106, &["closed", "Permission denied"]);
    nothing_left(&user.home, "mount");
}

#[test]
fn root_reads_what_it_may_not_write() {
    let home = Home::new();
    let path = home.package("app.psp", application());
    set_mode(&path, 0o000);
    if nix::unistd::geteuid().is_root() {
        slotfs(&home, ["verify".as_ref(), path.as_os_str()]).success();
    } else {
        all_refuse(&home, &path, 106, &["app.psp", "Permission denied"]);
    }
}

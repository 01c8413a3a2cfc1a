//! slotfs called by mount(8), by the real one. `/sbin` gets its link in a mount name space of the test's own.

use std::os::unix::fs::symlink;

use slotfs_tests::command::{Done, Home, binary, missing_fuse, shell_package, skip};
use slotfs_tests::package::{SlotSpec, Tree};

use super::support::{home, served_no_more};

/// Runs a shell script as root in a mount name space of its own, in the home; `$HELPERS` holds what is to be found in
/// `/usr/sbin`. Returns nothing where that cannot be done.
fn in_namespace(home: &Home, helper: Option<&str>, script: &str) -> Option<Done> {
    let helpers = home.path("helpers");
    std::fs::create_dir_all(&helpers).unwrap();
    // mount(8) keeps nobody's search path, so mount.fuse3 finds slotfs in `/usr/sbin` only.
    for name in helper.into_iter().chain(["slotfs"]) {
        let _ = symlink(binary(), helpers.join(name));
    }
    let setup = "mount -t overlay overlay -o lowerdir=$HOME/helpers:/usr/sbin /usr/sbin || exit 77";
    let script = format!("{setup}\nset -e\n{script}");
    let mut command = home.program("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let done = Done::of(&mut command);
    served_no_more(home);
    if done.code == 77 || done.stderr.contains("unshare failed") {
        skip(format!("no mount name space of its own: {}", done.stderr));
        return None;
    }
    Some(done)
}

/// Shows the target's line of the mount table and its content, and unmounts.
const SHOW: &str = "grep $HOME/target /proc/self/mounts; ls target; umount target";

fn package(home: &Home) {
    let slot = SlotSpec::tree("lib", "tar.gzip", Tree::new().file("in-p", 0o600, b"p"));
    home.package("app.psp", shell_package("app", "true").slot(slot));
}

fn shows(done: &Done, source: &str, names: &[&str]) {
    let mut lines = done.stdout.lines();
    let table = lines.next().unwrap();
    assert!(table.starts_with(&format!("{source} ")) && table.contains(" fuse.slotfs "), "{table}");
    assert_eq!(lines.collect::<Vec<_>>(), names, "{}", done.stderr);
}

#[test]
fn mount_makes_overlays_with_the_source_as_given() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let options = "lowerdir=a:b,upperdir=upper,workdir=work,nosuid,_netdev,x-systemd.automount,nofail";
    let script = format!("mount -t fuse.slotfs 'my name' $HOME/target -o {options}; {SHOW}");
    // Once by its own link, once by mount.fuse3.
    for helper in [Some("mount.fuse.slotfs"), None] {
        let Some(done) = in_namespace(&home, helper, &script) else { return };
        shows(&done.success(), "my\\040name", &["both", "in-a", "in-b"]);
        let _ = std::fs::remove_file(home.path("helpers/mount.fuse.slotfs"));
    }
}

#[test]
fn mount_takes_a_package_as_source() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    package(&home);
    let source = home.path("app.psp");
    let source = source.to_str().unwrap();
    let writing = "-o upperdir=upper,workdir=work";
    let scripts = [
        (
            Some("mount.fuse.slotfs"),
            format!("mount -t fuse.slotfs {source} $HOME/target; ! touch target/x; {SHOW}"),
            vec!["in-p"],
        ),
        (
            None,
            format!("mount -t fuse slotfs#{source} $HOME/target {writing}; touch target/x; {SHOW}"),
            vec!["in-p", "x"],
        ),
        (
            None,
            format!("mount -t fuse.slotfs {source} $HOME/target {writing}; rm target/in-p; {SHOW}"),
            vec!["x"],
        ),
    ];
    for (helper, script, names) in scripts {
        let Some(done) = in_namespace(&home, helper, &script) else { return };
        shows(&done.success(), source, &names);
        let _ = std::fs::remove_file(home.path("helpers/mount.fuse.slotfs"));
    }
}

#[test]
fn a_line_of_fstab_is_mounted_by_its_target() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let root = home.root().display();
    let line = format!(
        "changes {root}/target fuse.slotfs noauto,user,x-note=1,comment=mine,nofail,ro,lowerdir={root}/a:{root}/b 0 0\n"
    );
    std::fs::write(home.path("fstab"), line).unwrap();
    // As a unit of systemd has it: without a home.
    let script = format!("env -u HOME mount --fstab $HOME/fstab $HOME/target; {SHOW}");
    let Some(done) = in_namespace(&home, Some("mount.fuse.slotfs"), &script) else { return };
    let done = done.success();
    shows(&done, "changes", &["both", "in-a", "in-b"]);
    let options = done.stdout.split(' ').nth(3).unwrap();
    for wanted in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.split(',').any(|option| option == wanted), "{wanted}: {options}");
    }
}

/// Calls the helper as mount(8) does.
fn called(home: &Home, arguments: &[&str]) -> Done {
    use std::os::unix::process::CommandExt as _;
    let mut command = home.slotfs(arguments);
    command.arg0("/sbin/mount.fuse.slotfs");
    Done::of(&mut command)
}

#[test]
fn exit_codes_are_those_of_mount() {
    let home = home();
    package(&home);
    let table: [(&[&str], i32, &str); 7] = [
        (&["a"], 1, "a source and a target are wanted"),
        (&["a", "target", "-o", "unheard"], 1, "unknown mount option `unheard`"),
        (&["a", "target", "-x"], 1, "unknown argument `-x`"),
        (&["a", "target", "-f", "-o", "ro"], 0, ""),
        (&["a", "target", "-sf", "-o", "unheard"], 0, ""),
        (&["missing.psp", "target"], 32, "missing.psp"),
        (&["a", "missing"], 32, "missing"),
    ];
    for (arguments, code, said) in table {
        let done = called(&home, arguments).code(code);
        assert!(done.stderr.contains(said), "{arguments:?}: {}", done.stderr);
        assert_eq!(done.stdout, "");
    }
    assert_eq!(home.mounts(), Vec::<std::path::PathBuf>::new());
    served_no_more(&home);
}

#[test]
fn the_helper_returns_when_the_mount_is_up_and_says_nothing() {
    if missing_fuse().is_some() {
        return;
    }
    let home = home();
    let done = called(&home, &["a", "target", "-v", "-o", "rw,nosuid"]).success();
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", ""));
    assert_eq!(std::fs::read(home.path("target/both")).unwrap(), b"a");
    super::support::unmount(&home);
    // As mount.fuse3 calls it; the source is a directory.
    home.run(["a", "target", "-o", "rw,nodev"]).success();
    assert_eq!(home.mounts(), [home.path("target")]);
    super::support::unmount(&home);
}

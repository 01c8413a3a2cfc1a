//! Several users on one mount, whose server is root or one of them: each may what he may on a disk, and no more.
//!
//! The same script runs on a directory of the disk and in mounts, over what is new there and over what is in a layer.

use std::path::{Path, PathBuf};

use slotfs_tests::command::{Done, missing_fuse};
use slotfs_tests::ordinary::Ordinary;
use slotfs_tests::workplace::installed;

/// Something of everybody, readable for all, as a layer has to be that an ordinary user serves.
const MAKE: &str = r#"
    mkdir own shared group && chown 1:1 own && chmod 1777 shared && chgrp 5 group && chmod 2775 group
    echo daemons > own/file && chown 1:1 own/file && echo roots > roots && cp /bin/true program
    echo shared > shared/roots && ln -s file own/link && chown -h 1:1 own/link && mkfifo fifo && chown 2:2 fifo
"#;

/// Users: daemon (1) and bin (2), who never serve; nobody (65534), who does.
const CHANGE: &str = r#"
    as() { setpriv --reuid "$1" --regid "$1" --clear-groups -- "${@:2}" 2>&1 || echo "refused: ${*:2}"; }
    in_groups() { setpriv --reuid "$1" --regid "$1" --groups "$2" -- "${@:3}" 2>&1 || echo "refused: ${*:3}"; }
    umask 022
    # Each has his own files.
    as 1 sh -c 'echo one >> own/file; chmod 600 own/file; cat own/file'
    as 2 cat own/file; as 65534 cat own/file; as 65534 sh -c 'echo x >> own/file'; cat own/file
    as 1 sh -c 'umask 077; echo private > own/private; mkdir own/inner; umask 0; echo open > own/open'
    as 2 cat own/private; as 2 cat own/open; as 2 ls own/inner; as 2 touch new; as 65534 touch own/new
    as 1 mv own/open own/opened; as 2 mv own/opened own/open; as 1 chown 2 own/opened; as 2 chmod 777 own/opened
    # A sticky directory.
    as 1 sh -c 'echo x > shared/daemons'; as 2 sh -c 'echo y > shared/bins; ln -s bins shared/link; mkfifo shared/fifo'
    as 2 rm -f shared/daemons; as 65534 mv shared/bins shared/moved; as 65534 rm -f shared/roots shared/link
    as 2 mv shared/link shared/linked; as 1 rm -f shared/fifo; as 65534 sh -c 'echo n > shared/nobodys'
    as 1 rm -f shared/nobodys; as 65534 rm shared/nobodys; chown -h 1:1 shared/linked; as 2 rm -f shared/linked
    # A set-group-id directory, supplementary groups and umask.
    in_groups 1 5 sh -c 'umask 002; echo x > group/file; mkdir group/inner; echo y > group/inner/file; chmod 660 group/file'
    as 1 sh -c 'umask 077; touch group/private'; as 2 sh -c 'echo more >> group/file'; as 2 cat group/inner/file
    in_groups 2 7,5 sh -c 'echo more >> group/file; cat group/file'; in_groups 2 7,5 touch group/inner/bins
    in_groups 2 5 chgrp 5 shared/bins; as 2 chgrp 7 shared/bins; in_groups 1 5 chmod 2664 group/file
    in_groups 65534 5 sh -c 'umask 002; mkdir group/nobodys; touch group/nobodys/file'
    # Given away, and what goes with it.
    chmod 6755 program && chown 1:1 program && stat -c '%a %u' program && chmod 4777 program
    as 2 sh -c 'echo x >> program'; stat -c '%a %u' program; chown 2:2 own/link fifo roots; as 2 sh -c 'echo x >> roots'
    # Who shuts himself out, and root, who is not.
    as 1 sh -c 'mkdir own/closed; echo in > own/closed/file; chmod 0 own/closed'; as 1 ls own/closed; ls own/closed
    as 65534 sh -c 'mkdir shared/closed; touch shared/closed/file; chmod 500 shared/closed'
    as 65534 touch shared/closed/more; touch shared/closed/roots; as 65534 ls shared/closed; as 1 ls shared/closed
    as 65534 sh -c 'echo x > shared/none; chmod 0 shared/none; cat shared/none'; cat shared/none
    as 65534 sh -c 'echo x > shared/fixed; chmod 444 shared/fixed; echo y >> shared/fixed'; echo z >> shared/fixed
    as 65534 sh -c 'chmod 4711 shared/fixed; chmod 2755 shared/closed'
    # Access control lists.
    echo listed > listed && chmod 600 listed && setfacl -m u:daemon:r,g:5:rw listed
    as 1 cat listed; as 2 cat listed; in_groups 2 5 sh -c 'echo more >> listed'; as 1 sh -c 'echo more >> listed'
    chown 2:2 listed; as 2 setfacl -m u:65534:rw listed; as 65534 cat listed; as 65534 setfacl -b listed
    chmod 640 listed; as 1 cat listed; mkdir lists && setfacl -m d:u:daemon:rwx lists && chmod 777 lists
    as 2 sh -c 'touch lists/file; mkdir lists/inner'; as 1 sh -c 'echo x >> lists/file'; as 65534 touch lists/inner/new
    as 65534 sh -c 'touch lists/nobodys; setfacl -m u:bin:r,m::r lists/nobodys; chmod 0 lists/nobodys'
    # Links.
    ln own/file own/again; as 1 ln own/link own/linked; chmod 644 own/again; chown -h 2:1 own/linked
    # Attributes of root's.
    setfattr -n trusted.note -v x own/file; setfattr -n user.note -v x own/file; as 1 setfattr -n trusted.note -v y own/file
    getfattr --only-values -n trusted.note own/file; echo; as 1 getfattr -n user.note own/file
"#;

const SHOW: &str = r#"
    find . | sort | xargs stat -c '%A %u %g %n'; find . ! -type d | sort | xargs stat -c '%h %n'
    find . | sort | xargs getfacl --absolute-names; getfattr -h -m trusted -d own/file own/linked
    cat own/file roots shared/none shared/fixed listed; readlink own/linked
"#;

/// Runs a script as root in a directory of the user's machine.
fn run(user: &Ordinary, directory: &Path, script: &str) -> String {
    let line = format!("mkdir -p '{0}' && cd '{0}' && {{ {script}\n }} 2>&1", directory.display());
    Done::of(&mut user.program_of_root("bash", ["-c", &line])).stdout
}

struct Served<'a> {
    user: &'a Ordinary,
    by_root: bool,
    target: PathBuf,
}

impl Served<'_> {
    fn slotfs(&self, arguments: &[&str]) {
        let done = if self.by_root { self.user.run_as_root(arguments) } else { self.user.run(arguments) };
        done.success();
    }

    fn mount(&self) {
        let place = |name: &str| self.target.with_file_name(name).display().to_string();
        let (lower, upper, work) = (place("lower"), place("upper"), place("work"));
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work},allow_other");
        self.slotfs(&["overlay", "-o", &options, self.target.to_str().unwrap()]);
    }

    fn unmount(&self) {
        self.slotfs(&["unmount", self.target.to_str().unwrap()]);
    }
}

fn everybody_may_what_he_may_on_a_disk(by_root: bool) {
    if missing_fuse().is_some() || ["setfacl", "setpriv", "setfattr"].into_iter().any(|name| !installed(name))
    {
        return;
    }
    let Some(user) = Ordinary::letting_others_in() else { return };
    let folder = user.home().path("layers");
    for name in ["lower", "upper", "work", "target"] {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).unwrap();
        if !by_root && name != "lower" {
            user.own(&path);
        }
    }
    let disk = user.home().path("disk");
    run(&user, &disk, MAKE);
    let changed = run(&user, &disk, CHANGE);
    let shown = run(&user, &disk, SHOW);
    assert!(changed.contains("refused: cat own/file") && shown.contains("drwxr-sr-x 65534 65534"));
    run(&user, &folder.join("lower/old"), MAKE);
    let served = Served { user: &user, by_root, target: folder.join("target") };
    served.mount();
    let [new, old] = ["new", "old"].map(|name| served.target.join(name));
    assert_eq!(run(&user, &new, MAKE), "");
    for (name, directory) in [("new", &new), ("old", &old)] {
        assert_eq!(run(&user, directory, CHANGE), changed, "{name}");
        assert_eq!(run(&user, directory, SHOW), shown, "{name}");
    }
    served.unmount();
    served.mount();
    for (name, directory) in [("new", &new), ("old", &old)] {
        assert_eq!(run(&user, directory, SHOW), shown, "{name}, mounted again");
    }
    served.unmount();
    let on_disk =
        "find . ! -uid 65534; getfattr -h -R -n user.containers.override_stat . 2>/dev/null | head -n 1";
    let on_disk = run(&user, &folder.join("upper"), on_disk);
    if by_root {
        assert!(on_disk.contains("./new/own/closed/file") && !on_disk.contains("# file"), "{on_disk}");
    } else {
        assert!(on_disk.starts_with("# file: "), "{on_disk}");
    }
}

#[test]
fn everybody_may_what_he_may_on_a_disk_where_root_serves() {
    everybody_may_what_he_may_on_a_disk(true);
}

#[test]
fn everybody_may_what_he_may_on_a_disk_where_an_ordinary_user_serves() {
    everybody_may_what_he_may_on_a_disk(false);
}

/// An upper directory may come from elsewhere: with modes that keep its own owner out.
#[test]
fn what_shuts_its_server_out_is_served() {
    if missing_fuse().is_some() {
        return;
    }
    let Some(user) = Ordinary::letting_others_in() else { return };
    let folder = user.home().path("layers");
    for name in ["lower", "upper", "work", "target"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        user.own(&folder.join(name));
    }
    let fill = "echo x | tee fixed none > written; chmod 444 fixed; chmod 0 none; mkdir -p closed/inner; \
                echo in > closed/inner/file; chmod 500 closed/inner; chmod 0 closed";
    user.shell(&format!("cd '{}/upper' && {fill}", folder.display())).success();
    let served = Served { user: &user, by_root: false, target: folder.join("target") };
    served.mount();
    let script = "files='fixed none written'; stat -c '%a %n' $files; for name in $files; do echo more >> $name; done; \
                  cat $files; stat -c '%a %n' $files; chown 1:1 $files";
    assert_eq!(
        run(&user, &served.target, script),
        "444 fixed\n0 none\n644 written\nx\nmore\nx\nmore\nx\nmore\n444 fixed\n0 none\n644 written\n"
    );
    let script = "touch closed/inner/new && stat -c '%a %n' closed closed/inner && ls closed/inner";
    assert_eq!(run(&user, &served.target, script), "0 closed\n500 closed/inner\nfile\nnew\n");
    served.unmount();
    served.mount();
    assert_eq!(
        run(&user, &served.target, "stat -c '%a %u %n' *"),
        "0 65534 closed\n444 1 fixed\n0 1 none\n644 1 written\n"
    );
    served.unmount();
}

/// Without `user_allow_other` the mount is its user's alone, and says so where others were asked for.
#[test]
fn others_stay_out_where_the_machine_does_not_let_them_in() {
    if missing_fuse().is_some() {
        return;
    }
    let Some(user) = Ordinary::new() else { return };
    let folder = user.home().path("layers");
    for name in ["lower", "target"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        user.own(&folder.join(name));
    }
    std::fs::write(folder.join("lower/file"), "text").unwrap();
    let (lower, target) = (folder.join("lower"), folder.join("target"));
    let options = format!("lowerdir={}", lower.display());
    let asked = user.run(["overlay", "-o", &format!("{options},allow_other"), target.to_str().unwrap()]);
    assert!(asked.code != 0 && asked.stderr.contains("user_allow_other"), "{}", asked.stderr);
    user.run(["overlay", "-o", &options, target.to_str().unwrap()]).success();
    assert_eq!(user.shell(&format!("cat '{}/file'", target.display())).success().stdout, "text");
    let roots = Done::of(&mut user.program_of_root("cat", [target.join("file")]));
    assert!(roots.code != 0 && roots.stderr.contains("Permission denied"), "{}", roots.stderr);
    user.run(["unmount", target.to_str().unwrap()]).success();
}

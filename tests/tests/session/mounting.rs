//! `slotfs mount` and `slotfs unmount`.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use slotfs_tests::command::{Home, Running, is_ours, missing_fuse, shell_package, wait_for};

fn mounted(home: &Home, arguments: &[&str]) -> PathBuf {
    let done = home.run(["mount"].iter().chain(arguments)).success();
    PathBuf::from(done.stdout.trim_end())
}

#[test]
fn a_mount_stays_until_it_is_unmounted_by_directory_name_or_id() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "echo from-run > {workenv}/file"));
    let package = package.to_str().unwrap();
    let by_directory = home.workenv("app").to_str().unwrap().to_owned();
    for target in [by_directory.as_str(), "app", "ap"] {
        let place = mounted(&home, &[package]);
        assert_eq!(place, home.workenv("app"));
        // A run joins, and its end does not take the mount away.
        home.run(["run", package]).success();
        assert_eq!(std::fs::read(place.join("file")).unwrap(), b"from-run\n");
        assert_eq!(home.mounts(), [place]);
        home.run(["unmount", target]).success();
        assert_eq!(home.mounts(), Vec::<PathBuf>::new());
        assert_eq!(home.servers(), Vec::<i32>::new());
    }
    let done = home.run(["unmount", "app"]).code(111);
    assert!(done.stderr.contains("`app` is not mounted"), "{}", done.stderr);
    home.run(["unmount", "nobody"]).code(111);
}

#[test]
fn a_directory_that_was_made_goes_with_its_mount() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "true"));
    let package = package.to_str().unwrap();
    let made = home.path("made");
    assert_eq!(mounted(&home, &[package, "made"]), made);
    assert_eq!(home.mounts(), std::slice::from_ref(&made));
    home.run(["unmount".as_ref(), made.as_os_str()]).success();
    assert!(!made.exists());

    let kept = home.path("kept");
    std::fs::create_dir(&kept).unwrap();
    mounted(&home, &[package, "kept"]);
    home.run(["unmount", "kept"]).success();
    assert!(kept.exists());
    home.run(["mount", package, "no/such/parent"]).code(106);
}

#[test]
fn a_read_only_mount_refuses_every_change() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "true"));
    let package = package.to_str().unwrap();
    let place = mounted(&home, &["--ro", package]);
    let error = std::fs::write(place.join("file"), b"").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    home.run(["unmount", "app"]).success();
    let place = mounted(&home, &[package]);
    std::fs::write(place.join("file"), b"").unwrap();
    let done = home.run(["mount", "--ro", package, "elsewhere"]).code(110);
    assert!(done.stderr.contains("is mounted at"), "{}", done.stderr);
    home.run(["unmount", "app"]).success();
}

#[test]
fn what_is_in_use_is_named_and_stays() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "true"));
    let place = mounted(&home, &[package.to_str().unwrap()]);
    let user = Running::start(home.program("sleep").arg("60").current_dir(&place));
    let done = home.run(["unmount", "app"]).code(110);
    assert!(done.stderr.contains(&format!("process {}: sleep 60", user.pid())), "{}", done.stderr);
    assert_eq!(home.mounts(), std::slice::from_ref(&place));

    let waiting = Running::start(&mut home.slotfs(["unmount", "app", "--wait", "30"]));
    user.signal(Signal::SIGTERM);
    user.finish();
    waiting.finish().success();
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());

    mounted(&home, &[package.to_str().unwrap()]);
    let user = Running::start(home.program("sleep").arg("60").current_dir(&place));
    home.run(["unmount", "app", "--lazy"]).success();
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());
    assert_eq!(home.servers().len(), 1, "it serves its last user");
    user.signal(Signal::SIGKILL);
    user.finish();
    home.settle();
}

#[test]
fn a_run_keeps_its_mount_from_being_unmounted() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "echo ready; read line"));
    let mut run = Running::start(&mut home.slotfs(["run".as_ref(), package.as_os_str()]));
    run.line();
    home.run(["unmount", "app"]).code(110);
    assert_eq!(home.mounts(), [home.workenv("app")]);
    run.tell("\n");
    run.finish().success();
    assert_eq!(home.mounts(), Vec::<PathBuf>::new());
}

#[test]
fn a_mount_in_the_foreground_ends_with_its_command() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "true"));
    for ending in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut mount =
            Running::start(&mut home.slotfs(["mount", "--foreground", package.to_str().unwrap()]));
        assert_eq!(Path::new(&mount.line()), home.workenv("app"));
        assert_eq!(home.mounts(), [home.workenv("app")]);
        mount.signal(ending);
        mount.finish();
        home.settle();
    }
    let mut mount = Running::start(&mut home.slotfs(["mount", "--foreground", package.to_str().unwrap()]));
    mount.line();
    nix::mount::umount(&home.workenv("app")).unwrap();
    mount.finish().success();
    home.settle();
}

#[test]
fn the_system_may_unmount_and_ask_servers_to_end() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "true"));
    mounted(&home, &[package.to_str().unwrap()]);
    nix::mount::umount(&home.workenv("app")).unwrap();
    home.settle();
    mounted(&home, &[package.to_str().unwrap()]);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(home.servers()[0]), Signal::SIGTERM).unwrap();
    home.settle();
    assert!(!home.cache().join(".app.pspf/instance/package.checksum").exists());
}

#[test]
fn a_server_ends_with_its_mount_also_where_its_cache_is_gone() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "true"));
    let place = mounted(&home, &[package.to_str().unwrap(), "place"]);
    let server = home.servers()[0];
    std::fs::remove_dir_all(home.cache()).unwrap();
    nix::mount::umount(&place).unwrap();
    wait_for("the end of the server", || !is_ours(server));
    home.settle();
}

#[test]
fn a_server_keeps_none_of_its_callers_files() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "true"));
    // The shell's own descriptor 9 is inherited by everything that it starts.
    let script = format!("exec 9> {}; exec $0 mount {}", home.path("held").display(), package.display());
    let mut command = home.program("/bin/sh");
    command.args(["-c", &script]).arg(slotfs_tests::command::binary());
    slotfs_tests::command::Done::of(&mut command).success();
    let server = home.servers()[0];
    let open = std::fs::read_dir(format!("/proc/{server}/fd")).unwrap().flatten();
    let held: Vec<_> = open.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    assert!(!held.contains(&home.path("held")), "{held:?}");
    assert_eq!(std::fs::read_link(format!("/proc/{server}/cwd")).unwrap(), Path::new("/"));
    home.run(["unmount", "app"]).success();
}

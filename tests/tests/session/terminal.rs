//! Keys on a terminal: they go to the whole foreground group, so the program gets them without help.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use slotfs_tests::command::{Home, PATIENCE, missing_fuse, shell_package, wait_for};

/// A program on a terminal of its own, as its session's leader.
struct OnTerminal {
    child: Child,
    terminal: File,
    seen: String,
}

impl OnTerminal {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        Self::start_program(home, slotfs_tests::command::binary(), arguments)
    }

    fn start_program(home: &Home, program: &Path, arguments: &[&str]) -> Self {
        // Not `openpty`: its descriptors are inherited by whatever another test starts at this moment.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname_r(&master).unwrap();
        let slave = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(name).unwrap();
        // `setsid --ctty` gives the program standard input as its controlling terminal.
        let mut command = home.program("setsid");
        command.args(["--ctty", "--wait"]).arg(program).args(arguments);
        command.stdin(Stdio::from(slave.try_clone().unwrap()));
        command.stdout(Stdio::from(slave.try_clone().unwrap())).stderr(Stdio::from(slave));
        let child = command.spawn().unwrap();
        drop(command);
        Self { child, terminal: File::from(std::os::fd::OwnedFd::from(master)), seen: String::new() }
    }

    fn press(&mut self, key: u8) {
        self.terminal.write_all(&[key]).unwrap();
    }

    fn line(&mut self, text: &str) {
        self.terminal.write_all(format!("{text}\n").as_bytes()).unwrap();
    }

    fn wait_for(&mut self, text: &str) {
        let end = std::time::Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            assert!(std::time::Instant::now() < end, "`{text}` never came: {}", self.seen);
            let mut watched = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
            if poll(&mut watched, 100_u8).unwrap() == 0 {
                continue;
            }
            let mut buffer = [0; 512];
            match self.terminal.read(&mut buffer) {
                Ok(0) | Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
                Ok(count) => self.seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
            }
        }
        let at = self.seen.find(text).unwrap();
        self.seen.drain(..at + text.len());
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_interrupt_key_reaches_the_program_once_and_the_mount_goes() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let script = "n=0; trap \"n=\\$((n+1))\" INT; trap \"echo count=\\$n; exit 3\" QUIT; echo ready; \
                  while :; do sleep 0.05; done";
    let package = home.package("app.psp", shell_package("app", script));
    let mut run = OnTerminal::start(&home, &["run", package.to_str().unwrap()]);
    run.wait_for("ready");
    run.press(3);
    run.wait_for("^C");
    std::thread::sleep(std::time::Duration::from_millis(300));
    run.press(28);
    run.wait_for("count=1");
    assert_eq!(run.child.wait().unwrap().code(), Some(3));
    home.settle();
}

#[test]
fn an_interrupt_that_ends_the_program_ends_slotfs_with_130() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "echo ready; exec sleep 60"));
    let mut run = OnTerminal::start(&home, &["run", package.to_str().unwrap()]);
    run.wait_for("ready");
    run.press(3);
    assert_eq!(run.child.wait().unwrap().code(), Some(130));
    home.settle();
}

#[test]
fn a_closed_terminal_ends_the_program_and_the_mount() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let package = home.package("app.psp", shell_package("app", "echo ready; exec sleep 60"));
    let mut run = OnTerminal::start(&home, &["run", package.to_str().unwrap()]);
    run.wait_for("ready");
    let terminal = std::mem::replace(&mut run.terminal, File::open("/dev/null").unwrap());
    drop(terminal);
    wait_for("the end of slotfs", || run.child.try_wait().unwrap().is_some());
    home.settle();
}

#[test]
fn a_stop_key_stops_the_whole_job_and_the_shell_continues_it() {
    if missing_fuse().is_some() {
        return;
    }
    let home = Home::new();
    let script = "trap \"echo the-end; exit 7\" QUIT; trap \"echo again\" CONT; echo program-is=$$; while :; do sleep 0.05; done";
    let package = home.package("app.psp", shell_package("app", script));
    let mut shell =
        OnTerminal::start_program(&home, Path::new("/bin/bash"), &["--norc", "--noprofile", "-i"]);
    let slotfs = slotfs_tests::command::binary().display();
    shell.line(&format!("PS1='$ '; {slotfs} run {}", package.display()));
    shell.wait_for("program-is=");
    shell.wait_for("\n");
    shell.press(26);
    shell.wait_for("Stopped");
    shell.line("jobs");
    shell.wait_for("Stopped");
    assert_eq!(home.mounts(), [home.workenv("app")], "a stopped job keeps its mount");
    shell.line("fg");
    shell.wait_for("again");
    shell.press(28);
    shell.wait_for("the-end");
    shell.line("echo code=$?");
    shell.wait_for("code=7");
    shell.line("exit");
    wait_for("the end of the shell", || shell.child.try_wait().unwrap().is_some());
    home.settle();
}

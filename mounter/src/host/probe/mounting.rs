//! Whether a volume can be mounted, by mounting one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use slotfs_fs::driver::{
    self, DriverError, MountOptions, OpenMode, Operation, OtherUsers, mount_helper, try_device,
    user_allow_other,
};
use slotfs_fs::volume::{PlacedLayer, Volume, VolumeOptions};

use super::backed::{self, Backed};
use super::disk::tempfile;
use super::{Finding, MOUNT, in_container};
use crate::host::{health, mount_table};

const DEVICE: &str = "/dev/fuse";
const CONTENT: &[u8] = b"read through the mount";

pub(super) fn findings(temporary: &Path) -> Vec<Finding> {
    let mut findings = vec![device(), helper()];
    let (mount, passthrough) = mount(temporary);
    findings.push(mount);
    findings.extend(passthrough);
    findings.push(others());
    findings.push(uring());
    findings.push(dead_mounts());
    findings
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Root of a user name space of its own is an ordinary user outside.
fn in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let outside = ["0", "0", "4294967295"];
    !map.is_empty() && !map.split_whitespace().eq(outside)
}

fn device() -> Finding {
    const MEANING: &str = "the kernel's side of every mount";
    let Err(error) = try_device() else { return Finding::ok("fuse-device", DEVICE, MEANING) };
    let finding = match error.raw_os_error() {
        Some(libc::EACCES) => {
            let mode = std::fs::metadata(DEVICE).map_or(0, |metadata| metadata.permissions().mode() & 0o777);
            Finding::missing("fuse-device", format!("{DEVICE}, mode {mode:04o}"), MEANING)
                .cause("only root may open it")
        }
        Some(libc::EPERM) => Finding::missing("fuse-device", "forbidden", MEANING)
            .cause("this container or control group may not use it"),
        _ => {
            Finding::missing("fuse-device", "absent", MEANING).cause(format!("it cannot be opened: {error}"))
        }
    };
    finding.fix(device_fix(&error))
}

fn device_fix(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES) => "chmod 0666 /dev/fuse   (as root)",
        _ if in_container() => "start the container with `--device /dev/fuse --cap-add SYS_ADMIN`",
        _ => "modprobe fuse   (as root)",
    }
}

fn helper() -> Finding {
    const MEANING: &str = "ordinary users mount and unmount through it";
    const INSTALL: &str = "apt-get install fuse3   (as root; on other systems the package `fuse3`)";
    let Some(path) = mount_helper() else {
        let finding = if is_root() {
            Finding::limited("mount-helper", "not installed", MEANING)
        } else {
            Finding::missing("mount-helper", "not installed", MEANING)
        };
        return finding.cause("`fusermount3` is not installed").fix(INSTALL);
    };
    let version = Command::new(&path)
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    let found = match version.rsplit(' ').next() {
        Some(number) if !number.is_empty() => format!("{} {number}", path.display()),
        _ => path.display().to_string(),
    };
    let set_user =
        std::fs::metadata(&path).is_ok_and(|metadata| metadata.mode() & 0o4000 != 0 && metadata.uid() == 0);
    if set_user {
        return Finding::ok("mount-helper", found, MEANING);
    }
    Finding::limited("mount-helper", found, MEANING)
        .cause("it does not run as root: its set-user-id bit is missing")
        .fix(format!("chmod u+s {}   (as root)", path.display()))
}

/// Mounts a volume of one file, reads it, unmounts; and looks whether the kernel read the file by itself.
fn mount(temporary: &Path) -> (Finding, Option<Finding>) {
    const MEANING: &str = "packages start from a mount, without being extracted";
    let failed = |cause: String| {
        Finding::missing(MOUNT, "failed", "packages are extracted instead of mounted").cause(cause)
    };
    match try_mount(temporary) {
        Ok(outcome) => {
            let mount = Finding::ok(MOUNT, "mounted, read and unmounted", MEANING);
            (mount, Some(passthrough(&outcome)))
        }
        Err(Trouble::Driver(error)) => (explained(failed(error.to_string()), &error), None),
        Err(Trouble::Host(error)) => (failed(error.to_string()), None),
    }
}

fn explained(finding: Finding, error: &DriverError) -> Finding {
    match error {
        DriverError::HelperMissing => finding.fix("apt-get install fuse3   (as root)"),
        DriverError::Device { source, .. } => finding.fix(device_fix(source)),
        DriverError::HelperRefused { message, .. } if message.contains("not permitted") && in_container() => {
            finding.fix("start the container with `--cap-add SYS_ADMIN`")
        }
        DriverError::Mount { .. } if in_container() => {
            finding.fix("start the container with `--cap-add SYS_ADMIN --security-opt apparmor=unconfined`")
        }
        DriverError::Helper { .. }
        | DriverError::HelperRefused { .. }
        | DriverError::Mount { .. }
        | DriverError::Mountpoint { .. }
        | DriverError::NotDirectory { .. }
        | DriverError::OthersRefused { .. }
        | DriverError::Handshake { .. }
        | DriverError::Thread { .. }
        | DriverError::Serving { .. }
        | DriverError::Unsupported => finding,
    }
}

/// What the trial showed.
struct Outcome {
    /// Kernel and driver agreed on passthrough.
    offered: bool,
    /// No read came to us.
    used: bool,
}

enum Trouble {
    Driver(DriverError),
    Host(io::Error),
}

fn try_mount(temporary: &Path) -> Result<Outcome, Trouble> {
    let folder = tempfile(temporary).map_err(Trouble::Host)?;
    let (volume, mountpoint) = prepare(folder.path()).map_err(Trouble::Host)?;
    let mut options = MountOptions::new("slotfs-doctor");
    options.read_only = true;
    options.others = OtherUsers::Never;
    options.open = OpenMode::Passthrough;
    options.threads = Some(1);
    let served = driver::serve(Arc::new(volume), &mountpoint, &options).map_err(Trouble::Driver)?;
    let read = read(&mountpoint.join(backed::NAME));
    let offered = served.features().passthrough;
    let used = served.statistics().requests(Operation::Read) == 0;
    let unmounted = served.unmount(false).or_else(|_| served.unmount(true));
    unmounted.map_err(|error| Trouble::Host(io::Error::other(error.to_string())))?;
    served.join().map_err(Trouble::Driver)?;
    read.map_err(Trouble::Host)?;
    Ok(Outcome { offered, used })
}

fn prepare(folder: &Path) -> io::Result<(Volume, std::path::PathBuf)> {
    let path = folder.join("backing");
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    file.write_all(CONTENT)?;
    let impossible = || io::Error::other("a volume of one file cannot be made");
    let layer = Backed::new(File::open(&path)?, CONTENT).ok_or_else(impossible)?;
    let placed = PlacedLayer {
        name: "doctor".to_owned(),
        layer: Arc::new(layer),
        target: Vec::new(),
        writable: false,
    };
    let volume = Volume::new(vec![placed], None, VolumeOptions::default())
        .map_err(|error| io::Error::other(error.to_string()))?;
    let mountpoint = folder.join("mount");
    std::fs::create_dir(&mountpoint)?;
    Ok((volume, mountpoint))
}

fn read(path: &Path) -> io::Result<()> {
    let mut content = Vec::new();
    File::open(path)?.read_to_end(&mut content)?;
    if content == CONTENT {
        Ok(())
    } else {
        Err(io::Error::other("the mount does not hold what was put there"))
    }
}

fn passthrough(outcome: &Outcome) -> Finding {
    const MEANING: &str = "the kernel reads and writes files on the disk by itself, at the disk's speed";
    let limited = |found| Finding::limited("passthrough", found, MEANING);
    match outcome {
        Outcome { used: true, .. } => Finding::ok("passthrough", "works", MEANING),
        Outcome { offered: false, .. } => limited("not in this kernel")
            .cause("it takes Linux 6.9 with FUSE passthrough")
            .fix("a newer kernel"),
        Outcome { .. } if !is_root() => limited("refused")
            .cause("the kernel lets only root hand files over")
            .fix("none for ordinary users; reads and writes go through slotfs"),
        Outcome { .. } if in_user_namespace() => {
            limited("refused").cause("the kernel lets only root outside of user name spaces hand files over")
        }
        Outcome { .. } => limited("refused").cause(
            "the disk of the temporary directory is stacked on another (overlayfs), or the kernel forbids it",
        ),
    }
}

fn others() -> Finding {
    const MEANING: &str = "other users, and programs that change their user, can use a mount";
    if is_root() {
        return Finding::ok("other-users", "always, for root's mounts", MEANING);
    }
    if user_allow_other() {
        return Finding::ok("other-users", "user_allow_other is set", MEANING);
    }
    Finding::limited("other-users", "only yourself", MEANING)
        .cause("`user_allow_other` is not set in `/etc/fuse.conf`")
        .fix("echo user_allow_other >> /etc/fuse.conf   (as root)")
}

fn uring() -> Finding {
    const MEANING: &str = "requests without a system call each; slotfs does not use it";
    let found = match std::fs::read_to_string("/sys/module/fuse/parameters/enable_uring") {
        Ok(text) if text.trim() == "Y" || text.trim() == "1" => "offered",
        Ok(_) => "switched off",
        Err(_) => "not in this kernel",
    };
    Finding::ok("fuse-io-uring", found, MEANING)
}

fn dead_mounts() -> Finding {
    const MEANING: &str = "mounts whose server was killed answer every access with an error";
    let table = mount_table::read().unwrap_or_default();
    let dead: Vec<String> = table
        .iter()
        .filter(|mount| mount.is_ours() && health::is_dead(&mount.mountpoint).unwrap_or(false))
        .map(|mount| mount.mountpoint.display().to_string())
        .collect();
    match dead.first() {
        None => Finding::ok("dead-mounts", "none", MEANING),
        Some(first) => Finding::limited("dead-mounts", dead.join(", "), MEANING)
            .cause("a serving process was killed")
            .fix(format!("slotfs unmount --lazy {first}")),
    }
}

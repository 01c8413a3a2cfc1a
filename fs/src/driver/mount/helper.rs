//! The set-user-id mount helper: it mounts for ordinary users and passes the device back over a socket.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::io::{FdFlags, IoSliceMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::{DriverError, UnmountError};

/// Where the helper lies where it is not in the search path (services often have a short one), and on NixOS.
const FOLDERS: &[&str] = &["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin", "/run/wrappers/bin"];
const NAMES: &[&str] = &["fusermount3", "fusermount"];

/// The helper finds the socket's number in this variable; the socket is its standard input.
const SOCKET: (&str, &str) = ("_FUSE_COMMFD", "0");

pub(super) fn find() -> Option<PathBuf> {
    NAMES
        .iter()
        .flat_map(|name| FOLDERS.iter().map(move |folder| Path::new(folder).join(name)))
        .find(|path| path.is_file())
}

/// Mounts with `-o arguments` and returns the open device.
pub(super) fn mount(mountpoint: &Path, arguments: &OsStr) -> Result<OwnedFd, DriverError> {
    let helper = find().ok_or(DriverError::HelperMissing)?;
    let failed = |source| DriverError::Helper { helper: helper.clone(), source };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut command = Command::new(&helper);
    command
        .arg("-o")
        .arg(arguments)
        .arg("--")
        .arg(mountpoint)
        .env(SOCKET.0, SOCKET.1)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let child = command.spawn().map_err(failed)?;
    // Our copy of the child's end goes with the command: else the end of the stream would never come.
    drop(command);
    let received = receive(&ours);
    let output = child.wait_with_output().map_err(failed)?;
    match received {
        Ok(Some(device)) if output.status.success() => {
            // The helper's own descriptor may not have had this set.
            rustix::io::fcntl_setfd(&device, FdFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
            Ok(device)
        }
        Ok(_) => {
            Err(DriverError::HelperRefused { helper, mountpoint: mountpoint.into(), message: said(&output) })
        }
        Err(source) => Err(failed(source)),
    }
}

/// Receives one descriptor, or nothing when the helper gave up.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0_u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    loop {
        let mut slices = [IoSliceMut::new(&mut byte)];
        match recvmsg(socket.as_fd(), &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ancillary.drain().find_map(|message| {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message { descriptors.next() } else { None }
    }))
}

pub(super) fn unmount(mountpoint: &Path, lazy: bool) -> Result<(), UnmountError> {
    let owned = mountpoint.to_path_buf();
    let Some(helper) = find() else {
        let message = "it takes root, or the program `fusermount3`, which is not installed".to_owned();
        return Err(UnmountError::Refused { mountpoint: owned, message });
    };
    let mut command = Command::new(&helper);
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    command.arg("--").arg(mountpoint).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(refusal(owned, said(&output))),
        Err(source) => Err(UnmountError::Kernel { mountpoint: owned, source }),
    }
}

/// The helper has one exit code for everything; it does not translate its messages.
fn refusal(mountpoint: PathBuf, message: String) -> UnmountError {
    if message.contains("busy") {
        UnmountError::Busy { mountpoint }
    } else if message.contains("not found in") || message.contains("Invalid argument") {
        UnmountError::NotMounted { mountpoint }
    } else {
        UnmountError::Refused { mountpoint, message }
    }
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    match text.trim() {
        "" => format!("it ended with {}", output.status),
        text => text.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    #[test]
    fn a_descriptor_comes_over_the_socket() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [writer.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(theirs.as_fd(), &[io::IoSlice::new(&[0])], &mut ancillary, SendFlags::empty()).unwrap();
        drop(writer);
        let received = receive(&ours).unwrap().unwrap();
        std::fs::File::from(received).write_all(b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn a_helper_that_gives_up_leaves_nothing() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(receive(&ours).unwrap().is_none());
    }

    #[test]
    fn what_the_helper_says_is_understood() {
        let of = |message: &str| refusal("/m".into(), message.into());
        let busy = "fusermount3: failed to unmount /m: Device or resource busy";
        assert!(matches!(of(busy), UnmountError::Busy { .. }));
        let missing = "fusermount3: entry for /m not found in /etc/mtab";
        assert!(matches!(of(missing), UnmountError::NotMounted { .. }));
        assert!(matches!(of("fusermount3: /m: Operation not permitted"), UnmountError::Refused { .. }));
    }
}

//! What a path names, in words for messages, and its permission bits.

use std::fs::Metadata;

/// Returns what `metadata` describes, with its article: `a directory`, `a character device`.
#[must_use]
pub fn describe(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_file() {
        "a regular file"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else {
        platform::describe_special(kind)
    }
}

/// Returns the permission bits (`0o0000 ..= 0o7777`); a host without them has 0644, or 0444 when read-only.
#[must_use]
pub fn permissions(metadata: &Metadata) -> u32 {
    platform::permissions(metadata)
}

/// Returns major and minor number of a device number as the host encodes it; zeros on a host without them.
#[must_use]
pub(crate) fn device_parts(device: u64) -> (u32, u32) {
    platform::device_parts(device)
}

/// Makes a device number as the host encodes it; 0 on a host without them.
#[must_use]
pub(crate) fn device_number(major: u32, minor: u32) -> u64 {
    platform::device_number(major, minor)
}

#[cfg(unix)]
mod platform {
    use std::fs::{FileType, Metadata};
    use std::os::unix::fs::{FileTypeExt, MetadataExt};

    pub(super) use crate::disk::unix::{device_number, device_parts};

    pub(super) fn describe_special(kind: FileType) -> &'static str {
        if kind.is_char_device() {
            "a character device"
        } else if kind.is_block_device() {
            "a block device"
        } else if kind.is_fifo() {
            "a named pipe"
        } else if kind.is_socket() {
            "a socket"
        } else {
            "neither a file nor a directory"
        }
    }

    pub(super) fn permissions(metadata: &Metadata) -> u32 {
        metadata.mode() & 0o7777
    }
}

#[cfg(windows)]
mod platform {
    use std::fs::{FileType, Metadata};

    pub(super) fn describe_special(_kind: FileType) -> &'static str {
        "neither a file nor a directory"
    }

    pub(super) fn permissions(metadata: &Metadata) -> u32 {
        if metadata.permissions().readonly() { 0o444 } else { 0o644 }
    }

    pub(super) fn device_parts(_device: u64) -> (u32, u32) {
        (0, 0)
    }

    pub(super) fn device_number(_major: u32, _minor: u32) -> u64 {
        0
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    #[cfg(unix)]
    #[test]
    fn devices_and_directories_are_called_what_they_are() {
        let describe = |path: &str| super::describe(&std::fs::metadata(path).unwrap());
        assert_eq!(describe("/dev/null"), "a character device");
        assert_eq!(describe("/"), "a directory");
    }
}

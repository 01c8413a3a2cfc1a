//! Asking the kernel for files before a program does: names and listings are looked up, contents are read into the page
//! cache without waiting for them.
//!
//! **Invariant:** nothing outside the directory is touched, whatever links lie in it; nothing is opened that is no file or
//! directory; no more than a share of the free memory is filled.

use std::io;
use std::path::Path;

/// Asks for things in one directory tree.
#[derive(Debug)]
pub struct Ahead {
    place: platform::Place,
    left: u64,
}

impl Ahead {
    /// Of the memory that is available, this part may be filled.
    const SHARE: u64 = 4;

    /// Opens the tree.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self { place: platform::Place::open(directory)?, left: platform::available() / Self::SHARE })
    }

    /// Tells whether nothing more is to be asked for: as much as may be was, or nobody answers any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    /// Asks for the attributes of `path`, or whether it is there at all.
    pub fn name(&mut self, path: &Path) {
        let asked = self.place.name(path);
        self.heed(asked);
    }

    /// Asks for the entries of the directory `path`, with their attributes.
    pub fn listing(&mut self, path: &Path) {
        let asked = self.place.listing(path);
        self.heed(asked);
    }

    /// Asks for ranges of the file `path`, as offset and end in bytes.
    pub fn content(&mut self, path: &Path, ranges: &[(u64, u64)]) {
        let asked = self.place.content(path, ranges, self.left);
        self.left = self.left.saturating_sub(*asked.as_ref().unwrap_or(&0));
        self.heed(asked.map(drop));
    }

    /// What is gone or refused is left out. When the mount itself is gone there is nothing more to do.
    fn heed(&mut self, asked: io::Result<()>) {
        if asked.is_err_and(|error| error.kind() == io::ErrorKind::NotConnected) {
            self.left = 0;
        }
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::Path;

    use rustix::fs::{AtFlags, Mode, OFlags, RawDir, ResolveFlags, StatxFlags};
    use rustix::mount::OpenTreeFlags;

    #[derive(Debug)]
    pub(super) struct Place(OwnedFd);

    impl Place {
        pub(super) fn open(directory: &Path) -> io::Result<Self> {
            // A mount of our own, which nobody sees and which keeps the one at `directory` from nothing. It takes
            // privileges (`open_tree(2)`, since Linux 5.2).
            let apart = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            if let Ok(tree) = rustix::mount::open_tree(rustix::fs::CWD, directory, apart) {
                return Ok(Self(tree));
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(Self(rustix::fs::open(directory, flags, Mode::empty())?))
        }

        /// `openat2(2)` with everything refused that leads elsewhere.
        fn inside(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            let flags = flags | OFlags::CLOEXEC;
            Ok(rustix::fs::openat2(self.0.as_fd(), path, flags, Mode::empty(), resolve)?)
        }

        pub(super) fn name(&self, path: &Path) -> io::Result<()> {
            self.inside(path, OFlags::PATH).map(drop)
        }

        pub(super) fn listing(&self, path: &Path) -> io::Result<()> {
            let directory = self.inside(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let mut buffer = Vec::with_capacity(32 << 10);
            let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
            while let Some(entry) = entries.next() {
                entry?;
            }
            Ok(())
        }

        /// Returns how many bytes were asked for.
        pub(super) fn content(&self, path: &Path, ranges: &[(u64, u64)], most: u64) -> io::Result<u64> {
            // To open what is neither file nor directory may do something.
            let known = self.inside(path, OFlags::PATH)?;
            let status =
                rustix::fs::statx(&known, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE | StatxFlags::SIZE)?;
            if rustix::fs::FileType::from_raw_mode(status.stx_mode.into())
                != rustix::fs::FileType::RegularFile
            {
                return Ok(0);
            }
            let file = File::from(self.inside(path, OFlags::RDONLY | OFlags::NOATIME).or_else(|_| {
                // Only owners may leave the time of access alone.
                self.inside(path, OFlags::RDONLY)
            })?);
            let mut asked = 0;
            for &(offset, end) in ranges {
                let length = end.min(status.stx_size).saturating_sub(offset).min(most - asked);
                if let Some(length) = std::num::NonZeroU64::new(length) {
                    rustix::fs::fadvise(&file, offset, Some(length), rustix::fs::Advice::WillNeed)?;
                    asked += length.get();
                }
            }
            Ok(asked)
        }
    }

    /// Returns how many bytes of memory programs could still get (`MemAvailable`, proc_meminfo(5)); where that is not told, a
    /// little.
    pub(super) fn available() -> u64 {
        const LITTLE: u64 = 256 << 20;
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let number =
            line.and_then(|rest| rest.trim().strip_suffix(" kB")).and_then(|number| number.parse().ok());
        number.map_or(LITTLE, |number: u64| number.saturating_mul(1024))
    }
}

/// Where files cannot be asked for safely, nothing is.
#[cfg(not(target_os = "linux"))]
mod platform {
    use std::io;
    use std::path::Path;

    #[derive(Debug)]
    pub(super) struct Place;

    impl Place {
        pub(super) fn open(_directory: &Path) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn name(&self, _path: &Path) -> io::Result<()> {
            Ok(())
        }

        pub(super) fn listing(&self, _path: &Path) -> io::Result<()> {
            Ok(())
        }

        pub(super) fn content(&self, _path: &Path, _ranges: &[(u64, u64)], _most: u64) -> io::Result<u64> {
            Ok(0)
        }
    }

    pub(super) fn available() -> u64 {
        0
    }
}

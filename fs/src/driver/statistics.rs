//! How many requests of each kind the kernel has sent: what `inspect` shows, and what tests use to prove that a
//! warm path sends none.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! operations {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// A kind of request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "each is named after the request")]
        pub enum Operation { $($variant),* }

        impl Operation {
            /// Every kind of request.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the name of the request.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

operations! {
    Lookup "lookup", Forget "forget", GetAttributes "getattr", SetAttributes "setattr", ReadLink "readlink",
    MakeNode "mknod", MakeDirectory "mkdir", MakeSymlink "symlink", Link "link", Unlink "unlink",
    RemoveDirectory "rmdir", Rename "rename", Create "create", Open "open", Read "read", Write "write",
    Flush "flush", Release "release", Sync "fsync", OpenDirectory "opendir", ReadDirectory "readdir",
    ReadDirectoryPlus "readdirplus", ReleaseDirectory "releasedir", SyncDirectory "fsyncdir", Space "statfs",
    GetXattr "getxattr", ListXattr "listxattr", SetXattr "setxattr", RemoveXattr "removexattr",
    Allocate "fallocate", Seek "lseek", CopyRange "copy_file_range", Other "other",
}

impl Operation {
    /// Tells whether such a request changes something; of an open that depends on how.
    #[must_use]
    pub const fn changes(self) -> bool {
        matches!(
            self,
            Self::SetAttributes
                | Self::MakeNode
                | Self::MakeDirectory
                | Self::MakeSymlink
                | Self::Link
                | Self::Unlink
                | Self::RemoveDirectory
                | Self::Rename
                | Self::Create
                | Self::Write
                | Self::SetXattr
                | Self::RemoveXattr
                | Self::Allocate
                | Self::CopyRange
        )
    }
}

/// Counts of requests; cheap enough to be always on.
#[derive(Debug)]
pub struct Statistics {
    requests: [AtomicU64; Operation::ALL.len()],
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    panics: AtomicU64,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; Operation::ALL.len()],
            bytes_read: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        }
    }
}

impl Statistics {
    /// Returns how many requests of one kind came.
    #[must_use]
    pub fn requests(&self, operation: Operation) -> u64 {
        self.requests.get(operation as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Returns how many requests came that somebody waited for: all but `forget`, which the kernel sends when
    /// it likes.
    #[must_use]
    pub fn awaited(&self) -> u64 {
        Operation::ALL
            .iter()
            .filter(|&&kind| kind != Operation::Forget)
            .map(|&kind| self.requests(kind))
            .sum()
    }

    /// Returns every kind that occurred, with its count.
    #[must_use]
    pub fn by_operation(&self) -> Vec<(Operation, u64)> {
        Operation::ALL
            .iter()
            .map(|&kind| (kind, self.requests(kind)))
            .filter(|&(_, count)| count > 0)
            .collect()
    }

    /// Returns how many bytes of content went to the kernel.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Returns how many bytes of content came from the kernel.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written.load(Ordering::Relaxed)
    }

    /// Returns how many requests ended in a panic, and were answered with EIO.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, operation: Operation) {
        self.count_many(operation, 1);
    }

    pub(super) fn count_many(&self, operation: Operation, times: u64) {
        if let Some(count) = self.requests.get(operation as usize) {
            count.fetch_add(times, Ordering::Relaxed);
        }
    }

    pub(super) fn count_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_written(&self, bytes: usize) {
        self.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_panic(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_are_counted_but_not_awaited() {
        let statistics = Statistics::default();
        statistics.count(Operation::Lookup);
        statistics.count_many(Operation::Forget, 3);
        assert_eq!(statistics.awaited(), 1);
        assert_eq!(statistics.by_operation(), [(Operation::Lookup, 1), (Operation::Forget, 3)]);
    }
}

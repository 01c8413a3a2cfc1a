//! Work environments on disk: FlavorPack's own layout, with slotfs's part inside it. Never touches what a
//! package's program wrote.
//!
//! # Layout
//!
//! ```text
//! {cache}/{name}/                          content: the mountpoint, or the extracted files
//! {cache}/.{name}.pspf/                    metadata
//!     instance/extract/complete            marker: the environment was prepared to the end
//!     instance/extract/lock                held by a launcher that unpacks, or by slotfs while it prepares
//!     instance/package.checksum            8 hexadecimal digits; only there while {name}/ has its content
//!     instance/index.json                  the package's index block
//!     package/psp.json                     the package's metadata
//!     slotfs/                              ours
//!         workenv.json                     which package owns the environment
//!         prepared                         the identity of the package that setup was done for
//!         upper/  work/                    what was written; scratch space of the overlay
//!         earlier/{id}-{n}/upper/          what was written under an earlier build of the package
//!         snapshots/{name}/                what was written, as it was
//!         session.json  server.log
//!         start.lock  serving.lock  leases.lock
//! {cache}/.slotfs/                         shared by all environments
//! ```

mod claim;
mod error;
mod facts;
mod instance;
mod listing;
mod lock;
mod name;
mod record;
mod replace;

use std::io::Write;
use std::path::{Path, PathBuf};

use slotfs_fs::disk::Context;

pub use claim::{Claim, Claimed, NameRule};
pub use error::WorkenvError;
pub use facts::{IndexFacts, PackageFacts, PackageId, PackageKind};
pub use instance::InstanceState;
pub use listing::{Listed, MadeBy};
pub use lock::InstanceLock;
pub use name::WorkenvName;
pub use record::{NameAndVersion, Record};
pub use replace::Replaced;

use crate::host::files;

/// The directory that holds work environments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Names the directory; nothing is created yet.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Returns the directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the folder that all environments share: `.slotfs`.
    #[must_use]
    pub fn shared(&self) -> PathBuf {
        self.directory.join(".slotfs")
    }

    /// Returns the environment of that name, whether it exists or not.
    #[must_use]
    pub fn workenv(&self, name: WorkenvName) -> Workenv {
        Workenv { cache: self.directory.clone(), name }
    }

    /// Creates the cache and its shared folder, readable by the user alone, with the tag that keeps backup
    /// programs out (<https://bford.info/cachedir/>).
    ///
    /// # Errors
    /// The disk's, with the path.
    pub fn create(&self) -> Result<(), WorkenvError> {
        let shared = self.shared();
        files::create_private_directories(&shared).context("create the directory", &shared)?;
        let tag = shared.join("CACHEDIR.TAG");
        match std::fs::OpenOptions::new().write(true).create_new(true).open(&tag) {
            Ok(mut file) => {
                let text = "Signature: 8a477f597d28d172789f06886806bc55\n\
                            # Made by slotfs. Everything in this folder can be made again from the packages.\n";
                file.write_all(text.as_bytes()).context("write", &tag)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(slotfs_fs::disk::DiskError::new("create", &tag, error).into()),
        }
        Ok(())
    }
}

/// One work environment: a name in a cache, and every path that follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workenv {
    cache: PathBuf,
    name: WorkenvName,
}

impl Workenv {
    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &WorkenvName {
        &self.name
    }

    /// Returns the directory that holds this and other environments.
    #[must_use]
    pub fn cache(&self) -> Cache {
        Cache::new(&self.cache)
    }

    /// Returns where the package's files are seen: the mountpoint, or the extracted tree.
    #[must_use]
    pub fn content(&self) -> PathBuf {
        self.cache.join(self.name.as_os_str())
    }

    /// Returns the metadata directory.
    #[must_use]
    pub fn metadata(&self) -> PathBuf {
        self.cache.join(self.name.metadata_name())
    }

    /// Returns the completion marker.
    #[must_use]
    pub fn complete_marker(&self) -> PathBuf {
        self.metadata().join("instance").join("extract").join("complete")
    }

    /// Returns the lock that the launchers hold while they unpack.
    #[must_use]
    pub fn extract_lock(&self) -> PathBuf {
        self.metadata().join("instance").join("extract").join("lock")
    }

    /// Returns the file that tells the launchers which package the content is of.
    #[must_use]
    pub fn checksum_file(&self) -> PathBuf {
        self.metadata().join("instance").join("package.checksum")
    }

    /// Returns the copy of the package's index block.
    #[must_use]
    pub fn index_json(&self) -> PathBuf {
        self.metadata().join("instance").join("index.json")
    }

    /// Returns the copy of the package's metadata.
    #[must_use]
    pub fn package_json(&self) -> PathBuf {
        self.metadata().join("package").join("psp.json")
    }

    /// Returns slotfs's own directory.
    #[must_use]
    pub fn own_directory(&self) -> PathBuf {
        self.metadata().join("slotfs")
    }

    /// Returns the note of the owner.
    #[must_use]
    pub fn record(&self) -> PathBuf {
        self.own_directory().join("workenv.json")
    }

    /// Returns the note of the package that setup was done for.
    #[must_use]
    pub fn prepared_note(&self) -> PathBuf {
        self.own_directory().join("prepared")
    }

    /// Returns the directory that takes what is written.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.own_directory().join("upper")
    }

    /// Returns the overlay's scratch directory, on the same disk as [`Self::upper`].
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.own_directory().join("work")
    }

    /// Returns the directory of what was written under earlier builds of the package.
    #[must_use]
    pub fn earlier(&self) -> PathBuf {
        self.own_directory().join("earlier")
    }

    /// Returns the directory of snapshots of what was written.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.own_directory().join("snapshots")
    }

    /// Returns where a snapshot lies that is about to take the place of what was written.
    #[must_use]
    pub fn restoring(&self) -> PathBuf {
        self.own_directory().join("restoring")
    }

    /// Returns the running session's description.
    #[must_use]
    pub fn session_record(&self) -> PathBuf {
        self.own_directory().join("session.json")
    }

    /// Returns the lock held while somebody starts or replaces the environment.
    #[must_use]
    pub fn start_lock(&self) -> PathBuf {
        self.own_directory().join("start.lock")
    }

    /// Returns the lock held by the serving process.
    #[must_use]
    pub fn serving_lock(&self) -> PathBuf {
        self.own_directory().join("serving.lock")
    }

    /// Returns the lock that everybody who uses the mount shares.
    #[must_use]
    pub fn leases_lock(&self) -> PathBuf {
        self.own_directory().join("leases.lock")
    }

    /// Returns the serving process's log.
    #[must_use]
    pub fn server_log(&self) -> PathBuf {
        self.own_directory().join("server.log")
    }

    /// Creates the content and metadata directories, readable by the user alone. An existing content
    /// directory is left as it is, so that nothing is asked of a mount that may be dead.
    ///
    /// # Errors
    /// The disk's, with the path.
    pub fn create(&self) -> Result<(), WorkenvError> {
        self.cache().create()?;
        let metadata = self.metadata();
        for directory in ["instance/extract", "package", "slotfs/upper", "slotfs/work"] {
            let directory = metadata.join(directory);
            files::create_private_directories(&directory).context("create the directory", &directory)?;
        }
        let content = self.content();
        if std::fs::symlink_metadata(&content)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        {
            files::create_private_directories(&content).context("create the directory", &content)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
pub(crate) mod tests;

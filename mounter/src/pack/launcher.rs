//! The executable in front of a package.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use slotfs_fs::disk::range::FileRange;
use slotfs_fs::disk::{Context as _, DiskError};
use slotfs_fs::package::{Limits, Package, PackageKind};

use super::error::PackError;

/// Starts a package that carries no program for that, where slotfs is installed. A shell reads no further.
const SCRIPT: &[u8] = b"#!/bin/sh\nexec slotfs run \"$0\" -- \"$@\"\n";

/// The executable in front of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// A script that calls slotfs.
    Script,
    /// slotfs itself.
    Own,
    /// A file, or the launcher of the package in it.
    File(PathBuf),
}

impl Launcher {
    /// Reads the name of a launcher: `slotfs`, or a path. A file of that name is `./slotfs`.
    #[must_use]
    pub fn named(name: &Path) -> Self {
        if name == Path::new("slotfs") { Self::Own } else { Self::File(name.to_path_buf()) }
    }

    /// Opens its bytes.
    pub(super) fn open(&self) -> Result<Box<dyn Read>, PackError> {
        match self {
            Self::Script => Ok(Box::new(SCRIPT)),
            Self::Own => {
                let own = std::env::current_exe().context("find", "slotfs itself")?;
                open_file(&own)
            }
            Self::File(path) => open_file(path),
        }
    }
}

fn open_file(path: &Path) -> Result<Box<dyn Read>, PackError> {
    let file = File::open(path).context("open", path)?;
    let metadata = file.metadata().context("examine", path)?;
    if !metadata.is_file() || metadata.len() == 0 {
        let reason = format!("`{}` is no launcher: it is not a file with content", path.display());
        return Err(PackError::request(reason));
    }
    let copy = file.try_clone().context("open", path)?;
    let size = match Package::read(copy, path, &Limits::default()) {
        Ok(package) if package.kind() == PackageKind::Pspf => {
            package.index().map(|index| index.launcher_size.get())
        }
        _ => None,
    };
    let too_large = || DiskError::new("read", path, io::ErrorKind::FileTooLarge);
    let range = FileRange::new(Arc::new(file), 0, size.unwrap_or(metadata.len())).ok_or_else(too_large)?;
    Ok(Box::new(range.reader(0)))
}

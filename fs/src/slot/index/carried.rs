//! The index that a package carries: compared with the signed digest, looked over, and copied to where indexes are.
//!
//! **Invariant:** nothing of it is used before it has the digest that the metadata state and was found to be a tree: who
//! signs packages is not trusted to know how to make indexes. What one package says about a slot is shown to no other.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::format::Section;
use super::write::create_locked;
use super::{Identity, Index, IndexError};
use crate::disk::digest::Digest;
use crate::disk::{Context, DiskError};
use crate::node::Kind;
use crate::package::CarriedIndex;
use crate::slot::tree::record::{EntryRecord, NodeRecord, kind_of};
use crate::slot::tree::tables::{self, Table};

/// How much is copied at a time, in bytes.
const PIECE: usize = 1 << 20;
/// A name that no directory takes is longer (`NAME_MAX`).
const LONGEST_NAME: usize = 255;

impl Index {
    /// Opens the index that a package carries, from the copy below `shared`, which is made when it is missing. Where no
    /// file can be made, it is kept in memory.
    ///
    /// # Errors
    /// It is not the one that the metadata state, not of this slot, or no tree.
    pub fn open_carried(
        shared: &Path,
        identity: &Identity,
        carried: &CarriedIndex,
    ) -> Result<Self, IndexError> {
        let path = identity.carried_path(shared, carried);
        match Self::open(&path, identity) {
            Ok(Some(index)) => return Ok(index),
            Ok(None) => {}
            Err(error) => tracing::warn!("`{}` is copied anew: {error}", path.display()),
        }
        match import(&path, identity, carried) {
            Err(IndexError::Disk(error)) => {
                tracing::warn!("the slot index is kept in memory only: {error}");
                let mut bytes = Vec::new();
                copy(carried, &mut bytes).context("read the index in", "the package")??;
                let index = Self::in_memory(Arc::new(bytes), identity)?;
                index.check_tree()?;
                Ok(index)
            }
            other => other,
        }
    }

    /// Checks that directories and names make a tree: every block is right, every directory has one place, every name
    /// is one that a file system takes, and names are in order.
    fn check_tree(&self) -> Result<(), IndexError> {
        self.check()?;
        let nodes = self.rows::<NodeRecord>(Section::Table(Table::Nodes));
        let mut left = self.rows::<EntryRecord>(Section::Entries);
        let mut placed = HashSet::from([0]);
        for node in 0..self.count() {
            let record = tables::record(self, node)?;
            let kind = tables::kind(&record, node)?;
            if kind != Kind::Directory {
                continue;
            }
            let damaged = || IndexError::Damaged { what: "directory", at: u64::from(node) };
            let (first, count) = record.rows();
            // Directories that share entries would have more than there are.
            left = left.checked_sub(u64::from(count)).ok_or_else(damaged)?;
            let mut before: Option<&[u8]> = None;
            for number in u64::from(first)..u64::from(first) + u64::from(count) {
                let entry = self.entry(number)?;
                let name = self.name(&entry)?;
                let child = entry.node.get();
                let in_order = before.is_none_or(|before| before < name);
                let fits = entry.prefix == EntryRecord::prefix_of(name) && u64::from(child) < nodes;
                if !in_order || !fits || !is_name(name) {
                    return Err(damaged());
                }
                let child_kind = tables::kind(&tables::record(self, child)?, child)?;
                let is_again = child_kind == Kind::Directory && !placed.insert(child);
                if kind_of(entry.kind) != Some(child_kind) || is_again {
                    return Err(damaged());
                }
                before = Some(name);
            }
        }
        Ok(())
    }
}

fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= LONGEST_NAME
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// Copies the index to `path`. It is not synced: a copy that a crash has damaged is found out when it is opened or read.
fn import(path: &Path, identity: &Identity, carried: &CarriedIndex) -> Result<Index, IndexError> {
    let (mut file, temporary) = create_locked(path)?;
    let imported = (|| {
        copy(carried, &mut file).context("copy the package's index to", &temporary)??;
        let index = Index::open_file(&file, identity)?;
        index.check_tree()?;
        publish(&file, &temporary, path)?;
        Ok(index)
    })();
    if imported.is_err() {
        // The first error is the one that counts.
        let _ = fs::remove_file(&temporary);
    }
    imported
}

fn publish(file: &File, temporary: &Path, path: &Path) -> Result<(), DiskError> {
    let mut permissions = file.metadata().context("stat", temporary)?.permissions();
    permissions.set_readonly(true);
    file.set_permissions(permissions).context("set the permissions of", temporary)?;
    fs::rename(temporary, path).context("rename into place", path)
}

/// Copies the bytes and compares their digest with the signed one.
fn copy(carried: &CarriedIndex, out: &mut dyn Write) -> io::Result<Result<(), IndexError>> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE.min(usize::try_from(carried.stored.len()).unwrap_or(PIECE))];
    let mut at = 0;
    while at < carried.stored.len() {
        let count = usize::try_from(carried.stored.len() - at).unwrap_or(PIECE).min(piece.len());
        carried.stored.read_exact_at(at, &mut piece[..count])?;
        hasher.update(&piece[..count]);
        out.write_all(&piece[..count])?;
        at += count as u64;
    }
    let found = Digest(hasher.finalize().into());
    Ok(if found == carried.digest { Ok(()) } else { Err(IndexError::Damaged { what: "digest", at: 0 }) })
}

//! The slots of a finished package in the best form: each read at random, what launches touch first and together.
//!
//! **Invariant:** what a slot shows stays the same, but for what is told; a slot that nothing can be gained from stays the
//! same bytes.

use std::sync::Arc;

use slotfs_fs::layer::slot::SlotOptions;
use slotfs_fs::package::operations::Chain;
use slotfs_fs::package::verify::Verification;
use slotfs_fs::package::{Container, Package, Slot};
use slotfs_policy::lifecycle::Lifecycle;

use super::error::PackError;
use super::rebuild::{Matter, Part, whole_tree};
use super::request::Profile;
use super::source::Archives;
use crate::extract::layers::OpenSlot;

/// Returns what becomes of each slot of `package`, whose slots were found to be as `verification` says. `first` are files
/// that come first, as paths from the root of the work environment.
///
/// # Errors
/// A slot cannot be opened.
pub fn slots(
    package: &Package,
    verification: &Verification,
    profile: Profile,
    archives: &Archives,
    first: &Arc<[Vec<u8>]>,
) -> Result<Vec<Part>, PackError> {
    let shown =
        SlotOptions { limits: archives.limits, set_id: true, devices: true, ..SlotOptions::default() };
    let part = |slot: &Slot| -> Result<Part, PackError> {
        let is_attestation = Some(slot.lifecycle_code) == Lifecycle::Attestation.code();
        if is_attestation || slot.self_reference {
            return Ok(Part::Kept);
        }
        // What is not compressed can be read at random as it is, and its builder wanted it so.
        let compression = slot.source.compressions.first().map(|_| profile.compression());
        let is_tree = slot.source.container == Container::Tar;
        let chain = Chain::new(is_tree, compression);
        if is_tree {
            let layer = OpenSlot::open(slot, verification, &archives.home, &shown)?.placed(slot, false).layer;
            let mut options = whole_tree(&chain, profile == Profile::Fast, None, archives.limits.entries);
            options.order.first = Arc::clone(first);
            return Ok(Part::Rewritten(Matter { chain, tree: Some((layer, options)) }));
        }
        Ok(match compression {
            Some(_) => Part::Rewritten(Matter { chain, tree: None }),
            None => Part::Kept,
        })
    };
    package.slots().iter().map(part).collect()
}

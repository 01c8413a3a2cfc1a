//! Taking back what was written over some layers: the changes whose path belongs to them go, all others stay.
//!
//! **Invariant:** every step removes one complete thing, so that an interrupted run is finished by the next one.
//! No volume lies over the upper meanwhile.

use std::sync::Arc;

use super::Upper;
use super::format::{self, Found, UpperEntry};
use super::owner::OwnerWalk;
use crate::disk::unix::{Directory, Erasure, SetTimes, Spot};
use crate::layer::LayerError;
use crate::layer::stack::{Lower, Stack};
use crate::node::Kind;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Names, marks of removed names included.
    pub names: u64,
    /// Space that was freed where no other name keeps it, in bytes.
    pub bytes: u64,
}

/// A directory whose entries are being looked at.
struct Level {
    directory: Arc<Directory>,
    name: Vec<u8>,
    walk: OwnerWalk,
    left: Vec<Vec<u8>>,
}

/// Removes everything whose path belongs to a layer (by position) for which `dropped` holds; `None` asks about
/// what belongs to no slot. `erasure` says what happens to the content of files whose last name goes.
///
/// # Errors
/// A layer or the host could not answer; what was removed until then stays removed.
pub fn drop_owned(
    upper: &Upper,
    stack: &Stack,
    dropped: &dyn Fn(Option<u32>) -> bool,
    erasure: Erasure,
) -> Result<Dropped, LayerError> {
    upper.bind(&stack.fingerprint())?;
    upper.forget_number();
    let mut total = Dropped::default();
    let root = Arc::clone(upper.root());
    let mut levels = vec![level(root, Vec::new(), OwnerWalk::root(stack)?)?];
    while let Some(at) = levels.last_mut() {
        let Some(name) = at.left.pop() else {
            if let Some(done) = levels.pop()
                && let Some(above) = levels.last()
                && dropped(done.walk.owner)
            {
                leave((upper, stack), &above.directory, &done, &mut total)?;
            }
            continue;
        };
        let walk = at.walk.child(stack, &name)?;
        match upper.examine(&at.directory, &name, true)? {
            Found::Nothing => {}
            Found::Entry(entry) if entry.attributes.kind == Kind::Directory => {
                forget_number(&at.directory, &name, &entry, &walk, dropped)?;
                let below = Arc::new(at.directory.child(&name)?);
                levels.push(level(below, name, walk)?);
            }
            Found::Entry(entry) if !dropped(walk.owner) => {
                forget_number(&at.directory, &name, &entry, &walk, dropped)?;
            }
            Found::Entry(entry) => {
                Spot::named(&at.directory, &name).erase(erasure)?;
                at.directory.unlink(&name)?;
                total.names += 1;
                total.bytes += entry.attributes.blocks * 512;
            }
            Found::Whiteout if dropped(walk.owner) => {
                at.directory.unlink(&name)?;
                total.names += 1;
            }
            Found::Whiteout => {}
        }
    }
    for number in upper.indexed_numbers() {
        if dropped(layer_of(number)) {
            upper.indexed_spot(number).erase(erasure)?;
            upper.forget_indexed(number)?;
        }
    }
    Ok(total)
}

fn level(directory: Arc<Directory>, name: Vec<u8>, walk: OwnerWalk) -> Result<Level, LayerError> {
    let left = directory.list()?.into_iter().map(|entry| entry.name).collect();
    Ok(Level { directory, name, walk, left })
}

/// Removes a directory whose owner is dropped; if others have something in it, it becomes as the layers have it.
fn leave(
    (upper, stack): (&Upper, &Stack),
    above: &Arc<Directory>,
    done: &Level,
    total: &mut Dropped,
) -> Result<(), LayerError> {
    match above.remove_directory(&done.name) {
        Ok(()) => {
            total.names += 1;
            return Ok(());
        }
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
        Err(error) => return Err(error.into()),
    }
    let spot = Spot::named(above, &done.name);
    for name in spot.xattr_names()? {
        if name != format::IMPURE && name != format::INODE && name.starts_with(b"user.") {
            spot.remove_xattr(&name)?;
        }
    }
    if let Some(lower) = done.walk.lower.as_ref().filter(|lower| lower.kind == Kind::Directory) {
        let attributes = stack.attributes(lower)?;
        upper.give_owner(&spot, &attributes)?;
        upper.give_mode(&spot, &attributes)?;
        spot.set_times(SetTimes::of(&attributes))?;
    }
    Ok(())
}

/// What stays gives up the inode number of a node that shows again in its layer.
fn forget_number(
    directory: &Arc<Directory>,
    name: &[u8],
    entry: &UpperEntry,
    walk: &OwnerWalk,
    dropped: &dyn Fn(Option<u32>) -> bool,
) -> Result<(), LayerError> {
    let own = walk.lower.as_ref().map(Lower::inode);
    let foreign = entry.number.is_some_and(|number| own != Some(number) && dropped(layer_of(number)));
    if foreign && matches!(entry.attributes.kind, Kind::File | Kind::Directory) {
        let spot = Spot::named(directory, name);
        if spot.xattr(format::INODE)?.is_some() {
            spot.remove_xattr(format::INODE)?;
        }
    }
    Ok(())
}

/// Returns the position of the layer that a number is from.
fn layer_of(number: u64) -> Option<u32> {
    u32::try_from(number >> 32).ok()?.checked_sub(1)
}

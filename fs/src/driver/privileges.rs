//! What we promise the kernel with `FUSE_HANDLE_KILLPRIV_V2`: set-id bits go when a file is written to,
//! truncated or given away.
//!
//! Without the promise the kernel would ask for `security.capability` before every single write. fuser passes
//! on the kernel's own sign for writes only; for truncation the caller's user stands in for `CAP_FSETID`.

use crate::node::Kind;
use crate::volume::{SetAttributes, Status};

const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;

/// Returns the mode that is left when privileges are taken from a file, or `None` when it has none.
/// Set-group-id without group execution is mandatory locking, not a privilege, and stays (`chmod(2)`).
pub(super) fn without_privileges(status: &Status) -> Option<u32> {
    let attributes = &status.attributes;
    if attributes.kind != Kind::File {
        return None;
    }
    let mut lost = attributes.mode & SET_USER;
    if attributes.mode & GROUP_EXECUTE != 0 {
        lost |= attributes.mode & SET_GROUP;
    }
    (lost != 0).then_some(attributes.mode & !lost)
}

/// Tells whether `changes`, asked for by `user`, take privileges away: always when the owner changes, and when
/// an ordinary user changes the length; never when the caller sets the mode in the same breath.
pub(super) fn taken_by(changes: &SetAttributes, user: u32) -> bool {
    let given_away = changes.user.is_some() || changes.group.is_some();
    let truncated = changes.size.is_some() && user != 0;
    changes.mode.is_none() && (given_away || truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Attributes;

    fn status(kind: Kind, mode: u32) -> Status {
        let attributes = Attributes::bare(kind, mode);
        Status { inode: 2, attributes, lasting: true }
    }

    #[test]
    fn privileges_of_files_go_and_nothing_else() {
        let table = [
            (Kind::File, 0o4755, Some(0o0755)),
            (Kind::File, 0o6755, Some(0o0755)),
            (Kind::File, 0o2755, Some(0o0755)),
            (Kind::File, 0o2745, None),
            (Kind::File, 0o6745, Some(0o2745)),
            (Kind::File, 0o1755, None),
            (Kind::Directory, 0o2755, None),
        ];
        for (kind, mode, expected) in table {
            assert_eq!(without_privileges(&status(kind, mode)), expected, "{kind:?} {mode:o}");
        }
    }

    #[test]
    fn an_owner_change_takes_them_and_truncation_only_for_ordinary_users() {
        let chown = SetAttributes { user: Some(1), ..Default::default() };
        let truncate = SetAttributes { size: Some(0), ..Default::default() };
        let chmod = SetAttributes { mode: Some(0o4755), user: Some(1), ..Default::default() };
        assert!(taken_by(&chown, 0));
        assert!(taken_by(&truncate, 1000));
        assert!(!taken_by(&truncate, 0));
        assert!(!taken_by(&chmod, 1000));
        assert!(!taken_by(&SetAttributes::default(), 1000));
    }
}

//! What a slot does not show as its archive has it, in a few lines.

use slotfs_fs::slot::{Notice, NoticeKind};

/// Returns one line for each kind of notice: an example, and how many more there are. An entry that a later one of
/// the same name replaced is nothing to tell a person of.
#[must_use]
pub fn lines(slot: &str, notices: &[Notice]) -> Vec<String> {
    let told = NoticeKind::ALL.into_iter().filter(|kind| *kind != NoticeKind::Replaced);
    told.filter_map(|kind| {
        let mut found = notices.iter().filter(|notice| notice.what == kind);
        let path = String::from_utf8_lossy(&found.next()?.path).into_owned();
        let more = match found.count() {
            0 => String::new(),
            1 => " (and one more)".to_owned(),
            count => format!(" (and {count} more)"),
        };
        Some(format!("slot {slot}: `{path}` {}{more}", kind.text()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_of_a_kind_are_told_together() {
        let notice = |path: &str, what| Notice { path: path.into(), what };
        let notices = [
            notice("bin/su", NoticeKind::SetId),
            notice("a", NoticeKind::Replaced),
            notice("bin/mount", NoticeKind::SetId),
            notice("../x", NoticeKind::ParentInPath),
            notice("bin/ping", NoticeKind::SetId),
        ];
        assert_eq!(
            lines("app", &notices),
            [
                "slot app: `../x` has `..` in its path: refused",
                "slot app: `bin/su` has set-user-ID or set-group-ID bits (and 2 more)"
            ]
        );
        assert!(lines("app", &[]).is_empty());
    }
}

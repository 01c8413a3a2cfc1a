//! Where a slot goes: the target text of the metadata to checked path components.
//!
//! **Invariant:** no component that leaves this module is empty, `.`, `..`, longer than 255 bytes or contains `/`
//! or NUL. A target can therefore never name anything outside the work environment.

/// Longest name a file may have, in bytes (`NAME_MAX`).
const LONGEST_NAME: usize = 255;

/// Text that stands for the work environment's own path.
const WORKENV: &str = "{workenv}";

/// A target that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Starts with `/`.
    #[error("an absolute path cannot lie in the work environment")]
    Absolute,
    /// More `..` than there are directories before it.
    #[error("it leaves the work environment")]
    Escapes,
    /// Holds a NUL byte.
    #[error("a name cannot hold a NUL byte")]
    Nul,
    /// A component longer than file systems take.
    #[error("a name is longer than {LONGEST_NAME} bytes")]
    TooLong,
}

/// Returns the components of `target` below the work environment; none for its root.
///
/// `{workenv}` is removed wherever it is, as the package launchers do; `.` and repeated or trailing slashes mean
/// nothing; `a/..` is taken out by name, without following any link.
///
/// # Errors
/// Says why the target cannot be used.
pub fn components(target: &str) -> Result<Vec<Vec<u8>>, TargetError> {
    let path = target.replace(WORKENV, "");
    let path = if target.starts_with(WORKENV) { path.trim_start_matches('/') } else { &path };
    if path.starts_with('/') {
        return Err(TargetError::Absolute);
    }
    let mut components: Vec<Vec<u8>> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(components.pop().ok_or(TargetError::Escapes)?),
            name if name.contains('\0') => return Err(TargetError::Nul),
            name if name.len() > LONGEST_NAME => return Err(TargetError::TooLong),
            name => components.push(name.into()),
        }
    }
    Ok(components)
}

/// Returns the name of a file slot that names none, as the Go launcher makes it: `slot_{position}_{id}`. What
/// cannot be in a name becomes `_`; a long id is cut.
#[must_use]
pub fn fallback_name(position: u32, id: &str) -> Vec<u8> {
    let mut name = format!("slot_{position}_{id}").replace(['/', '\0'], "_");
    while name.len() > LONGEST_NAME {
        name.pop();
    }
    name.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(target: &str) -> Result<String, TargetError> {
        let names = components(target)?;
        Ok(names.iter().map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>().join("/"))
    }

    #[test]
    fn targets_become_paths_below_the_work_environment() {
        for (target, path) in [
            ("bin/x", "bin/x"),
            ("{workenv}/bin/x", "bin/x"),
            ("{workenv}bin/x", "bin/x"),
            ("{workenv}//bin/x", "bin/x"),
            ("{workenv}/{workenv}/x", "x"),
            ("a/{workenv}/b", "a/b"),
            ("./a/./b//c/", "a/b/c"),
            ("a/../b", "b"),
            ("", ""),
            (".", ""),
            ("{workenv}", ""),
            ("{workenv}/", ""),
            ("a/..", ""),
            ("...", "..."),
            ("a\\b", "a\\b"),
            ("{slot:0}", "{slot:0}"),
        ] {
            assert_eq!(shown(target).as_deref(), Ok(path), "{target}");
        }
    }

    #[test]
    fn targets_outside_are_refused() {
        let long = "n".repeat(256);
        for (target, error) in [
            ("/etc/passwd", TargetError::Absolute),
            ("/{workenv}/x", TargetError::Absolute),
            ("../x", TargetError::Escapes),
            ("a/../../x", TargetError::Escapes),
            ("{workenv}/../x", TargetError::Escapes),
            (".{workenv}./x", TargetError::Escapes),
            ("a\0b", TargetError::Nul),
            (long.as_str(), TargetError::TooLong),
        ] {
            assert_eq!(shown(target), Err(error), "{target}");
        }
    }

    #[test]
    fn a_slot_without_a_name_gets_one_that_is_a_name() {
        assert_eq!(fallback_name(3, "tool"), b"slot_3_tool");
        assert_eq!(fallback_name(0, "../a\0/b"), b"slot_0_.._a__b");
        assert!(fallback_name(0, &"é".repeat(400)).len() <= 255);
    }
}

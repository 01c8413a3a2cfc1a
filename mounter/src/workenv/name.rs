//! A work environment's name: the package's file name without its ending, as the launchers take it.
//!
//! **Invariant:** a name is one ordinary path component that cannot be mistaken for the metadata of another
//! environment or for the shared folder, and both its directories fit into 255 bytes.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;

use super::facts::{PackageFacts, PackageId, PackageKind};

/// Endings of bare archives, longest first.
const ARCHIVE_ENDINGS: &[&str] = &[
    ".tar.bz2", ".tar.zst", ".tar.gz", ".tar.xz", ".tbz2", ".tzst", ".tar", ".tgz", ".tbz", ".txz", ".zip",
    ".whl",
];

/// Longest name in bytes: `.` and `.pspf` are put round it.
const LONGEST: usize = 255 - ".".len() - ".pspf".len();

/// What stands for a usual name that cannot be used.
const NAMELESS: &str = "package";

/// The name of a work environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkenvName(OsString);

impl WorkenvName {
    /// Takes a name as found on disk; `None` where it could not be one.
    #[must_use]
    pub fn new(name: &OsStr) -> Option<Self> {
        is_possible(name).then(|| Self(name.to_owned()))
    }

    /// Returns the name a package's launcher uses. Where that is impossible (a file called `.psp` would get
    /// the cache directory itself), the name is made of the identity.
    #[must_use]
    pub fn of(facts: &PackageFacts) -> Self {
        Self::usual(facts).unwrap_or_else(|| Self::by_identity(facts))
    }

    /// Returns the name of a package whose usual name belongs to another one: the usual name, then the identity.
    #[must_use]
    pub fn with_identity(facts: &PackageFacts) -> Self {
        let Some(usual) = Self::usual(facts) else { return Self::by_identity(facts) };
        Self(joined(&usual.0, &facts.id)).checked().unwrap_or_else(|| Self::by_identity(facts))
    }

    /// Tells whether a package whose usual name is `usual` may have got this one, as [`Self::with_identity`] makes it.
    #[must_use]
    pub(super) fn is_another_of(&self, usual: &Self) -> bool {
        let of = |start: &OsStr| {
            let rest = self.0.as_encoded_bytes().strip_prefix(start.as_encoded_bytes())?;
            PackageId::parse(std::str::from_utf8(rest.strip_prefix(b"-")?).ok()?)
        };
        of(&usual.0).or_else(|| of(OsStr::new(NAMELESS))).is_some()
    }

    fn usual(facts: &PackageFacts) -> Option<Self> {
        Self::new(&without_ending(&facts.file_name(), facts.kind))
    }

    fn by_identity(facts: &PackageFacts) -> Self {
        Self(joined(OsStr::new(NAMELESS), &facts.id))
    }

    fn checked(self) -> Option<Self> {
        is_possible(&self.0).then_some(self)
    }

    /// Returns the name as a path component.
    #[must_use]
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// Returns the name of the metadata directory: `.{name}.pspf`.
    #[must_use]
    pub fn metadata_name(&self) -> OsString {
        let mut name = OsString::from(".");
        name.push(&self.0);
        name.push(".pspf");
        name
    }

    /// Returns the environment whose metadata directory is called so.
    #[must_use]
    pub fn of_metadata_name(name: &OsStr) -> Option<Self> {
        // Cutting at ASCII keeps the rest well-formed, which `OsStr` lets safe code do only by way of UTF-8 or
        // of a path's stem: `.app.pspf` has the stem `.app`.
        let path = Path::new(name);
        let stem = path.extension().filter(|ending| *ending == "pspf").and_then(|_| path.file_stem())?;
        let bytes = crate::host::files::path_bytes(Path::new(stem));
        let rest = bytes.strip_prefix(b".")?;
        Self::new(crate::host::files::path_from_bytes(rest.to_vec()).as_os_str())
    }
}

impl fmt::Display for WorkenvName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(formatter)
    }
}

fn joined(start: &OsStr, id: &PackageId) -> OsString {
    let mut name = start.to_owned();
    name.push("-");
    name.push(id.as_str());
    name
}

fn without_ending(file_name: &OsStr, kind: PackageKind) -> OsString {
    let bytes = crate::host::files::path_bytes(Path::new(file_name));
    let endings: &[&str] = match kind {
        // `.psp` or else `.pspf`, once, lower case only: what the launchers do.
        PackageKind::Package => &[".psp", ".pspf"],
        PackageKind::Archive => ARCHIVE_ENDINGS,
        PackageKind::Directory => &[],
    };
    let rest = endings.iter().find_map(|ending| bytes.strip_suffix(ending.as_bytes())).unwrap_or(&bytes);
    crate::host::files::path_from_bytes(rest.to_vec()).into_os_string()
}

fn is_possible(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    let plain = !bytes.is_empty() && bytes != b"." && bytes != b".." && bytes.len() <= LONGEST;
    let separators = bytes.iter().any(|byte| matches!(byte, b'/' | b'\\' | b':' | 0));
    let metadata = bytes.starts_with(b".") && bytes.ends_with(b".pspf");
    // The shared folder `.slotfs`, and its own metadata name for symmetry.
    plain && !separators && !metadata && bytes != b".slotfs"
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::workenv::tests::facts;

    fn name(path: &str, kind: PackageKind) -> String {
        let mut facts = facts(path);
        facts.kind = kind;
        WorkenvName::of(&facts).to_string()
    }

    #[test]
    fn another_name_of_a_package_is_known_by_its_form() {
        let long = format!("/p/{}.psp", "x".repeat(245));
        for path in ["/p/app.psp", "/p/app-1.psp", "/p/.psp", "/p/two words é.psp", &long] {
            let facts = facts(path);
            let usual = WorkenvName::of(&facts);
            assert!(WorkenvName::with_identity(&facts).is_another_of(&usual), "{path}");
            assert!(!usual.is_another_of(&WorkenvName::new("other".as_ref()).unwrap()) || path == "/p/.psp");
        }
        let app = WorkenvName::new("app".as_ref()).unwrap();
        for name in ["app", "app-x", "app-0123456789abcde", "app0123456789abcdef", "apple-0123456789abcdef"] {
            assert!(!WorkenvName::new(name.as_ref()).unwrap().is_another_of(&app), "{name}");
        }
        assert!(WorkenvName::new("app-0123456789abcdef".as_ref()).unwrap().is_another_of(&app));
    }

    #[test]
    fn packages_are_named_as_their_launchers_name_them() {
        for (file, wanted) in [
            ("/p/app.psp", "app"),
            ("/p/app.pspf", "app"),
            ("/p/app.psp.psp", "app.psp"),
            ("/p/app.pspf.psp", "app.pspf"),
            ("/p/app.PSP", "app.PSP"),
            ("/p/app.exe", "app.exe"),
            ("/p/app", "app"),
            ("/p/.hidden.psp", ".hidden"),
            ("/p/two words é.psp", "two words é"),
            ("/p/app.tar.gz", "app.tar.gz"),
        ] {
            assert_eq!(name(file, PackageKind::Package), wanted, "{file}");
        }
    }

    #[test]
    fn names_that_would_clash_with_the_layout_are_made_of_the_identity() {
        let long = format!("/p/{}.psp", "n".repeat(250));
        for file in
            ["/p/.psp", "/p/.pspf", "/p/..psp", "/p/...psp", "/p/.slotfs.psp", "/p/.app.pspf.psp", "/", &long]
        {
            assert_eq!(name(file, PackageKind::Package), format!("package-{}", facts(file).id), "{file}");
        }
        assert_eq!(name(&format!("/p/{}.psp", "n".repeat(249)), PackageKind::Package).len(), 249);
        let close = facts(&format!("/p/{}.psp", "n".repeat(240)));
        assert_eq!(WorkenvName::with_identity(&close).to_string(), format!("package-{}", close.id));
    }

    #[test]
    fn archives_lose_their_whole_ending_and_directories_nothing() {
        for (file, wanted) in [
            ("/a/t.tar.gz", "t"),
            ("/a/t.tgz", "t"),
            ("/a/t-1.2.tar.zst", "t-1.2"),
            ("/a/t.tar", "t"),
            ("/a/t.zip", "t"),
            ("/a/numpy-2.0-cp311.whl", "numpy-2.0-cp311"),
            ("/a/t.gz", "t.gz"),
        ] {
            assert_eq!(name(file, PackageKind::Archive), wanted, "{file}");
        }
        assert_eq!(name("/a/tree.tar", PackageKind::Directory), "tree.tar");
    }

    #[test]
    fn a_metadata_directory_leads_back_to_its_name() {
        for known in ["app", "a.b", ".hidden", "two words"] {
            let name = WorkenvName::new(OsStr::new(known)).unwrap();
            assert_eq!(WorkenvName::of_metadata_name(&name.metadata_name()), Some(name));
        }
        for other in [".slotfs", "app.pspf", ".pspf", "..pspf", ".app.psp", "...pspf"] {
            assert_eq!(WorkenvName::of_metadata_name(OsStr::new(other)), None, "{other}");
        }
    }
}

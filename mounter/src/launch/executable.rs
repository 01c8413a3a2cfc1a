//! Finding the program that a command names, in the launchers' order.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::LaunchError;
use crate::settings::Family;

/// Where to look, and how to ask the disk.
pub struct Search<'a> {
    /// The environment's content directory.
    pub workenv: &'a Path,
    /// Directories for a bare name, in order.
    pub directories: &'a [PathBuf],
    /// Decides about `.exe`.
    pub family: Family,
    /// Tells whether something exists at a path that is no directory.
    pub exists: &'a dyn Fn(&Path) -> bool,
    /// Tells whether it could be executed.
    pub is_executable: &'a dyn Fn(&Path) -> bool,
}

impl std::fmt::Debug for Search<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Search").field("directories", &self.directories).finish_non_exhaustive()
    }
}

impl Search<'_> {
    /// Finds the program that `word` names:
    ///
    /// * an absolute path that exists is taken, executable or not, so that the error is the system's own;
    /// * a relative path with a separator is taken from the work environment, never from the user's directory;
    /// * of any other absolute path, and of a bare name, the last component is looked for in the directories.
    ///
    /// # Errors
    /// [`LaunchError::NoProgram`] with every path tried.
    pub fn find(&self, word: &OsStr) -> Result<PathBuf, LaunchError> {
        let named = Path::new(word);
        let mut searched = Vec::new();
        let bare = named.components().count() == 1 && !named.is_absolute();
        if !bare {
            let path = self.workenv.join(named);
            for path in self.spellings(path) {
                if (self.exists)(&path) {
                    return Ok(path);
                }
                searched.push(path);
            }
        }
        if bare || named.is_absolute() {
            let Some(name) = named.file_name() else {
                return Err(LaunchError::NoProgram { program: named.to_owned(), searched });
            };
            for directory in self.directories {
                for path in self.spellings(directory.join(name)) {
                    if (self.is_executable)(&path) {
                        return Ok(path);
                    }
                    searched.push(path);
                }
            }
        }
        Err(LaunchError::NoProgram { program: named.to_owned(), searched })
    }

    /// A program may be written without its `.exe` on Windows.
    fn spellings(&self, path: PathBuf) -> Vec<PathBuf> {
        if self.family == Family::Unix
            || path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("exe"))
        {
            return vec![path];
        }
        let mut with_ending = path.clone().into_os_string();
        with_ending.push(".exe");
        vec![path, with_ending.into()]
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn find(word: &str, files: &[&str], family: Family) -> Result<PathBuf, LaunchError> {
        let there = |path: &Path| files.iter().any(|file| Path::new(file) == path);
        let runs = |path: &Path| there(path) && !path.to_string_lossy().contains("data");
        let directories = ["/usr/bin".into(), "/w/bin".into(), "/data/bin".into(), "/late".into()];
        let search = Search {
            workenv: Path::new("/w"),
            directories: &directories,
            family,
            exists: &there,
            is_executable: &runs,
        };
        search.find(word.as_ref())
    }

    #[test]
    fn the_launchers_order_is_kept() {
        for (word, files, wanted) in [
            ("/opt/x", &["/opt/x", "/usr/bin/x"][..], "/opt/x"),
            ("/opt/data", &["/opt/data"], "/opt/data"),
            ("/gone/x", &["/w/bin/x", "/usr/bin/x"], "/usr/bin/x"),
            ("x", &["/w/bin/x", "/usr/bin/x"], "/usr/bin/x"),
            ("x", &["/w/bin/x", "/late/x"], "/w/bin/x"),
            ("x", &["/data/bin/x", "/late/x"], "/late/x"),
            ("bin/x", &["/w/bin/x", "/usr/bin/x"], "/w/bin/x"),
            ("./x", &["/w/x"], "/w/x"),
        ] {
            assert_eq!(find(word, files, Family::Unix).unwrap(), Path::new(wanted), "{word}");
        }
    }

    #[test]
    fn what_is_not_found_names_every_place() {
        let error = find("x", &[], Family::Unix).unwrap_err().to_string();
        assert!(error.contains("`/usr/bin/x`, `/w/bin/x`, `/data/bin/x`, `/late/x`"), "{error}");
        for word in ["/gone/x", "bin/x", "..", "/", "", "sub/../x"] {
            assert!(
                matches!(find(word, &["/usr/bin/y"], Family::Unix), Err(LaunchError::NoProgram { .. })),
                "{word}"
            );
        }
        // A relative path is not looked for by its name: it says where it is.
        assert!(find("bin/x", &["/usr/bin/x"], Family::Unix).is_err());
    }

    #[test]
    fn windows_programs_may_be_named_without_their_ending() {
        assert_eq!(find("x", &["/w/bin/x.exe"], Family::Windows).unwrap(), Path::new("/w/bin/x.exe"));
        assert_eq!(find("/w/y", &["/w/y.exe"], Family::Windows).unwrap(), Path::new("/w/y.exe"));
        assert!(find("x", &["/w/bin/x.exe"], Family::Unix).is_err());
    }
}

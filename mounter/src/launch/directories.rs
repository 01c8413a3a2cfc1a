//! `workenv.directories`: the directories that a package wants to find at every start.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use slotfs_fs::disk::Context;
use slotfs_fs::package::metadata::Metadata;

use super::placeholders::{Placeholders, Scope};
use super::{LaunchError, Program, inside};
use crate::host::files;

/// Mode of a directory for which the package names none, or none that can be read.
const DEFAULT_MODE: u32 = 0o700;

/// One directory to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// As the package writes it, placeholders replaced; relative ones are inside the environment.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
}

/// Reads what is to be made, in order.
#[must_use]
pub fn plan(metadata: &Metadata, placeholders: &Placeholders) -> Vec<Directory> {
    let section = metadata.workenv.as_ref().map(|section| section.directories.as_slice());
    let read = |wanted: &slotfs_fs::package::metadata::WorkenvDirectory| Directory {
        path: placeholders.fill(&wanted.path, Scope::Directories).into(),
        mode: wanted.mode.as_deref().and_then(parse_mode).unwrap_or(DEFAULT_MODE),
    };
    section.unwrap_or_default().iter().map(read).collect()
}

/// Makes the directories and sets their modes; parents that are missing get the usual rights. Cheap when they
/// are there already with the right mode, since this is done at every start.
///
/// # Errors
/// A path that leads out of the environment; a file in the way; the disk's.
pub(super) fn make(program: &Program<'_>, directories: &[Directory]) -> Result<(), LaunchError> {
    for wanted in directories {
        let path = inside::locate(program.workenv, &wanted.path, "the directory")?;
        files::create_directories(&path).context("create the directory", &path)?;
        if files::mode(&path).context("examine", &path)? != Some(wanted.mode) {
            files::set_mode(&path, wanted.mode).context("set the mode of", &path)?;
        }
    }
    Ok(())
}

/// Returns the top-level names of the directories that a package declares. What its program keeps there is the
/// user's, and stays when the package is rebuilt.
#[must_use]
pub fn top_level_names(metadata: &Metadata) -> Vec<OsString> {
    let root = Path::new("/");
    let placeholders = Placeholders::new(metadata, root);
    let first = |directory: Directory| {
        let inner = root.join(directory.path);
        inner.components().find_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
        })
    };
    let mut names: Vec<OsString> = plan(metadata, &placeholders).into_iter().filter_map(first).collect();
    names.sort();
    names.dedup();
    names
}

/// Reads octal permission bits: `755`, `0755`, `1777`.
pub(super) fn parse_mode(text: &str) -> Option<u32> {
    let octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o7777)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn metadata(json: &str) -> Metadata {
        serde_json::from_str(&format!(r#"{{"workenv": {{"directories": {json}}}}}"#)).unwrap()
    }

    #[test]
    fn modes_are_octal_or_private() {
        let listed = metadata(
            r#"[{"path": "{workenv}/a", "mode": "1777"}, {"path": "b"}, {"path": "c", "mode": "0o755"},
                {"path": "d", "mode": ""}, {"path": "e", "mode": "0755"}, {"path": "{package_name}", "mode": "99999"}]"#,
        );
        let plan = plan(&listed, &Placeholders::new(&listed, Path::new("/w")));
        let shown: Vec<_> = plan.iter().map(|one| format!("{} {:o}", one.path.display(), one.mode)).collect();
        assert_eq!(shown, ["/w/a 1777", "b 700", "c 700", "d 700", "e 755", "{package_name} 700"]);
        assert_eq!(top_level_names(&listed), ["a", "b", "c", "d", "e", "{package_name}"]);
    }

    #[test]
    fn directories_are_made_inside_only_and_again_without_harm() {
        let folder = tempfile::tempdir().unwrap();
        let workenv = folder.path().join("w");
        std::fs::create_dir(&workenv).unwrap();
        std::fs::write(workenv.join("file"), b"").unwrap();
        let run = |json: &str| {
            let metadata = metadata(json);
            let program = Program {
                metadata: &metadata,
                package: Path::new("/p"),
                workenv: &workenv,
                cache: folder.path(),
            };
            make(&program, &plan(&metadata, &Placeholders::new(&metadata, &workenv)))
        };
        for _ in 0..2 {
            run(r#"[{"path": "{workenv}/var/log", "mode": "0750"}, {"path": "plain"}]"#).unwrap();
        }
        assert!(workenv.join("var/log").is_dir() && workenv.join("plain").is_dir());
        let mode = files::mode(&workenv.join("var/log")).unwrap();
        assert!(mode.is_none_or(|mode| mode == 0o750));
        for outside in ["../x", "{workenv}/../x", "/tmp/x"] {
            let error = run(&format!(r#"[{{"path": "{outside}"}}]"#)).unwrap_err().to_string();
            assert!(error.contains("leads out of the work environment"), "{error}");
        }
        assert!(!folder.path().join("x").exists());
        let error = run(r#"[{"path": "file/sub"}]"#).unwrap_err().to_string();
        assert!(error.contains("file"), "{error}");
    }
}

//! Listing and finding environments, those of slotfs and those of the launchers alike.
//!
//! **Invariant:** the content directory of an environment is never opened or asked about here: it may be a
//! dead mount, or have a million files.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use slotfs_fs::disk::{Context, DiskError};

use super::facts::PackageId;
use super::instance::InstanceState;
use super::record::{NameAndVersion, Record};
use super::{Cache, Workenv, WorkenvError, WorkenvName};

/// Who made an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeBy {
    /// slotfs noted it as some package's.
    Slotfs,
    /// Only a launcher's files are there.
    Launcher,
}

/// One environment as found on disk.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Which.
    pub workenv: Workenv,
    /// Who made it.
    pub made_by: MadeBy,
    /// Package name and version; `None` where nothing readable tells.
    pub package: Option<NameAndVersion>,
    /// Identity; `None` where it cannot be told.
    pub id: Option<PackageId>,
    /// The package file, where slotfs noted it.
    pub path: Option<PathBuf>,
    /// What the marker files say.
    pub state: InstanceState,
    /// When the environment was last prepared or described.
    pub modified: Option<SystemTime>,
}

impl Listed {
    /// Returns when it was last used, as far as slotfs knows: every start takes the start lock and writes its number
    /// there, and the end of a use sets the time of the lock that users share.
    #[must_use]
    pub fn last_used(&self) -> Option<SystemTime> {
        let time = |path: &Path| std::fs::symlink_metadata(path).and_then(|known| known.modified()).ok();
        let workenv = &self.workenv;
        [workenv.start_lock(), workenv.leases_lock(), workenv.session_record()]
            .iter()
            .map(|path| time(path))
            .chain([self.modified])
            .max()
            .flatten()
    }
}

impl Cache {
    /// Lists every environment, sorted by name. Damaged ones are listed with what can be read of them.
    ///
    /// # Errors
    /// Only when the cache directory itself cannot be listed; a missing one is empty.
    pub fn all(&self) -> Result<Vec<Listed>, WorkenvError> {
        Ok(self.every_workenv()?.into_iter().map(look).collect())
    }

    /// Finds the one environment that the user means: by name, identity, package file, content directory, or
    /// the unique beginning of a name or identity. What matches whole wins over what only begins so.
    ///
    /// # Errors
    /// [`WorkenvError::NotFound`] and [`WorkenvError::Ambiguous`].
    pub fn find(&self, query: &Path) -> Result<Listed, WorkenvError> {
        let typed = query.as_os_str();
        let shown = query.display().to_string();
        let all = self.all()?;
        if let Some(exact) = all.iter().find(|one| one.workenv.name().as_os_str() == typed) {
            return Ok(exact.clone());
        }
        let text = typed.to_str().unwrap_or_default();
        let of_id = |one: &&Listed| one.id.as_ref().is_some_and(|id| id.as_str() == text);
        // Only the path's parents are resolved at first: the path may be an environment's dead mount.
        let place = resolve_parent(query);
        let is_content = |one: &&Listed| place.is_some() && resolve_parent(&one.workenv.content()) == place;
        let package = if all.iter().any(|one| is_content(&one)) { None } else { query.canonicalize().ok() };
        let is_package = |one: &&Listed| one.path.is_some() && (one.path == package || one.path == place);
        let starts = |one: &&Listed| {
            !text.is_empty()
                && (one.workenv.name().to_string().starts_with(text)
                    || one.id.as_ref().is_some_and(|id| id.as_str().starts_with(text)))
        };
        let groups: [&dyn Fn(&&Listed) -> bool; 4] = [&of_id, &is_content, &is_package, &starts];
        for group in groups {
            let mut found: Vec<&Listed> = all.iter().filter(|one| group(one)).collect();
            match (found.pop(), found.is_empty()) {
                (Some(one), true) => return Ok(one.clone()),
                (Some(last), false) => {
                    let names =
                        found.into_iter().chain([last]).map(|one| format!("`{}`", one.workenv.name()));
                    return Err(WorkenvError::Ambiguous { query: shown, candidates: names.collect() });
                }
                (None, _) => {}
            }
        }
        Err(WorkenvError::NotFound { query: shown, cache: self.directory().to_owned() })
    }

    /// Returns every environment that has a metadata directory, sorted by name.
    pub(super) fn every_workenv(&self) -> Result<Vec<Workenv>, WorkenvError> {
        let directory = self.directory();
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(DiskError::new("list", directory, error).into()),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.context("list", directory)?;
            // A link here is nobody's metadata: neither slotfs nor a launcher makes one.
            if let Some(name) = WorkenvName::of_metadata_name(&entry.file_name())
                && entry.file_type().is_ok_and(|kind| kind.is_dir())
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names.into_iter().map(|name| self.workenv(name)).collect())
    }
}

fn look(workenv: Workenv) -> Listed {
    let record = Record::read(&workenv);
    let state = workenv.instance_state();
    let package = match &record {
        Some(record) => Some(NameAndVersion { name: record.name.clone(), version: record.version.clone() }),
        None => NameAndVersion::read(&workenv),
    };
    let id = match (&record, &package, &state.checksum) {
        (Some(record), _, _) => Some(record.id.clone()),
        (None, Some(package), Some(checksum)) => {
            Some(PackageId::of(&package.name, &package.version, checksum))
        }
        _ => None,
    };
    let time = |path: &Path| std::fs::symlink_metadata(path).and_then(|known| known.modified()).ok();
    let modified = time(&workenv.complete_marker()).or_else(|| time(&workenv.metadata()));
    let made_by = if record.is_some() { MadeBy::Slotfs } else { MadeBy::Launcher };
    Listed { made_by, package, id, path: record.map(|record| record.path), state, modified, workenv }
}

/// Resolves the links in a path's parents and keeps its last component as it is.
fn resolve_parent(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(parent.canonicalize().ok()?.join(name))
}

//! Which directory holds the work environments: slotfs's own rules, and where the launchers would look.

use std::path::{Path, PathBuf};

use super::sourced::{Origin, Sourced};
use super::variables;
use super::{Environment, SettingsError};

/// Resolves slotfs's cache directory: the flag, `FLAVOR_CACHE`, then what the launchers use. `configured` is
/// the configuration file's value, which stands before the defaults but after every variable that was set
/// for this purpose.
pub(super) fn resolve(
    environment: &Environment,
    flag: Option<&Path>,
    configured: Option<Sourced<PathBuf>>,
) -> Result<Sourced<PathBuf>, SettingsError> {
    let chosen = if let Some(path) = flag {
        Sourced { value: path.to_owned(), origin: Origin::Flag("--cache-dir") }
    } else if let Some(path) = environment.filled(variables::FLAVOR_CACHE) {
        Sourced { value: path.into(), origin: Origin::Variable(variables::FLAVOR_CACHE) }
    } else if let Some(found) = from_flavor_variables(environment) {
        found
    } else if let Some(found) = configured {
        found
    } else {
        from_standard_folders(environment)
    };
    let value = environment.absolute(&chosen.value);
    if !value.is_absolute() {
        return Err(SettingsError::NoWorkingDirectory { path: chosen.value });
    }
    Ok(Sourced { value, origin: chosen.origin })
}

/// Returns the directory where the package's own launcher looks for work environments in this environment.
pub(super) fn of_launchers(environment: &Environment) -> PathBuf {
    let found = from_flavor_variables(environment).unwrap_or_else(|| from_standard_folders(environment));
    environment.absolute(found.value)
}

fn from_flavor_variables(environment: &Environment) -> Option<Sourced<PathBuf>> {
    // A nested package shares the outer one's cache: root = parent of the parent, environments in `workenv`.
    // The launchers do not use the last component, nor whether the middle one is called `workenv`.
    let outer = environment.filled(variables::FLAVOR_WORKENV).map(Path::new);
    if let Some(root) = outer.and_then(Path::parent).and_then(Path::parent) {
        let value = root.join("workenv");
        return Some(Sourced { value, origin: Origin::Variable(variables::FLAVOR_WORKENV) });
    }
    let root = environment.filled(variables::FLAVOR_CACHE_DIR).map(Path::new)?;
    Some(Sourced { value: root.join("workenv"), origin: Origin::Variable(variables::FLAVOR_CACHE_DIR) })
}

fn from_standard_folders(environment: &Environment) -> Sourced<PathBuf> {
    let under = |base: &Path| base.join("flavor").join("workenv");
    if let Some(base) = environment.filled(variables::XDG_CACHE_HOME) {
        return Sourced {
            value: under(Path::new(base)),
            origin: Origin::Variable(variables::XDG_CACHE_HOME),
        };
    }
    // Without a home the launchers differ: `$TMPDIR/flavor` (Rust) or `$TMPDIR/flavor/cache` (Go).
    let base =
        environment.home().map_or_else(|| environment.temporary().to_owned(), |home| home.join(".cache"));
    Sourced { value: under(&base), origin: Origin::Default }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::super::environment::Family;
    use super::*;

    #[test]
    fn the_first_answer_in_the_documented_order_wins() {
        let all = [
            ("FLAVOR_CACHE", "/fc"),
            ("FLAVOR_WORKENV", "/outer/workenv/app"),
            ("FLAVOR_CACHE_DIR", "/fcd"),
            ("", ""),
            ("XDG_CACHE_HOME", "xdg"),
            ("HOME", "/home/me"),
            ("TMPDIR", "/var/tmp"),
        ];
        let ours = [
            "/fc",
            "/outer/workenv",
            "/fcd/workenv",
            "/file",
            "/cwd/xdg/flavor/workenv",
            "/home/me/.cache/flavor/workenv",
            "/var/tmp/flavor/workenv",
            "/tmp/flavor/workenv",
        ];
        let launchers = [ours[1], ours[1], ours[2], ours[4], ours[4], ours[5], ours[6], ours[7]];
        for first in 0..ours.len() {
            let set = all[first.min(all.len())..].iter().filter(|(name, _)| !name.is_empty()).copied();
            let environment = Environment::new(Family::Unix, "/cwd", set);
            let file = (first <= 3).then(|| Sourced { value: "/file".into(), origin: Origin::Default });
            assert_eq!(resolve(&environment, None, file).unwrap().value, Path::new(ours[first]), "{first}");
            assert_eq!(of_launchers(&environment), Path::new(launchers[first]), "{first}");
        }
        let environment = Environment::new(Family::Unix, "/cwd", all);
        let flag = resolve(&environment, Some(Path::new("rel")), None).unwrap();
        assert_eq!((flag.value.as_path(), flag.origin), (Path::new("/cwd/rel"), Origin::Flag("--cache-dir")));
    }

    #[test]
    fn a_workenv_without_two_parents_and_empty_variables_say_nothing() {
        let set = [("FLAVOR_WORKENV", "/x"), ("FLAVOR_CACHE", ""), ("XDG_CACHE_HOME", ""), ("HOME", "/h")];
        let environment = Environment::new(Family::Unix, "/", set);
        assert_eq!(resolve(&environment, None, None).unwrap().value, Path::new("/h/.cache/flavor/workenv"));
        let lost = Environment::new(Family::Unix, "", [("XDG_CACHE_HOME", "rel")]);
        assert!(resolve(&lost, None, None).unwrap_err().to_string().contains("`rel/flavor/workenv`"));
    }

    #[test]
    fn windows_uses_the_user_profile() {
        let set = [("USERPROFILE", "/users/me"), ("HOME", "/msys/me")];
        let environment = Environment::new(Family::Windows, "/", set);
        assert_eq!(of_launchers(&environment), Path::new("/users/me/.cache/flavor/workenv"));
    }
}

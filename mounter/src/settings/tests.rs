//! Tables of what was said and what comes out.

use super::*;

fn environment(set: &[(&'static str, &str)]) -> Environment {
    Environment::new(Family::Unix, "/cwd", set.iter().map(|(name, value)| (*name, *value)))
}

fn resolve(set: &[(&'static str, &str)], overrides: &Overrides) -> Settings {
    Settings::resolve(&environment(set), overrides).unwrap()
}

#[test]
fn flag_then_environment_then_file_then_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.json");
    std::fs::write(
        &path,
        r#"{"mode": "extract", "verify": "none", "limits": {"entries": 5}, "log": "info", "cache_directory": "sub"}"#,
    )
    .unwrap();
    let file = Origin::File(path.as_path().into());
    let config = Overrides { config: Some(path.clone()), ..Overrides::default() };

    let settings = resolve(&[], &config);
    assert_eq!(settings.mode, Sourced { value: Mode::Extract, origin: file.clone() });
    assert_eq!((settings.max_entries.value, &settings.max_entries.origin), (5, &file));
    assert_eq!(settings.cache_directory, Sourced { value: folder.path().join("sub"), origin: file.clone() });
    assert_eq!(settings.max_decoded.origin, Origin::Default);
    assert_eq!(settings.config.as_deref(), Some(path.as_path()));

    let set = [("SLOTFS_MODE", "Mount"), ("FLAVOR_VALIDATION", "relaxed"), ("FLAVOR_LOG_LEVEL", "debug")];
    let settings = resolve(&set, &config);
    assert_eq!(settings.mode, Sourced { value: Mode::Mount, origin: Origin::Variable("SLOTFS_MODE") });
    assert_eq!(settings.verify.value, Validation::Relaxed);
    assert_eq!(settings.log.filter.value, "debug");

    let flags = Overrides { mode: Some(Mode::Auto), log: Some("slotfs=trace".into()), ..config };
    let settings = resolve(&set, &flags);
    assert_eq!(settings.mode, Sourced { value: Mode::Auto, origin: Origin::Flag("--mode") });
    assert_eq!(settings.log.filter.to_owned().value, "slotfs=trace");

    let settings = resolve(&[], &Overrides::default());
    assert_eq!(settings.mode, Sourced { value: Mode::Auto, origin: Origin::Default });
    assert_eq!(settings.config, None);
}

#[test]
fn the_launchers_variables_mean_what_they_mean_there() {
    let plain = Overrides::default();
    for (value, wanted) in
        [("standard", Validation::Standard), ("NONE", Validation::None), ("x", Validation::Strict)]
    {
        assert_eq!(resolve(&[("FLAVOR_VALIDATION", value)], &plain).verify.value, wanted, "{value}");
    }
    for (value, wanted) in [("0", false), ("False", false), ("1", true), ("no", true), ("", true)] {
        assert_eq!(resolve(&[("FLAVOR_WORKENV_CACHE", value)], &plain).reuse.value, wanted, "{value}");
    }
    for (value, wanted) in [("Spawn", ExecMode::Spawn), ("exec", ExecMode::Exec), ("?", ExecMode::Exec)] {
        assert_eq!(resolve(&[("FLAVOR_EXEC_MODE", value)], &plain).exec_mode.value, wanted, "{value}");
    }
    let set =
        [("FLAVOR_LAUNCHER_LOG_LEVEL", "silly"), ("FLAVOR_LOG_LEVEL", "ERROR"), ("FLAVOR_LOG_PATH", "l")];
    let log = resolve(&set, &plain).log;
    assert_eq!(
        (log.filter.value.as_str(), log.filter.origin),
        ("error", Origin::Variable("FLAVOR_LOG_LEVEL"))
    );
    assert_eq!(log.path.value.as_deref(), Some(Path::new("/cwd/l")));
    let settings = resolve(&[("SLOTFS_LOG", "slotfs=debug"), ("FLAVOR_LOG_LEVEL", "error")], &plain);
    assert_eq!(settings.log.filter.value, "slotfs=debug");
    assert!(!resolve(&[("NO_COLOR", "1")], &plain).color.value);
    assert!(resolve(&[("NO_COLOR", "")], &plain).color.value);
    assert!(resolve(&[("FLAVOR_KEEP_TEMP", "True")], &plain).keep.value);
}

#[test]
fn trust_is_looked_for_where_the_launchers_look() {
    let paths = |set: &[(&'static str, &str)]| {
        let settings = resolve(set, &Overrides::default());
        let show =
            |list: Vec<PathBuf>| list.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ");
        (show(settings.trusted_keys.value), show(settings.policy_files))
    };
    let expect = |keys: &str, policies: &str| (keys.to_owned(), policies.to_owned());
    assert_eq!(
        paths(&[("HOME", "/h")]),
        expect(
            "/h/.config/flavor/trusted-keys /etc/flavor/trusted-keys",
            "/etc/flavor/policy.json /h/.config/flavor/policy.json"
        )
    );
    assert_eq!(
        paths(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x"), ("FLAVOR_TRUSTED_KEYS_DIR", "/k")]),
        expect("/k /etc/flavor/trusted-keys", "/etc/flavor/policy.json /x/flavor/policy.json")
    );
    assert_eq!(
        paths(&[("FLAVOR_CONFIG_DIR", "/f"), ("XDG_CONFIG_HOME", "/x")]),
        expect("/f/trusted-keys /etc/flavor/trusted-keys", "/etc/flavor/policy.json /f/policy.json")
    );
    assert_eq!(paths(&[]), expect("/etc/flavor/trusted-keys", "/etc/flavor/policy.json"));
}

#[test]
fn what_cannot_be_used_is_named() {
    let fails = |set: &[(&'static str, &str)], overrides: &Overrides| {
        Settings::resolve(&environment(set), overrides).unwrap_err().to_string()
    };
    let plain = Overrides::default();
    assert_eq!(
        fails(&[("SLOTFS_MODE", "fast")], &plain),
        "environment variable SLOTFS_MODE is wrong: `fast` is no mode: use `auto`, `mount` or `extract`"
    );
    let missing = Overrides { config: Some("/nonexistent/c.json".into()), ..Overrides::default() };
    assert!(fails(&[], &missing).starts_with("cannot read the configuration file `/nonexistent/c.json`: "));
    assert!(fails(&[("SLOTFS_CONFIG", "/nonexistent/d")], &plain).contains("`/nonexistent/d`"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("slotfs")).unwrap();
    std::fs::write(folder.path().join("slotfs/config.json"), "{\n\n \"modee\": 1 }").unwrap();
    let error = fails(&[("XDG_CONFIG_HOME", folder.path().to_str().unwrap())], &plain);
    assert!(error.contains("unknown field `modee`") && error.contains("line 3"), "{error}");
    assert!(resolve(&[("XDG_CONFIG_HOME", "/nonexistent")], &plain).config.is_none());
}

#[test]
fn every_variable_constant_is_listed_once() {
    let source = include_str!("variables.rs");
    let constants =
        source.lines().filter(|line| line.starts_with("pub const ") && line.contains(": &str")).count();
    let mut names: Vec<_> = variables::ALL.iter().map(|variable| variable.name).collect();
    names.sort_unstable();
    names.dedup();
    // The two that are only given to the program are not listed.
    assert_eq!((names.len(), variables::ALL.len()), (constants - 2, constants - 2));
}

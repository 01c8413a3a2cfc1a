//! The variables that the program and the setup commands get. Pure: the inherited ones come in as a value.

use std::ffi::{OsStr, OsString};

use serde_json::{Map, Value};
use slotfs_fs::package::metadata::RuntimeEnvironment;

use super::pattern::matches_name;
use super::placeholders::{Placeholders, Scope};
use super::{LaunchError, Program};
use crate::settings::{Environment, variables};

/// Makes the program's environment, in the Rust launcher's order; each step sees what the one before left:
///
/// 1. everything inherited; `FLAVOR_CACHE` where it is not set,
/// 2. `runtime.env`: `unset` but for `pass`, `map` but for `pass`, `set` as written,
/// 3. `workenv.env`, then `execution.env`, with placeholders replaced,
/// 4. `FLAVOR_WORKENV`, `FLAVOR_COMMAND_NAME`, `FLAVOR_ORIGINAL_COMMAND`, and `{workenv}/bin` before `PATH`.
///
/// # Errors
/// A name that cannot be one, or a value that is no text or has a NUL.
pub(super) fn of_program(
    program: &Program<'_>,
    placeholders: &Placeholders,
    inherited: &Environment,
) -> Result<Environment, LaunchError> {
    let mut environment = inherited.clone();
    if environment.get(variables::FLAVOR_CACHE).is_none() {
        environment.set(variables::FLAVOR_CACHE, program.cache);
    }
    if let Some(runtime) = &program.metadata.runtime {
        apply_runtime(&mut environment, &runtime.env)?;
    }
    if let Some(section) = &program.metadata.workenv {
        set_all(&mut environment, placeholders, "workenv.env", &section.env)?;
    }
    if let Some(section) = &program.metadata.execution {
        set_all(&mut environment, placeholders, "execution.env", &section.env)?;
    }
    environment.set(variables::FLAVOR_WORKENV, program.workenv);
    environment.set(variables::FLAVOR_COMMAND_NAME, program.package.file_name().unwrap_or_default());
    environment.set(variables::FLAVOR_ORIGINAL_COMMAND, program.package);
    environment.search_first(&program.workenv.join("bin"));
    check(&environment)?;
    Ok(environment)
}

/// Makes the setup commands' environment: everything inherited, `execution.env`, `FLAVOR_WORKENV`, and
/// `{workenv}/bin` before `PATH`. Neither `runtime.env` nor `workenv.env` applies, as in the launchers, so that
/// an installer finds the user's home and caches.
///
/// # Errors
/// As [`of_program`].
pub(super) fn of_setup(
    program: &Program<'_>,
    placeholders: &Placeholders,
    inherited: &Environment,
) -> Result<Environment, LaunchError> {
    let mut environment = inherited.clone();
    if let Some(section) = &program.metadata.execution {
        set_all(&mut environment, placeholders, "execution.env", &section.env)?;
    }
    // A PATH of the program's is not for its installers.
    match inherited.get(variables::PATH) {
        Some(path) => environment.set(variables::PATH, path),
        None => drop(environment.remove(variables::PATH)),
    }
    environment.set(variables::FLAVOR_WORKENV, program.workenv);
    environment.search_first(&program.workenv.join("bin"));
    check(&environment)?;
    Ok(environment)
}

fn apply_runtime(environment: &mut Environment, rules: &RuntimeEnvironment) -> Result<(), LaunchError> {
    let any = |patterns: &[String], name: &OsStr| {
        let name = name.to_string_lossy();
        patterns.iter().any(|pattern| matches_name(pattern, &name))
    };
    environment.retain(|name| !any(&rules.unset, name) || any(&rules.pass, name));
    // One after the other by old name, so that A to B and B to C moves A's value to C.
    for (old, new) in &rules.map {
        if !any(&rules.pass, OsStr::new(old))
            && let Some(value) = environment.remove(old)
        {
            checked_name("runtime.env.map", new)?;
            environment.set(new, value);
        }
    }
    for (name, value) in &rules.set {
        checked_name("runtime.env.set", name)?;
        environment.set(name, value);
    }
    Ok(())
}

fn set_all(
    environment: &mut Environment,
    placeholders: &Placeholders,
    section: &'static str,
    values: &Map<String, Value>,
) -> Result<(), LaunchError> {
    for (name, value) in values {
        checked_name(section, name)?;
        let value: OsString = match value {
            Value::String(text) => placeholders.fill(text, Scope::Program),
            // What a person writes without quotes still has one obvious text.
            Value::Number(number) => number.to_string().into(),
            Value::Bool(truth) => truth.to_string().into(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(LaunchError::NotText { section, name: name.clone() });
            }
        };
        environment.set(name, value);
    }
    Ok(())
}

fn checked_name(section: &'static str, name: &str) -> Result<(), LaunchError> {
    // `A=B` would set A, past every rule about A.
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(LaunchError::BadVariableName { section, name: name.to_owned() });
    }
    Ok(())
}

fn check(environment: &Environment) -> Result<(), LaunchError> {
    for (name, value) in environment.variables() {
        super::without_nul(|| format!("the variable `{}`", name.display()), value)?;
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests;

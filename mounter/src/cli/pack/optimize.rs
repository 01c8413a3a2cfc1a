//! `slotfs pack --optimize`: a package in the form that is read best.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use slotfs_fs::package::{Package, PackageKind};

use super::{Arguments, INTERRUPTED, first, level, tell_differences};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::{human_duration, human_size};
use crate::cli::progress::Bars;
use crate::cli::{package, rebuilt};
use crate::extract::layers;
use crate::pack::rebuild::{self, Rebuild};
use crate::pack::{Archives, Launcher, PackError, Profile, optimize};

/// A launcher of not more bytes is a script, and calls slotfs.
const LONGEST_SCRIPT: u64 = 64 << 10;

/// Writes the package at `old` again.
pub(super) fn run(
    old: &Path,
    arguments: &Arguments,
    (stop, started): (&AtomicBool, Instant),
    context: &Context,
) -> Result<u8, Failure> {
    let (package, verification) = package::trusted(old, package::Recall::Never, context)?;
    if package.kind() != PackageKind::Pspf {
        let message = format!("`{}` is no package of format PSPF/2025", old.display());
        return Err(Failure::new(FailureKind::Usage, message).hint("without `--optimize` one is made of it"));
    }
    let profile = arguments.profile.unwrap_or_else(|| usual_profile(&package));
    let (level, first) = (level(profile, arguments.level)?, first(arguments, context)?);
    let key = arguments.signing.key()?;
    let archives =
        Archives { home: package::home(context)?, limits: layers::limits(context.settings.limits()) };
    let wanted = Rebuild {
        old: &package,
        verification: &verification,
        launcher: arguments.launcher.as_deref().map(Launcher::named),
        command: None,
        key: &key,
        level,
        slots: optimize::slots(&package, &verification, profile, &archives, &first)?,
    };
    let bars = Bars::new(context.output);
    let made = rebuild::rebuild(&wanted, &arguments.output, &archives, stop, &bars);
    bars.clear();
    let made = match made {
        Err(error @ PackError::Interrupted) => {
            context.output.failure(&Failure::from(error));
            return Ok(INTERRUPTED);
        }
        other => other?,
    };
    for (_, slot) in &made.slots {
        tell_differences(slot, context);
    }
    tell_launcher(&package, profile, wanted.launcher.as_ref(), context);
    arguments.signing.tell(context);
    let path = arguments.output.display().to_string();
    if arguments.json {
        context.output.json(&rebuilt::Document {
            path,
            size: made.size,
            key_fingerprint: key.fingerprint().to_string(),
            slots: rebuilt::slots(&made),
        })?;
        return Ok(0);
    }
    context.output.data(&rebuilt::table(&made).render(&context.output, 0))?;
    let (size, time) = (human_size(made.size), human_duration(started.elapsed()));
    let before = human_size(package.identity().size);
    context.output.note(&format!("wrote `{path}` ({size}, was {before}) in {time}"));
    Ok(0)
}

/// Says where a package that FlavorPack's launchers could start becomes one that they cannot.
pub(in crate::cli) fn tell_launcher(
    package: &Package,
    profile: Profile,
    launcher: Option<&Launcher>,
    context: &Context,
) {
    let was_fast = usual_profile(package) == Profile::Fast;
    let is_theirs = launcher.is_none_or(|launcher| matches!(launcher, Launcher::File(_)))
        && package.index().is_some_and(|index| index.launcher_size.get() > LONGEST_SCRIPT);
    if profile == Profile::Fast && !was_fast && is_theirs {
        context.output.warn(
            "the fast profile is for slotfs alone: if its launcher is FlavorPack's, the package cannot start itself; \
             `--launcher slotfs` puts one in front that can start it",
        );
    }
}

/// Returns for whom a package is already.
pub(in crate::cli) fn usual_profile(package: &Package) -> Profile {
    let has_zstd = |slot: &slotfs_fs::package::Slot| {
        slot.source.compressions.contains(&slotfs_fs::package::Compression::Zstd)
    };
    if package.slots().iter().any(has_zstd) { Profile::Fast } else { Profile::Compatible }
}

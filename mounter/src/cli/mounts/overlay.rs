//! `slotfs overlay`: layers that are given by hand, mounted over each other.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::options::{OptionsError, Parsed};
use super::session;
use crate::cli::arguments::PackageArguments;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::plan::{self, SlotPlan, Wishes};
use crate::session::SessionError;
use crate::session::overlay::request::{GivenLayer, OverlayRequest};
use crate::session::overlay::start::{self, OverlayError, Started};
use crate::session::request::{BARE_COPIES, DecodeLimits, FailureCause, ServedSlot, Spill, VERSION};
use crate::session::start::Patience;
use crate::settings::Overrides;
use crate::workenv::Cache;

/// How long a mount that ends with its command may stay in use before the command ends without it.
const LEAVING: Duration = Duration::from_secs(10);

/// How long it may take to bring the content of files that were copied up without it.
const FILLING: Duration = Duration::from_hours(1);

/// What the mount table shows where nothing else is wanted.
const USUAL_SOURCE: &str = "overlay";

/// Mount layers that are given by hand
///
/// As with overlayfs: `slotfs overlay -o lowerdir=A:B,upperdir=U,workdir=W TARGET` shows the directories A and B over
/// each other, A on top; what is written goes to U. Instead of a directory, a layer may be a package or an archive, which
/// is verified and not unpacked. Without `upperdir` nothing can be written. U and W are on one file system; U is in the
/// form of kernel overlayfs (`userxattr`), and what other overlays have left in A and B is understood.
///
/// The command returns when the mount is up. `slotfs unmount TARGET`, `umount TARGET` and `fusermount3 -u TARGET` end it.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// lowerdir=A:B, lowerdir+=C, upperdir=U and workdir=W, where `\:` and `\,` are no separators; metacopy=on to copy
    /// large files up without their content while only attributes or names change, metacopy=off to make up for that;
    /// nopassthrough to have every read and write come to slotfs, which is slower; noac where others change A and B meanwhile
    /// and that is to be seen, which is slower, too;
    /// fsname=NAME for the mount table; ro, rw, nosuid, nodev, noexec, noatime, nodiratime, norelatime, nostrictatime, nolazytime and their
    /// opposites (suid, dev, …), sync, dirsync, nosymfollow, allow_other for the kernel. What is always so (default_permissions,
    /// userxattr, redirect_dir=on, index=on) and what others look at (_netdev, nofail, noauto, user, x-…, comment=…) may
    /// stand there. Any other is refused
    #[arg(short, value_name = "OPTIONS", required = true)]
    options: Vec<OsString>,
    /// Where to mount: a directory
    #[arg(value_name = "TARGET")]
    target: PathBuf,
    /// Stay in the foreground; the mount ends with this command
    #[arg(long)]
    foreground: bool,
    /// How packages are judged.
    #[command(flatten)]
    package: PackageArguments,
}

impl Arguments {
    /// Adds what was said to `overrides`.
    pub fn apply(&self, overrides: &mut Overrides) {
        self.package.apply(overrides);
    }
}

/// A mount that is wanted.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// What the mount table is to show, if the options do not say.
    pub source: &'a OsStr,
    /// The options.
    pub options: &'a Parsed,
    /// Where to mount.
    pub target: &'a Path,
    /// Whether the mount ends with this process.
    pub foreground: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no mount.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let parsed = Parsed::new(&arguments.options, false)?;
    if parsed.lowers.is_empty() {
        let failure = Failure::new(FailureKind::Usage, "the mount option `lowerdir` is missing");
        return Err(failure.hint("`-o lowerdir=A:B` names what to show, A on top"));
    }
    session::sweep(context);
    let foreground = arguments.foreground;
    let mountpoint = start::resolved_mountpoint(&context.environment.absolute(&arguments.target));
    let wish =
        Wish { source: USUAL_SOURCE.as_ref(), options: &parsed, target: &arguments.target, foreground };
    let started = carry_out(&wish, context)?;
    context.output.data(&format!("{}\n", arguments.target.display()))?;
    if foreground {
        let gone = started.wait(LEAVING).map_err(|error| {
            Failure::new(FailureKind::Mount, format!("cannot wait for the end of the mount: {error}"))
        })?;
        if !gone {
            session::tell_users(context, &mountpoint, LEAVING.as_secs());
        }
    }
    Ok(0)
}

/// Makes the mount; when this returns, it is up.
///
/// # Errors
/// There is no mount.
pub fn carry_out(wish: &Wish<'_>, context: &Context) -> Result<Started, Failure> {
    let absolute = |path: &Path| start::resolved(&context.environment.absolute(path));
    let mut layers = Vec::with_capacity(wish.options.lowers.len());
    for path in wish.options.lowers.iter().rev() {
        layers.push(layer(&absolute(path)?, context)?);
    }
    let spill = match (&wish.options.upper, &wish.options.work) {
        (Some(upper), Some(work)) => {
            Some(Spill { upper: absolute(upper)?, work: absolute(work)?, limit: None })
        }
        _ => None,
    };
    let request = OverlayRequest {
        version: VERSION,
        cache: context.settings.cache_directory.value.clone(),
        source: wish.options.source.as_deref().unwrap_or(wish.source).into(),
        mountpoint: start::resolved_mountpoint(&context.environment.absolute(wish.target)),
        layers,
        spill,
        bare_copies: (wish.options.metacopy == Some(true)).then_some(BARE_COPIES),
        fill: wish.options.metacopy == Some(false),
        options: wish.options.mount.clone(),
        limits: DecodeLimits::of(context.settings.limits()),
        caller: wish.foreground.then(|| std::process::id().cast_signed()),
        log: context.settings.log.filter.value.clone(),
    };
    let log = if wish.foreground { None } else { Some(log(context)) };
    // To bring content is to copy it.
    let limit = if request.fill { FILLING } else { Patience::default().ready };
    Ok(start::start(&request, log.as_deref(), limit)?)
}

/// Returns where servers of such mounts write what they have to say: beside what packages share, if there can be such
/// a place.
fn log(context: &Context) -> PathBuf {
    let cache = Cache::new(&context.settings.cache_directory.value);
    match cache.create() {
        Ok(()) => cache.shared().join("overlay.log"),
        Err(error) => {
            context.output.warn(&format!("the mount keeps no log: {error}"));
            PathBuf::from("/dev/null")
        }
    }
}

fn layer(path: &Path, context: &Context) -> Result<GivenLayer, Failure> {
    if path.is_dir() {
        return Ok(GivenLayer::Directory { path: path.into() });
    }
    let examined = session::examined(path, context)?;
    let plans = plan::slots(&examined.package, &Wishes::default(), plan::machine())?;
    let served = |plan: &SlotPlan| ServedSlot {
        position: plan.position,
        id: plan.id.clone(),
        digest: examined.digest(plan.position).map(|digest| digest.to_string()),
        checking: examined.checking(plan.position),
        // The upper directory is the user's own: no slot decides about it.
        writable: true,
        drop_at_start: false,
        drop_at_end: false,
        drop_at_clean: false,
        keep_in_store: plan.rules.keep_in_store,
        prefetch: plan.prefetch,
    };
    let slots = plans.iter().filter(|plan| plan.in_run).map(served).collect();
    Ok(GivenLayer::Package { path: examined.facts.path.clone(), identity: examined.identity(), slots })
}

impl From<OptionsError> for Failure {
    fn from(error: OptionsError) -> Self {
        let failure = Self::new(FailureKind::Usage, error.to_string());
        match error {
            OptionsError::Unknown { .. } => failure.hint("`slotfs help overlay` says which there are"),
            OptionsError::Empty { .. } | OptionsError::Incomplete { .. } => failure,
        }
    }
}

impl From<OverlayError> for Failure {
    fn from(error: OverlayError) -> Self {
        let message = error.to_string();
        match error {
            OverlayError::Overlap { .. } => {
                Self::new(FailureKind::Usage, message).hint("name directories that lie apart")
            }
            OverlayError::Session(SessionError::Refused { cause: FailureCause::Unavailable, .. }) => {
                Self::new(FailureKind::Unavailable, message).hint("`slotfs doctor` says what is missing")
            }
            OverlayError::Session(error) => error.into(),
        }
    }
}

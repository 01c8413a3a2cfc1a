//! What the commands that make and end mounts have in common.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::cli::context::Context;
use crate::cli::failure::from::disk_hint;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::package::Recall;
use crate::cli::{output, package};
use crate::host::users::{self, MountUsers};
use crate::launch::LaunchError;
use crate::plan::{Examined, Wishes};
use crate::session::SessionError;
use crate::session::prepare::{PrepareError, Step, Wanted};
use crate::session::recover;
use crate::session::request::FailureCause;
use crate::session::run::RunError;
use crate::session::serve::ServeError;
use crate::session::start::Patience;
use crate::session::unpacked::UnpackError;
use crate::session::upgrade::{How, Upgraded};
use crate::settings::{Origin, Overrides};
use crate::workenv::{Cache, NameRule};
use slotfs_policy::access::{Access, SlotAccess};

/// Which slots are mounted and how; for every command that mounts a package.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AccessArguments {
    /// Refuse every change
    #[arg(long, conflicts_with = "rw")]
    ro: bool,
    /// Let programs write where lifecycles allow it (this is the default)
    #[arg(long)]
    rw: bool,
    /// Access to one slot, by its id or position; may be given several times
    #[arg(long, value_name = "NAME=ro|rw")]
    slot: Vec<SlotAccess>,
    /// Leave out slots for development
    #[arg(long)]
    production: bool,
    /// Neither record what the launch touches nor ask for what earlier ones touched
    #[arg(long)]
    no_prefetch: bool,
}

impl AccessArguments {
    /// Returns what is wished for.
    #[must_use]
    pub fn wishes(&self) -> Wishes {
        let access = match (self.ro, self.rw) {
            (true, _) => Some(Access::ReadOnly),
            (false, true) => Some(Access::ReadWrite),
            (false, false) => None,
        };
        Wishes { access, slots: self.slot.clone(), production: self.production }
    }

    /// Adds what was said to `overrides`.
    pub fn apply(&self, overrides: &mut Overrides) {
        overrides.prefetch = self.no_prefetch.then_some(false);
    }
}

/// Clears what killed processes left in the cache. Every command that has to do with mounts begins with it.
/// Returns where they were.
pub fn sweep(context: &Context) -> Vec<PathBuf> {
    let cache = Cache::new(&context.settings.cache_directory.value);
    let cleared = recover::sweep(&cache).unwrap_or_else(|error| {
        context.output.warn(&error.to_string());
        Vec::new()
    });
    for mountpoint in &cleared {
        let shown = mountpoint.display();
        context.output.note(&format!("cleared the mount of a killed server at `{shown}`"));
    }
    cleared
}

/// Returns the context with the cache where the packages' own launchers look, unless the command line names another.
#[must_use]
pub fn for_launcher(context: &Context) -> Context {
    let mut changed = context.clone();
    let cache = &mut changed.settings.cache_directory;
    if !matches!(cache.origin, Origin::Flag(_)) {
        cache.value.clone_from(&context.settings.launcher_cache_directory);
    }
    changed
}

/// Opens, hashes and judges a package for use.
///
/// # Errors
/// It cannot be used, or may not.
pub fn examined(path: &Path, context: &Context) -> Result<Examined, Failure> {
    examined_as(path, Recall::Allowed, context)
}

/// As [`examined`], for a command whose server can hash the package.
///
/// # Errors
/// As [`examined`].
pub fn examined_or_beside(path: &Path, context: &Context) -> Result<Examined, Failure> {
    examined_as(path, Recall::OrBeside, context)
}

/// Returns the failure of a package that was refused while it was served.
pub fn refused(message: impl Into<String>) -> Failure {
    Failure::new(FailureKind::Verification, message).hint(
        "get it again from where it was published; what was written meanwhile was perhaps written by what was changed, and \
         `slotfs reset` takes it back",
    )
}

fn examined_as(path: &Path, recall: Recall, context: &Context) -> Result<Examined, Failure> {
    // Made first, so that what hashing finds can be remembered.
    Cache::new(&context.settings.cache_directory.value).create()?;
    let (package, verification) = package::trusted(path, recall, context)?;
    Ok(Examined::new(package, verification)?)
}

/// Returns what is wanted of a session, with the settings of this command.
#[must_use]
pub fn wanted<'a>(context: &'a Context, wishes: &'a Wishes, rule: NameRule) -> Wanted<'a> {
    Wanted {
        settings: &context.settings,
        environment: &context.environment,
        wishes,
        rule,
        mountpoint: None,
        keep: false,
        settled: false,
        patience: Patience::default(),
    }
}

/// Returns what tells the user how preparing goes.
pub fn teller(context: &Context) -> impl FnMut(Step<'_>) {
    let output = context.output;
    move |step| match step {
        Step::Waiting { holder } => {
            output.note(&format!("waiting for {holder}, which prepares the same package"))
        }
        Step::SetAside { place } => {
            let shown = place.display();
            output.note(&format!(
                "the package was rebuilt; what was written under the earlier one is in `{shown}`"
            ));
        }
        Step::Upgraded { files } => upgraded(files).iter().for_each(|line| output.note(line)),
        Step::Starting => {}
        Step::Unpacking { reason } => output.note(&format!("unpacking instead of mounting: {reason}")),
        Step::Unbounded => {
            output.warn("unpacked files have no bound: `--max-upper` holds for mounts only");
        }
        Step::Setup { position, count, title } => {
            output.note(&format!("setup {position}/{count}: {}", output::printable(title)));
        }
    }
}

/// How many files of a kind are named in what is told about an upgrade.
const NAMED: usize = 20;

/// Returns what is told about the files of `config` slots after an upgrade.
fn upgraded(files: &Upgraded) -> Vec<String> {
    let shown = |path: &Path| output::printable(&path.to_string_lossy()).into_owned();
    let mut lines: Vec<String> = files
        .kept
        .iter()
        .map(|kept| {
            let how = match kept.how {
                How::Added => "added",
                How::Changed => "changed",
                How::Removed => "removed",
            };
            let newer = if kept.is_new_in_build { "; the new build has another version" } else { "" };
            format!("kept as you {how} it: `{}`{newer}", shown(&kept.path))
        })
        .collect();
    shorten(&mut lines, "more that you have changed are kept");
    let mut replaced: Vec<String> =
        files.replaced.iter().map(|path| format!("now the new build's: `{}`", shown(path))).collect();
    shorten(&mut replaced, "more are now the new build's");
    lines.extend(replaced);
    lines.extend(files.unknown.iter().map(|slot| {
        format!(
            "nobody can tell any more which files of slot `{slot}` you have changed; none is kept in place"
        )
    }));
    lines
}

/// Leaves out what would fill the screen.
fn shorten(lines: &mut Vec<String>, rest: &str) {
    if lines.len() > NAMED {
        let more = lines.len() - NAMED;
        lines.truncate(NAMED);
        lines.push(format!("{more} {rest}"));
    }
}

/// Tells who keeps a mount busy.
pub fn tell_users(context: &Context, mountpoint: &Path, waited: u64) {
    let shown = mountpoint.display();
    let message = format!("`{shown}` is still in use after {waited} s; it is unmounted when that ends");
    context.output.warn(&message);
    for line in describe(&users::of(mountpoint)) {
        context.output.note(&line);
    }
}

/// Returns a line for each process that uses a mount.
#[must_use]
pub fn describe(users: &MountUsers) -> Vec<String> {
    let mut lines: Vec<String> = users
        .users
        .iter()
        .map(|user| format!("used by process {}: {}", user.pid, output::printable(&user.command)))
        .collect();
    if users.hidden > 0 {
        let processes = if users.hidden == 1 { "1 process" } else { &format!("{} processes", users.hidden) };
        lines.push(format!("{processes} of other users could not be looked at"));
    }
    lines
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Prepare(error) => error.into(),
            RunError::Unpack(error) => error.into(),
            RunError::Launch(error) => error.into(),
            RunError::Refused { message } => refused(message),
            RunError::Start { .. } => Self::new(FailureKind::Execution, error.to_string()),
        }
    }
}

impl From<UnpackError> for Failure {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Prepare(error) => error.into(),
            UnpackError::Layers(error) => error.into(),
            UnpackError::Layer(error) => error.into(),
            UnpackError::Extract(error) => error.into(),
            UnpackError::Mounted { ref workenv, .. } => {
                let hint = format!("`slotfs unmount {workenv}` ends that mount");
                Self::new(FailureKind::Busy, error.to_string()).hint(hint)
            }
        }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Disk(error) => error.into(),
            LaunchError::NoCommand { .. } => Self::new(FailureKind::Execution, error.to_string())
                .hint("`slotfs mount` shows its files without running anything"),
            LaunchError::UnclosedQuote { .. }
            | LaunchError::NoProgram { .. }
            | LaunchError::NotText { .. }
            | LaunchError::BadVariableName { .. }
            | LaunchError::Nul { .. }
            | LaunchError::Outside { .. }
            | LaunchError::BadSetup { .. }
            | LaunchError::SetupStart { .. }
            | LaunchError::SetupFailed { .. } => Self::new(FailureKind::Execution, error.to_string()),
        }
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Access(error) => error.into(),
            PrepareError::Workenv(error) => error.into(),
            PrepareError::Launch(error) => error.into(),
            PrepareError::Session(error) => error.into(),
        }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        let busy = |message| Self::new(FailureKind::Busy, message);
        match error {
            SessionError::Disk(error) => error.into(),
            SessionError::Record(_) => Self::new(FailureKind::Disk, message),
            SessionError::Preparing { .. } => {
                busy(message).hint("wait until it has finished, then try again")
            }
            SessionError::Leaving { mountpoint, .. } => {
                let failure = busy(message);
                let users = users::of(&mountpoint);
                describe(&users).into_iter().fold(failure, Self::hint)
            }
            SessionError::Different { workenv, .. } => {
                busy(message).hint(format!("`slotfs unmount {workenv}` ends that mount"))
            }
            SessionError::Refused { cause, hints, .. } => {
                let failure = Self::new(kind_of(cause), message);
                let failure = hints.into_iter().fold(failure, Self::hint);
                match hint_for(cause) {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            SessionError::Spawn { .. }
            | SessionError::NotReady { .. }
            | SessionError::Died { .. }
            | SessionError::Wire(_)
            | SessionError::Wait { .. }
            | SessionError::Clear { .. } => Self::new(FailureKind::Mount, message),
        }
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        Self::new(kind_of(error.cause()), error.to_string())
    }
}

/// Returns what helps against what the serving process reports, where that can be said.
fn hint_for(cause: FailureCause) -> Option<&'static str> {
    match cause {
        FailureCause::Unavailable => {
            Some("`slotfs doctor` says what is missing; `--mode extract` does without")
        }
        FailureCause::DiskFull => disk_hint(ErrorKind::StorageFull),
        FailureCause::DiskReadOnly => disk_hint(ErrorKind::ReadOnlyFilesystem),
        FailureCause::Format
        | FailureCause::Verification
        | FailureCause::Mount
        | FailureCause::Disk
        | FailureCause::Busy => None,
    }
}

pub(super) fn kind_of(cause: FailureCause) -> FailureKind {
    match cause {
        FailureCause::Format => FailureKind::Format,
        FailureCause::Verification => FailureKind::Verification,
        FailureCause::Mount => FailureKind::Mount,
        FailureCause::Unavailable => FailureKind::Unavailable,
        FailureCause::Disk | FailureCause::DiskFull | FailureCause::DiskReadOnly => FailureKind::Disk,
        FailureCause::Busy => FailureKind::Busy,
    }
}

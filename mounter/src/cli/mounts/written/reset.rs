//! `slotfs reset`: what was written is taken back.

use std::path::{Path, PathBuf};

use slotfs_fs::layer::stack::Stack;
use slotfs_fs::overlay::take_back::{self, TakeBackError};
use slotfs_fs::overlay::{Change, Scope, Upper, View};

use super::diff::{self, Line};
use super::{Pause, consent, find, layers_of, quiet, scope};
use crate::cli::confirm::ConsentArguments;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::session::still::Quiet;
use crate::workenv::Listed;

/// Take back what programs wrote
///
/// Everything, or what is at or below the paths: what was added goes, what was changed or removed is as in the package
/// again. A file that has several names in the package is taken back under all of them. Taking back everything takes back
/// what setup commands wrote, too: they run again at the next start. While the environment is mounted, programs find the
/// package's files from then on, and keep those that they have open, as if they were removed. What an interrupted reset
/// has not taken back, the next one does.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A work environment's name or id, or the beginning of either
    #[arg(value_name = "NAME|ID")]
    what: PathBuf,
    /// Only what is at or below these paths, as seen in the environment
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Whether to go on.
    #[command(flatten)]
    consent: ConsentArguments,
    /// Print what is taken back as JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no such environment, it is in use, or the disk refuses.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let listed = find(&arguments.what, context)?;
    let scope = scope(&arguments.paths, &listed)?;
    let stack = layers_of(&listed, context);
    if stack.is_none() && !scope.is_everything() {
        let message = format!("what is at a path of `{}` is in its package", listed.workenv.name());
        let failure = Failure::new(FailureKind::NotFound, message);
        return Err(failure.hint("put the package back where it was, or take back everything"));
    }
    // Asked before anything is locked: a question may stay unanswered for long.
    if !arguments.consent.dry_run {
        drop(quiet(&listed)?);
    }
    let pause = Pause::begin(&listed, context);
    let view = View::open(&listed.workenv.upper())?;
    let told = view.map_or(Ok(Vec::new()), |view| affected(&view, stack.as_ref(), &scope))?;
    pause.end(context);
    if arguments.consent.dry_run || told.is_empty() {
        tell(arguments, &told, stack.as_ref(), context)?;
        return Ok(0);
    }
    let count = if told.len() == 1 { "1 change".into() } else { format!("{} changes", told.len()) };
    consent(arguments.consent.yes, &format!("Take back {count} in `{}`?", listed.workenv.name()), context)?;
    let told = match quiet(&listed)? {
        Quiet::Still(_still) => take_back_still(&listed, stack.as_ref(), &scope)?,
        Quiet::Live(mut live) => {
            live.line.hold()?;
            let view = View::open(&listed.workenv.upper())?;
            let told = view.map_or(Ok(Vec::new()), |view| affected(&view, stack.as_ref(), &scope))?;
            live.line.take_back(scope.paths())?;
            told
        }
    };
    tell(arguments, &told, stack.as_ref(), context)?;
    Ok(0)
}

/// Takes back what was written while nobody uses the environment; returns what that was.
fn take_back_still(listed: &Listed, stack: Option<&Stack>, scope: &Scope) -> Result<Vec<Change>, Failure> {
    let upper = Upper::open(&listed.workenv.upper(), &listed.workenv.work())?;
    let told = affected(&View::of(&upper)?, stack, scope)?;
    match stack.filter(|_| !scope.is_everything()) {
        Some(stack) => take_back::take_back(&upper, stack, scope)?,
        None => {
            // First, so that an environment without what setup wrote never counts as prepared.
            listed.workenv.forget_preparation()?;
            upper.clear()?;
        }
    }
    Ok(told)
}

/// Returns every change that goes, other names of the same files included.
fn affected(view: &View, stack: Option<&Stack>, scope: &Scope) -> Result<Vec<Change>, Failure> {
    let mut told = diff::collect(view, stack, scope)?;
    if let (Some(stack), false) = (stack, scope.is_everything()) {
        let plan = take_back::plan(view, stack, scope)?;
        for path in plan.other_names() {
            told.extend(diff::collect(view, Some(stack), &Scope::of(vec![path.clone()]))?);
        }
    }
    Ok(told)
}

fn tell(
    arguments: &Arguments,
    told: &[Change],
    stack: Option<&Stack>,
    context: &Context,
) -> Result<(), Failure> {
    if arguments.json {
        let lines: Vec<Line> = told.iter().map(|change| Line::of(change, stack)).collect();
        return context
            .output
            .json(&serde_json::json!({ "dry_run": arguments.consent.dry_run, "taken_back": lines }));
    }
    if arguments.consent.dry_run {
        context.output.data(&diff::text(told, stack, &context.output))?;
    }
    let verb = if arguments.consent.dry_run { "would be" } else { "were" };
    match told.len() {
        0 => context.output.note("nothing to take back"),
        1 => context.output.note(&format!("1 change {} taken back", verb.replace("were", "was"))),
        count => context.output.note(&format!("{count} changes {verb} taken back")),
    }
    Ok(())
}

impl From<TakeBackError> for Failure {
    fn from(error: TakeBackError) -> Self {
        let message = format!("cannot take back: {error}");
        match error {
            TakeBackError::Layer(error) => error.into(),
            TakeBackError::Below { above, .. } => Self::new(FailureKind::Usage, message)
                .hint(format!("take back `{}` as a whole", Path::new(&above).display())),
            TakeBackError::Moved { path, to } => {
                Self::new(FailureKind::Usage, message).hint(format!("take back both, `{path}` and `{to}`"))
            }
        }
    }
}

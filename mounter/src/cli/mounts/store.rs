//! `slotfs store`: the store that all work environments share.

use serde::Serialize;

use super::clean::counted;
use super::session;
use crate::cleanup::check::{self, Checked, Damage, Damaged, Repaired};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::{Tone, human_size};
use crate::cli::package::{self, Recall};
use crate::cli::progress::Bars;
use crate::cli::table::{Cell, Side, Table};
use crate::extract::layers;
use crate::workenv::Cache;

/// Look after what all work environments share
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, clap::Subcommand)]
enum StoreCommand {
    /// Read everything in the store and compare it with its name
    ///
    /// Contents that were decoded from packages lie in the store under their SHA-256, indexes of slots carry checksums. A
    /// program never gets damaged bytes, checked or not: what does not fit is made again from the package when it is
    /// needed. This finds it earlier, for example after a disk has failed. Exit code 1 says that there is damage left.
    Check(CheckArguments),
}

#[derive(Debug, clap::Args)]
struct CheckArguments {
    /// Remove what is damaged, and make it anew from the packages
    #[arg(long)]
    repair: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    contents: u64,
    indexes: u64,
    bytes: u64,
    damaged: Vec<ReportedDamage>,
    /// Whether all that was damaged is removed.
    repaired: bool,
    /// Slots that were made anew, by the SHA-256 of their stored bytes.
    rebuilt_slots: Vec<String>,
    /// Slots that are made anew when their package is used again, because it was not found.
    left_slots: Vec<String>,
}

#[derive(Serialize)]
struct ReportedDamage {
    /// `content` or `index`.
    what: &'static str,
    /// The content's SHA-256, or the index's path.
    name: String,
    reason: String,
    environments: Vec<String>,
}

/// Carries the command out.
///
/// # Errors
/// The store cannot be read or repaired, or there is damage left.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let StoreCommand::Check(arguments) = &arguments.command;
    session::sweep(context);
    let cache = Cache::new(&context.settings.cache_directory.value);
    let bars = Bars::new(context.output);
    let checked = check::check(&cache, &bars)?;
    bars.clear();
    let repaired = if arguments.repair && !checked.damaged.is_empty() {
        Some(repair(&cache, &checked, context)?)
    } else {
        None
    };
    if arguments.json {
        context.output.json(&report(&checked, repaired.as_ref()))?;
    } else {
        show(&checked, context)?;
        if let Some(repaired) = &repaired {
            tell(repaired, context);
        }
    }
    if checked.damaged.is_empty() || repaired.is_some() {
        return Ok(0);
    }
    let message = format!("damaged in the store: {}", counted(checked.damaged.len() as u64, "file"));
    Err(Failure::new(FailureKind::Negative, message)
        .hint("`slotfs store check --repair` makes them anew; until then nobody is served from them"))
}

fn repair(cache: &Cache, checked: &Checked, context: &Context) -> Result<Repaired, Failure> {
    let limits = layers::limits(context.settings.limits());
    let mut open = |path: &std::path::Path| {
        let opened = package::open(path).and_then(|package| {
            package::hash(&package, Recall::Allowed, context).map(|found| (package, found))
        });
        opened.inspect_err(|failure| context.output.warn(&failure.message)).ok()
    };
    Ok(check::repair(cache, checked, limits, &mut open)?)
}

fn named(damage: &Damage) -> (&'static str, String) {
    match &damage.what {
        Damaged::Content(digest) => ("content", digest.to_string()),
        Damaged::Index(path) => ("index", path.display().to_string()),
    }
}

fn report(checked: &Checked, repaired: Option<&Repaired>) -> Report {
    let damaged = checked.damaged.iter().map(|damage| {
        let (what, name) = named(damage);
        let environments = damage.environments.iter().cloned().collect();
        ReportedDamage { what, name, reason: damage.reason.clone(), environments }
    });
    let none = Repaired::default();
    let done = repaired.unwrap_or(&none);
    Report {
        contents: checked.contents,
        indexes: checked.indexes,
        bytes: checked.bytes,
        damaged: damaged.collect(),
        repaired: repaired.is_some(),
        rebuilt_slots: done.rebuilt.iter().map(ToString::to_string).collect(),
        left_slots: done.left.iter().map(ToString::to_string).collect(),
    }
}

fn show(checked: &Checked, context: &Context) -> Result<(), Failure> {
    let Checked { contents, indexes, bytes, damaged } = checked;
    if !damaged.is_empty() {
        let mut table = Table::new([
            ("DAMAGED", Side::Left),
            ("NAME", Side::Left),
            ("OF", Side::Left),
            ("REASON", Side::Left),
        ]);
        for damage in damaged {
            let (what, name) = named(damage);
            let environments: Vec<&str> = damage.environments.iter().map(String::as_str).collect();
            table.row([
                Cell::toned(Tone::Bad, what),
                name.into(),
                environments.join(", ").into(),
                Cell::toned(Tone::Faint, damage.reason.as_str()),
            ]);
        }
        context.output.data(&table.render(&context.output, 0))?;
    }
    let read = human_size(*bytes);
    let damaged = damaged.len();
    context.output.note(&format!("contents: {contents}, indexes: {indexes}; {read} read, {damaged} damaged"));
    Ok(())
}

fn tell(repaired: &Repaired, context: &Context) {
    let rebuilt = counted(repaired.rebuilt.len() as u64, "slot");
    context.output.note(&format!("what was damaged is removed, {rebuilt} made anew from packages"));
    if !repaired.left.is_empty() {
        let left = counted(repaired.left.len() as u64, "slot");
        context.output.note(&format!("{left} without a package here: made anew when one is used again"));
    }
}

//! `slotfs list`: every work environment of this cache, whoever made it, and slotfs's other mounts.

use super::context::Context;
use super::failure::Failure;
use super::mounts;
use super::output::{Output, Tone, human_age, human_size};
use super::status::{self, OtherMount, State, Status};
use super::table::{Cell, Side, Table};
use crate::host::mount_table;
use crate::workenv::Cache;

/// List work environments and their state
///
/// Shown are name, package, state, what was written, and when it was last used. Those that package launchers made are
/// listed too. Other mounts of slotfs follow: those of `slotfs overlay`, of mount(8), and of other caches. What is mounted
/// is read from the kernel's mount table.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
///
/// # Errors
/// The cache directory or the mount table cannot be read.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let cache = Cache::new(&context.settings.cache_directory.value);
    mounts::sweep(context);
    let table = mount_table::read()?;
    let mut statuses: Vec<Status> = cache.all()?.iter().map(|listed| status::of(listed, &table)).collect();
    statuses
        .sort_by(|left, right| right.last_used.cmp(&left.last_used).then_with(|| left.name.cmp(&right.name)));
    let others = status::others(&statuses, &table);
    if arguments.json {
        let cache = cache.directory().display().to_string();
        let report = serde_json::json!({ "cache": cache, "environments": statuses, "other_mounts": others });
        context.output.json(&report)?;
        return Ok(0);
    }
    if statuses.is_empty() {
        context.output.note(&format!("no work environments in `{}`", cache.directory().display()));
    } else {
        context.output.data(&text(&statuses, &context.output))?;
    }
    if !others.is_empty() {
        let gap = if statuses.is_empty() { "" } else { "\n" };
        context.output.data(&format!("{gap}{}", other_text(&others, &context.output)))?;
    }
    Ok(0)
}

fn other_text(others: &[OtherMount], output: &Output) -> String {
    let mut table = Table::new([("MOUNTED AT", Side::Left), ("SOURCE", Side::Left), ("STATE", Side::Left)]);
    for mount in others {
        let access = if mount.read_only { ", read-only" } else { "" };
        table.row([
            Cell::toned(Tone::Heading, mount.mountpoint.as_str()),
            mount.source.as_str().into(),
            Cell::toned(tone(mount.state), format!("{}{access}", mount.state.word())),
        ]);
    }
    table.render(output, 0)
}

fn text(statuses: &[Status], output: &Output) -> String {
    let mut table = Table::new([
        ("NAME", Side::Left),
        ("PACKAGE", Side::Left),
        ("STATE", Side::Left),
        ("WRITTEN", Side::Right),
        ("LAST USED", Side::Left),
        ("MADE BY", Side::Left),
        ("ID", Side::Left),
    ]);
    for status in statuses {
        let package = match (&status.package, &status.version) {
            (Some(name), Some(version)) => format!("{name} {version}").trim_end().to_owned(),
            _ => "?".to_owned(),
        };
        table.row([
            Cell::toned(Tone::Heading, status.name.as_str()),
            package.into(),
            state_cell(status),
            status.written_bytes.map_or_else(|| "–".to_owned(), human_size).into(),
            status.last_used.map_or_else(|| "?".to_owned(), |used| human_age(status::ago(used))).into(),
            status.made_by.into(),
            Cell::toned(Tone::Faint, status.id.as_deref().unwrap_or("?")),
        ]);
    }
    table.render(output, 0)
}

fn state_cell(status: &Status) -> Cell {
    let elsewhere = status.mount.as_ref().filter(|mount| mount.mountpoint != status.content);
    let place = elsewhere.map(|mount| format!(" at {}", mount.mountpoint)).unwrap_or_default();
    let server = status.mount.as_ref().and_then(|mount| mount.pid);
    let server = server.map(|pid| format!(" ({pid})")).unwrap_or_default();
    Cell::toned(tone(status.state), format!("{}{place}{server}", status.state.word()))
}

fn tone(state: State) -> Tone {
    match state {
        State::Mounted => Tone::Good,
        State::Dead | State::Hung => Tone::Bad,
        State::Unfinished => Tone::Warning,
        State::Ready | State::Extracted => Tone::Plain,
    }
}

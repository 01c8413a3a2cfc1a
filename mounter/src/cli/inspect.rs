//! `slotfs inspect`: what a package holds and what became of it here.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use slotfs_fs::package::signature::SignatureState;
use slotfs_fs::package::{Container, Package, PackageKind, Slot};

use super::context::Context;
use super::failure::Failure;
use super::mounts;
use super::output::{Output, Tone, human_age, human_size};
use super::package;
use super::status::{self, MountStatus, State, Status};
use super::table::{Cell, Side, Table};
use crate::host::mount_table;
use crate::plan::{self, KeyStores, SlotPlan, Wishes};
use crate::workenv::{Cache, Listed, WorkenvError};

/// Show what a package holds and what became of it here
///
/// Takes a package, archive or directory, or the name, id or unique beginning of either of a work environment.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A package, or a work environment's name or id
    #[arg(value_name = "PACKAGE|ID")]
    what: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    package: Option<PackageReport>,
    environment: Option<Status>,
}

#[derive(Debug, Serialize)]
struct PackageReport {
    path: String,
    kind: PackageKind,
    name: String,
    version: String,
    id: String,
    size: u64,
    launcher_size: Option<u64>,
    command: Option<String>,
    setup_commands: usize,
    builder: Option<String>,
    built: Option<String>,
    platform: Option<String>,
    signature: Option<SignatureReport>,
    slots: Vec<SlotReport>,
}

#[derive(Debug, Serialize)]
struct SignatureReport {
    state: SignatureState,
    key_fingerprint: String,
    /// The name under which the key is trusted here.
    signer: Option<String>,
}

#[derive(Debug, Serialize)]
struct SlotReport {
    position: u32,
    id: String,
    purpose: String,
    target: String,
    chain: String,
    container: &'static str,
    stored_bytes: u64,
    digest: Option<String>,
    mode: Option<String>,
    lifecycle: LifecycleReport,
    writable: bool,
}

#[derive(Debug, Serialize)]
struct LifecycleReport {
    /// As the metadata spells it.
    name: String,
    /// What slotfs takes it for.
    meaning: &'static str,
    in_setup: bool,
    in_run: bool,
    /// Why the program does not see the slot.
    absence: Option<String>,
    /// What is to be said about an unknown name.
    note: Option<String>,
}

/// Carries the command out.
///
/// # Errors
/// There is no such package or environment, or it cannot be read.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    mounts::sweep(context);
    let cache = Cache::new(&context.settings.cache_directory.value);
    let (package, listed) = find(&arguments.what, &cache, context)?;
    let table = mount_table::read()?;
    let report = Report {
        package: package.as_ref().map(|package| describe(package, context)).transpose()?,
        environment: listed.map(|listed| status::of(&listed, &table)),
    };
    if arguments.json {
        context.output.json(&report)?;
    } else {
        context.output.data(&text(&report, &context.output))?;
    }
    Ok(0)
}

/// What exists as a file is a package; everything else is looked for among the environments.
fn find(what: &Path, cache: &Cache, context: &Context) -> Result<(Option<Package>, Option<Listed>), Failure> {
    if !what.exists() || is_environment(what, cache) {
        let listed = cache.find(what).map_err(|error| neither(what, error))?;
        let package = match &listed.path {
            Some(path) => open_noted(path, &listed, context),
            None => None,
        };
        return Ok((package, Some(listed)));
    }
    let package = package::open(what)?;
    let all = cache.all()?;
    let listed =
        all.into_iter().find(|listed| listed.id.as_ref().is_some_and(|id| id.as_str() == package.id()));
    Ok((Some(package), listed))
}

/// Says that nothing answers to `what`: what looks like a file was meant as one.
fn neither(what: &Path, error: WorkenvError) -> Failure {
    let is_missing = matches!(error, WorkenvError::NotFound { .. });
    let is_path = what.components().count() > 1 || what.extension().is_some();
    match package::open(what) {
        Err(failure) if is_missing && is_path => failure,
        _ => error.into(),
    }
}

/// Tells whether `what` is the content directory of an environment of `cache`, without asking the directory itself.
fn is_environment(what: &Path, cache: &Cache) -> bool {
    let parent = what.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let same = parent.canonicalize().ok().zip(cache.directory().canonicalize().ok());
    same.is_some_and(|(parent, cache)| parent == cache) && cache.find(what).is_ok()
}

/// Opens the package that an environment was made from, if it is still the same one.
fn open_noted(path: &Path, listed: &Listed, context: &Context) -> Option<Package> {
    match package::open(path) {
        Ok(package) if listed.id.as_ref().is_some_and(|id| id.as_str() == package.id()) => Some(package),
        Ok(_) => {
            context.output.warn(&format!("`{}` is another package by now", path.display()));
            None
        }
        Err(failure) => {
            context.output.warn(&failure.message);
            None
        }
    }
}

fn describe(package: &Package, context: &Context) -> Result<PackageReport, Failure> {
    let plans = plan::slots(package, &Wishes::default(), plan::machine())?;
    let metadata = package.metadata();
    let build = |key: &str| Some(metadata.build.as_ref()?.get(key)?.as_str()?.to_owned());
    let platform = || {
        let platform = metadata.build.as_ref()?.get("platform")?;
        Some(format!("{} {}", platform.get("os")?.as_str()?, platform.get("arch")?.as_str()?))
    };
    let keys = KeyStores::read(&context.settings.trusted_keys.value);
    Ok(PackageReport {
        path: package.path().display().to_string(),
        kind: package.kind(),
        name: package.name().to_owned(),
        version: package.version().to_owned(),
        id: package.id().to_owned(),
        size: package.identity().size,
        launcher_size: package.index().map(|index| index.launcher_size.get()),
        command: metadata.execution.as_ref().map(|execution| execution.command.clone()),
        setup_commands: metadata.setup_commands.len(),
        builder: build("tool")
            .map(|tool| format!("{tool} {}", build("tool_version").unwrap_or_default()).trim().to_owned()),
        built: build("timestamp"),
        platform: platform(),
        signature: package.evidence().map(|evidence| SignatureReport {
            state: evidence.signature,
            key_fingerprint: evidence.key_fingerprint.to_string(),
            signer: keys.name_of(&evidence.public_key).map(str::to_owned),
        }),
        slots: package.slots().iter().zip(&plans).map(|(slot, plan)| describe_slot(slot, plan)).collect(),
    })
}

fn describe_slot(slot: &Slot, plan: &SlotPlan) -> SlotReport {
    let container = match slot.source.container {
        Container::File => "file",
        Container::Tar => "tar",
        Container::Zip => "zip",
        Container::Directory(_) => "directory",
    };
    let target: Vec<_> = slot.target.iter().map(|part| String::from_utf8_lossy(part)).collect();
    SlotReport {
        position: slot.position,
        id: slot.id.clone(),
        purpose: slot.purpose.clone(),
        target: target.join("/"),
        chain: slot.chain.clone(),
        container,
        stored_bytes: slot.source.stored.len(),
        digest: slot.digest.map(|digest| digest.to_string()),
        mode: (slot.source.container == Container::File).then(|| format!("{:04o}", slot.permissions)),
        lifecycle: LifecycleReport {
            name: slot.lifecycle.clone(),
            meaning: plan.lifecycle.name(),
            in_setup: plan.in_setup,
            in_run: plan.in_run,
            absence: plan.absence.clone(),
            note: plan.note.clone(),
        },
        writable: plan.writable,
    }
}

fn text(report: &Report, output: &Output) -> String {
    let mut text = String::new();
    if let Some(package) = &report.package {
        package_text(&mut text, package, output);
    }
    if let Some(status) = &report.environment {
        if !text.is_empty() {
            text.push('\n');
        }
        environment_text(&mut text, status, output);
    } else {
        let _ = writeln!(text, "\n{}", output.paint(Tone::Faint, "no work environment yet"));
    }
    text
}

fn package_text(text: &mut String, package: &PackageReport, output: &Output) {
    let title = format!("{} {}", package.name, package.version);
    let _ = writeln!(text, "{}", output.paint(Tone::Heading, title.trim_end()));
    let mut field = |name: &str, value: &str| line(text, name, value, output);
    field("file", &package.path);
    field("id", &package.id);
    let size = human_size(package.size);
    match (package.kind, package.launcher_size) {
        (PackageKind::Pspf, Some(launcher)) => {
            field("size", &format!("{size}, {} of that its launcher", human_size(launcher)));
        }
        (PackageKind::Directory, _) => field("kind", "a directory, taken for a package of one slot"),
        (PackageKind::Pspf | PackageKind::Archive | PackageKind::CompressedFile, _) => field("size", &size),
    }
    // To the second: `2026-11-20T17:11:15`.
    let time = package.built.as_deref().map(|time| time.get(..19).unwrap_or(time));
    let built = [package.builder.as_deref(), time, package.platform.as_deref()];
    let built: Vec<&str> = built.into_iter().flatten().collect();
    if !built.is_empty() {
        field("built", &built.join(", "));
    }
    if let Some(signature) = &package.signature {
        field("signature", &signature_text(signature));
    }
    if let Some(command) = &package.command {
        field("command", command);
    }
    match package.setup_commands {
        0 => {}
        1 => field("setup", "1 command"),
        count => field("setup", &format!("{count} commands")),
    }
    text.push('\n');
    text.push_str(&slot_table(&package.slots).render(output, 2));
    for slot in &package.slots {
        // That an `init` slot goes after setup is what its lifecycle says already.
        let absence = slot.lifecycle.absence.as_ref().filter(|_| !slot.lifecycle.in_setup);
        let absence = absence.map(|reason| format!("not mounted: {reason}"));
        for note in absence.iter().chain(&slot.lifecycle.note) {
            let line = format!("slot {}: {note}", slot.id);
            let _ =
                writeln!(text, "  {} {}", output.paint(Tone::Warning, "!"), output.paint(Tone::Plain, &line));
        }
    }
}

fn signature_text(signature: &SignatureReport) -> String {
    let key = signature.key_fingerprint.get(..16).unwrap_or(&signature.key_fingerprint);
    match (signature.state, &signature.signer) {
        (SignatureState::Valid, Some(name)) => format!("valid, by `{name}` (key {key})"),
        (SignatureState::Valid, None) => format!("valid, by key {key}"),
        (SignatureState::Invalid, _) => format!("WRONG: not made by key {key}"),
        (SignatureState::Absent, _) => "none".into(),
    }
}

fn slot_table(slots: &[SlotReport]) -> Table {
    let mut table = Table::new([
        ("#", Side::Right),
        ("SLOT", Side::Left),
        ("STORED", Side::Right),
        ("CHAIN", Side::Left),
        ("LIFECYCLE", Side::Left),
        ("TARGET", Side::Left),
    ]);
    for slot in slots {
        let target = if slot.target.is_empty() { "." } else { &slot.target };
        table.row([
            Cell::toned(Tone::Faint, slot.position.to_string()),
            slot.id.as_str().into(),
            human_size(slot.stored_bytes).into(),
            slot.chain.as_str().into(),
            slot.lifecycle.meaning.into(),
            target.into(),
        ]);
    }
    table
}

fn environment_text(text: &mut String, status: &Status, output: &Output) {
    let title = format!("work environment {}", status.name);
    let _ = writeln!(text, "{}", output.paint(Tone::Heading, &title));
    let mut field = |name: &str, value: &str| line(text, name, value, output);
    field("place", &status.content);
    let made_by = match status.made_by {
        "launcher" => ", made by the package's launcher",
        _ => "",
    };
    field("state", &format!("{}{made_by}", status.state.word()));
    if let Some(mount) = &status.mount {
        field("mounted", &mount_text(mount, status.state));
    }
    if let (Some(bytes), Some(upper)) = (status.written_bytes, &status.upper) {
        field("written", &format!("{} in {upper}", human_size(bytes)));
    }
    if let Some(used) = status.last_used {
        field("last used", &human_age(status::ago(used)));
    }
}

fn mount_text(mount: &MountStatus, state: State) -> String {
    let mut text = format!("at {}", mount.mountpoint);
    if mount.read_only {
        text.push_str(", read-only");
    }
    match (state, mount.pid) {
        (State::Dead, _) => text.push_str(", but its server is gone"),
        (State::Hung, Some(pid)) => {
            let _ = write!(text, ", but process {pid}, its server, does not answer");
        }
        (_, Some(pid)) => {
            let _ = write!(text, ", served by process {pid}");
        }
        (_, None) => {
            let _ = write!(text, ", not by slotfs ({})", mount.file_system);
        }
    }
    if let Some(since) = mount.since {
        let _ = write!(text, ", made {}", human_age(status::ago(since)));
    }
    text
}

fn line(text: &mut String, name: &str, value: &str, output: &Output) {
    let name = output.paint(Tone::Faint, &format!("{name:<10}"));
    let _ = writeln!(text, "  {name} {}", output.paint(Tone::Plain, &value.replace('\n', "\\n")));
}

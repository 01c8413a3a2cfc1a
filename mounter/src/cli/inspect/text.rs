//! What `slotfs inspect` shows a person.

use std::fmt::Write as _;

use slotfs_fs::package::PackageKind;
use slotfs_fs::package::signature::SignatureState;

use super::report::{IndexReport, PackageReport, Report, SignatureReport, SlotReport};
use crate::cli::output::{Output, Tone, human_age, human_size};
use crate::cli::status::{self, MountStatus, State, Status};
use crate::cli::table::{Cell, Side, Table};

/// Returns the report as text.
pub(super) fn of(report: &Report, output: &Output) -> String {
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
        let own = absence.iter().chain(&slot.lifecycle.note);
        let own = own.map(|note| format!("slot {}: {note}", slot.id));
        for line in own.chain(slot.index.iter().flat_map(|index| index.lines.clone())) {
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
        ("INDEX", Side::Left),
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
            index_cell(slot.index.as_ref()),
        ]);
    }
    table
}

fn index_cell(index: Option<&IndexReport>) -> Cell {
    match index {
        Some(IndexReport { entries: Some(1), .. }) => "1 entry".into(),
        Some(IndexReport { entries: Some(entries), .. }) => format!("{entries} entries").into(),
        Some(_) => Cell::toned(Tone::Faint, "not yet"),
        None => Cell::toned(Tone::Faint, "–"),
    }
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

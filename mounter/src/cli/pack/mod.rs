//! `slotfs pack`: a package from directories, archives, files, or FlavorPack's manifest; or from a package.

pub(super) mod optimize;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};
use slotfs_fs::layer::archive::Links;
use slotfs_fs::package::keys::KeyPair;
use slotfs_fs::package::{Limits, Package, PackageKind};

use crate::cli::context::Context;
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::{escaped, human_duration, human_size};
use crate::cli::progress::Bars;
use crate::cli::table::{Cell, Side, Table};
use crate::cli::{confirm, mounts, package};
use crate::extract::layers;
use crate::host::interrupt;
use crate::pack::manifest::Manifest;
use crate::pack::{self, Archives, Launcher, PackError, Profile, Report, Request, SlotReport, SlotRequest};
use crate::settings::variables;

/// What a shell reports for a program that Ctrl-C ended.
pub(in crate::cli) const INTERRUPTED: u8 = 130;
/// How many differences are told one by one.
const TOLD: usize = 10;

/// What signs a package; for every command that makes one.
#[derive(Clone, Debug, clap::Args)]
pub struct SigningArguments {
    /// Sign with the private key in this file, as `slotfs keygen` makes it
    #[arg(long, value_name = "FILE", conflicts_with = "key_seed")]
    private_key: Option<PathBuf>,
    /// Sign with the key that FlavorPack makes of this text; who knows the text can sign, too
    #[arg(long, value_name = "TEXT")]
    key_seed: Option<String>,
}

impl SigningArguments {
    /// Returns the key, one made for this once where none is named.
    ///
    /// # Errors
    /// It cannot be read, or this machine has no randomness.
    pub(in crate::cli) fn key(&self) -> Result<KeyPair, Failure> {
        Ok(match (&self.private_key, &self.key_seed) {
            (Some(path), _) => KeyPair::read(path)?,
            (None, Some(seed)) => KeyPair::from_seed(seed),
            (None, None) => KeyPair::generate()?,
        })
    }

    /// Says where a package was signed with a key that nobody has.
    pub(in crate::cli) fn tell(&self, context: &Context) {
        if self.private_key.is_none() && self.key_seed.is_none() {
            context
                .output
                .note("signed with a key that was made for this once; `--private-key` signs with yours");
        }
    }
}

/// Returns how hard to compress.
///
/// # Errors
/// There is no such level for the profile.
pub(in crate::cli) fn level(profile: Profile, wanted: Option<u32>) -> Result<u32, Failure> {
    match (profile, wanted) {
        (Profile::Compatible, Some(level @ 10..)) => {
            Err(Failure::new(FailureKind::Usage, format!("there is no level {level} of gzip"))
                .hint("levels are 1 to 9, and to 19 with `--profile fast`"))
        }
        (_, Some(level)) => Ok(level),
        (Profile::Compatible, None) => Ok(6),
        (Profile::Fast, None) => Ok(3),
    }
}

/// Says what is not as it was in the sources of a slot, the first few times.
pub(in crate::cli) fn tell_differences(slot: &SlotReport, context: &Context) {
    for difference in slot.differences.iter().take(TOLD) {
        let path = escaped(difference.path.as_bytes());
        context.output.warn(&format!("slot {}: `{path}` {}", slot.id, difference.what));
    }
    if slot.differences.len() > TOLD {
        let rest = slot.differences.len() - TOLD;
        context.output.warn(&format!("slot {}: {rest} more are not as in the source", slot.id));
    }
}

/// Make a package
///
/// Each source becomes a slot: a directory or an archive (.tar, .tar.gz, .zip and the others) a tree of files, any other
/// file one file. What is said of a slot stands behind its path: `libs,target=opt/libs,lifecycle=lazy`. Keys are `id`,
/// `target` (where it goes in the work environment), `operations` (raw, gzip, tar, tar.gzip), `lifecycle`, `purpose`,
/// `mode` (of a file) and `platform`. FlavorPack's JSON manifest says the same and more; its slots come first.
///
/// The package runs under FlavorPack's own launchers, and its slots can be read at random. It is the same byte for byte
/// each time: entries are sorted and belong to nobody, and with SOURCE_DATE_EPOCH set nothing in it is younger.
///
/// `--recorded` names the environment whose launches were recorded; `--profile` was taken already, and says for whom the
/// package is made.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Directories, archives and files, each with what is said of it
    #[arg(value_name = "PATH[,KEY=VALUE]")]
    sources: Vec<OsString>,
    /// Where to write the package
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// FlavorPack's JSON manifest; its sources are relative to the current directory
    #[arg(short, long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The package's name [default: that of the manifest, else of the file]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The package's version [default: that of the manifest, else 0.0.0]
    #[arg(long, value_name = "VERSION")]
    package_version: Option<String>,
    /// The program and its arguments, such as `{workenv}/bin/app --now` [default: that of the manifest]
    #[arg(long, value_name = "COMMAND")]
    command: Option<String>,
    /// A variable for the program; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A command to run once, after the files are there; may be given several times
    #[arg(long, value_name = "COMMAND")]
    setup: Vec<String>,
    /// The executable in front: a file, a package to take it from, or the word `slotfs` for slotfs itself, which then has
    /// to be installed nowhere [default: a script that calls slotfs]
    #[arg(long, value_name = "FILE|slotfs")]
    launcher: Option<PathBuf>,
    /// What signs it.
    #[command(flatten)]
    signing: SigningArguments,
    /// For whom to make it [default: compatible; with --optimize fast if the package has slots in zstd]
    #[arg(long, value_name = "PROFILE", value_enum)]
    profile: Option<Profile>,
    /// Take a finished package instead of sources: the same slots, metadata and launcher, each compressed slot in the form that
    /// `--profile` says, signed anew
    #[arg(long, value_name = "PACKAGE", conflicts_with_all =
        ["sources", "manifest", "name", "package_version", "command", "env", "setup", "keep_links"])]
    optimize: Option<PathBuf>,
    /// Put first and together what launches touched in this work environment, as `slotfs profile` shows it
    #[arg(long, value_name = "NAME|ID")]
    recorded: Option<PathBuf>,
    /// How hard to compress: 1 to 9, or to 19 with the fast profile [default: 6, or 3 with the fast profile]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(1..=19))]
    level: Option<u32>,
    /// Keep symbolic links, which FlavorPack's launchers refuse, instead of putting what they lead to in their place
    #[arg(long)]
    keep_links: bool,
    /// Do not ask before a file is replaced that is no package
    #[arg(short, long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
///
/// # Errors
/// There is no new package then.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let started = Instant::now();
    let stop = interrupt::watch();
    may_be_replaced(&arguments.output, arguments.yes, context)?;
    if let Some(old) = &arguments.optimize {
        return optimize::run(old, arguments, (stop, started), context);
    }
    let request = request(arguments, context)?;
    let archives =
        Archives { home: package::home(context)?, limits: layers::limits(context.settings.limits()) };
    let bars = Bars::new(context.output);
    let packed = pack::pack(&request, &arguments.output, &archives, stop, &bars);
    bars.clear();
    let report = match packed {
        Err(error @ PackError::Interrupted) => {
            context.output.failure(&Failure::from(error));
            return Ok(INTERRUPTED);
        }
        other => other?,
    };
    tell(&report, arguments, context);
    arguments.signing.tell(context);
    show(&report, arguments, &request, started, context)?;
    Ok(0)
}

/// Asks before `path` is replaced, if it is something else than a package: what is no package is somebody's own.
///
/// # Errors
/// It is a directory, or nobody allows to replace it.
pub(in crate::cli) fn may_be_replaced(path: &Path, yes: bool, context: &Context) -> Result<(), Failure> {
    if path.is_dir() {
        let message = format!("`{}` is a directory", path.display());
        return Err(Failure::new(FailureKind::Usage, message).hint("name the file that the package is to be"));
    }
    let is_package = |path: &Path| {
        Package::open(path, &Limits::default()).is_ok_and(|package| package.kind() == PackageKind::Pspf)
    };
    if path.symlink_metadata().is_err() || is_package(path) {
        return Ok(());
    }
    confirm::replace(path, "and is no package", yes, &context.output)
}

fn request(arguments: &Arguments, context: &Context) -> Result<Request, Failure> {
    let folder = context.environment.working_directory();
    let mut manifest = arguments
        .manifest
        .as_deref()
        .map(|path| Manifest::read(path, folder))
        .transpose()?
        .unwrap_or_default();
    for key in &manifest.unknown {
        context.output.warn(&format!("the manifest's `{key}` is left out: no package has it"));
    }
    for text in &arguments.sources {
        manifest.slots.push(SlotRequest::parse(text)?);
    }
    if manifest.slots.is_empty() && arguments.manifest.is_none() {
        return Err(Failure::new(FailureKind::Usage, "there is nothing to pack")
            .hint("name directories, archives or files, or a manifest with `--manifest`"));
    }
    let sections = &mut manifest.sections;
    let given = |section: Option<&Value>, key: &str| {
        section.and_then(|section| section.get(key)).and_then(Value::as_str).map(str::to_owned)
    };
    let stem = || arguments.output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let described = sections.remove("package");
    let mut described_as = json!({
        "name": arguments.name.clone().or_else(|| given(described.as_ref(), "name")).unwrap_or_else(stem),
        "version": arguments.package_version.clone().or_else(|| given(described.as_ref(), "version"))
            .unwrap_or_else(|| "0.0.0".to_owned()),
    });
    if let Some(text) = given(described.as_ref(), "description") {
        described_as["description"] = text.into();
    }
    sections.insert("package".into(), described_as);
    execution(arguments, sections)?;
    setup(arguments, sections);
    let key = arguments.signing.key()?;
    Ok(Request {
        sections: manifest.sections,
        slots: manifest.slots,
        launcher: arguments.launcher.as_deref().map_or(Launcher::Script, Launcher::named),
        key,
        latest: latest(context)?,
        level: level(arguments.profile.unwrap_or_default(), arguments.level)?,
        links: if keeps_links(arguments) { Links::Keep } else { Links::Follow },
        first: first(arguments, context)?,
        profile: arguments.profile.unwrap_or_default(),
    })
}

/// Returns the files that come first.
fn first(arguments: &Arguments, context: &Context) -> Result<Arc<[Vec<u8>]>, Failure> {
    match &arguments.recorded {
        Some(what) => mounts::touched_files(what, context),
        None => Ok(Arc::default()),
    }
}

fn keeps_links(arguments: &Arguments) -> bool {
    arguments.keep_links || arguments.profile == Some(Profile::Fast)
}

fn execution(arguments: &Arguments, sections: &mut serde_json::Map<String, Value>) -> Result<(), Failure> {
    if let Some(command) = &arguments.command {
        let execution = sections.entry("execution").or_insert(Value::Null);
        if execution.is_null() {
            *execution = json!({ "command": "", "env": {} });
        }
        execution["command"] = command.as_str().into();
    }
    for pair in &arguments.env {
        let Some((name, value)) = pair.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Failure::new(FailureKind::Usage, format!("`{pair}` is no variable"))
                .hint("variables are given as `--env NAME=VALUE`"));
        };
        let Some(execution) = sections.get_mut("execution").filter(|execution| !execution.is_null()) else {
            return Err(Failure::new(FailureKind::Usage, "variables are for a program, and there is none")
                .hint("name it with `--command`"));
        };
        execution["env"][name] = value.into();
    }
    Ok(())
}

fn setup(arguments: &Arguments, sections: &mut serde_json::Map<String, Value>) {
    let commands = arguments.setup.iter().map(|command| json!({ "type": "execute", "command": command }));
    let list = sections.entry("setup_commands").or_insert_with(|| json!([]));
    if let Some(list) = list.as_array_mut() {
        list.extend(commands);
    }
}

/// Returns the time that nothing in the package may be later than.
fn latest(context: &Context) -> Result<Option<i64>, Failure> {
    let Some(text) = context.environment.filled(variables::SOURCE_DATE_EPOCH) else { return Ok(None) };
    let seconds =
        text.to_str().and_then(|text| text.trim().parse::<i64>().ok()).filter(|seconds| *seconds >= 0);
    seconds.map(Some).ok_or_else(|| {
        let message = format!("`{}` is no number of seconds since 1970", text.to_string_lossy());
        Failure::new(FailureKind::Configuration, message)
            .hint("unset SOURCE_DATE_EPOCH, or set it to such a number")
    })
}

/// Says what is not as in the sources.
fn tell(report: &Report, arguments: &Arguments, context: &Context) {
    for slot in &report.slots {
        if let Some(first) = &slot.first_followed {
            let others = match slot.followed - 1 {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            context.output.note(&format!(
                "slot {}: in the place of the link `{first}`{others} is what it leads to, because launchers refuse links",
                slot.id
            ));
        }
        tell_differences(slot, context);
    }
    if arguments.profile == Some(Profile::Fast) && arguments.launcher.is_some() {
        context
            .output
            .warn("the fast profile is for slotfs alone: FlavorPack's launchers cannot start the package");
    } else if arguments.keep_links && arguments.profile != Some(Profile::Fast) {
        context.output.note("links are kept: where there are any, FlavorPack's launchers refuse the package");
    }
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Shown {
    path: String,
    size: u64,
    key_fingerprint: String,
    slots: Vec<ShownSlot>,
}

#[derive(Debug, Serialize)]
struct ShownSlot {
    id: String,
    operations: String,
    entries: u64,
    stored_bytes: u64,
    original_bytes: u64,
    digest: String,
    links_followed: u64,
}

fn show(
    report: &Report,
    arguments: &Arguments,
    request: &Request,
    started: Instant,
    context: &Context,
) -> Result<(), Failure> {
    let path = arguments.output.display().to_string();
    if arguments.json {
        let slots = report.slots.iter().map(|slot| ShownSlot {
            id: slot.id.clone(),
            operations: slot.chain.clone(),
            entries: slot.entries,
            stored_bytes: slot.stored,
            original_bytes: slot.original,
            digest: slot.digest.to_string(),
            links_followed: slot.followed,
        });
        return context.output.json(&Shown {
            path,
            size: report.size,
            key_fingerprint: request.key.fingerprint().to_string(),
            slots: slots.collect(),
        });
    }
    let mut table = Table::new([
        ("SLOT", Side::Left),
        ("OPERATIONS", Side::Left),
        ("ENTRIES", Side::Right),
        ("SIZE", Side::Right),
        ("STORED", Side::Right),
    ]);
    for slot in &report.slots {
        table.row([
            Cell::from(slot.id.as_str()),
            slot.chain.as_str().into(),
            slot.entries.to_string().into(),
            human_size(slot.original).into(),
            human_size(slot.stored).into(),
        ]);
    }
    if !report.slots.is_empty() {
        context.output.data(&table.render(&context.output, 0))?;
    }
    let (size, time) = (human_size(report.size), human_duration(started.elapsed()));
    context.output.note(&format!("wrote `{path}` ({size}) in {time}"));
    Ok(())
}

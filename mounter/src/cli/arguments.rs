//! The command tree: what can be typed. Each command's own arguments are in its own file.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};

use super::mounts::MountCommand;
use super::output::ColorWish;
use super::{complete, doctor, extract, inspect, keygen, list, man, pack, relaunch, verify};
use crate::settings::{Overrides, Size, TrustRule, Verify};

/// Colours of help and of usage errors.
pub const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Mounts the slots of a package at its work environment instead of extracting them
///
/// A package (PSPF/2025, `.psp`) holds slots: archives and files that its launcher unpacks before the program
/// starts. slotfs puts them where the program expects them without unpacking: what is read is decoded when it is
/// read, what is written goes to a directory beside. A bare archive (.tar, .tar.gz, .tar.bz2, .tar.xz, .tar.zst,
/// .zip, .whl) or a directory is taken for a package of one slot.
#[derive(Debug, clap::Parser)]
#[command(name = "slotfs", version, subcommand_required = true, arg_required_else_help = true)]
pub struct CommandLine {
    /// What goes with every command.
    #[command(flatten)]
    pub global: GlobalArguments,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What goes with every command.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub struct GlobalArguments {
    /// Where work environments are [default: $FLAVOR_CACHE, else where package launchers put them]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Configuration file [default: $SLOTFS_CONFIG, else slotfs/config.json in the user's configuration directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or `module=level` pairs [default: $SLOTFS_LOG, else warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<String>,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: ColorWish,
    /// Say nothing but warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// How a package is judged and how much of it is accepted; for every command that opens one.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PackageArguments {
    /// How strictly to take the package's signature: strict, standard, relaxed, minimal, none [default: $SLOTFS_VERIFY, else
    /// $FLAVOR_VALIDATION, else strict]. Slots are always compared with the digests in the metadata: before-serving, or, for
    /// `run` and `mount`, while-serving: what differs is found when it has perhaps been used, and ends program and mount
    #[arg(long, value_name = "LEVEL,TIME")]
    pub verify: Option<Verify>,
    /// Whose signatures count: any, known (made with a key in a `trusted-keys` directory), pinned (made with the key of the
    /// package's first use) [default: $SLOTFS_TRUST, else any]. Policy files hold in any case
    #[arg(long, value_name = "RULE")]
    pub trust: Option<TrustRule>,
    /// Pin the package's key in place of the one of its first use
    #[arg(long)]
    pub accept_key: bool,
    /// Refuse a slot that decodes to more than this, such as `64GiB`
    #[arg(long, value_name = "SIZE")]
    pub max_decoded: Option<Size>,
    /// Refuse a slot with more files, directories and links than this
    #[arg(long, value_name = "COUNT")]
    pub max_entries: Option<u64>,
    /// How much memory decoding may take at once, all slots together, such as `64MiB`; at least 32MiB. A slot whose decoder
    /// needs more is refused [default: what the slots need]
    #[arg(long, value_name = "SIZE")]
    pub decode_memory: Option<Size>,
}

impl PackageArguments {
    /// Adds what was said to `overrides`.
    pub fn apply(&self, overrides: &mut Overrides) {
        overrides.verify = self.verify;
        overrides.trust = self.trust;
        overrides.accept_key = self.accept_key;
        overrides.max_decoded = self.max_decoded;
        overrides.max_entries = self.max_entries;
        overrides.decode_memory = self.decode_memory;
    }
}

/// How much may be written; for every command that mounts.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WritingArguments {
    /// How much the files that programs write may take on the disk, such as `2GiB`; what goes beyond fails with "no
    /// space left" [default: $SLOTFS_MAX_UPPER, else as much as the disk has]
    #[arg(long, value_name = "SIZE")]
    pub max_upper: Option<Size>,
    /// Overwrite what was written over `temporary`, `volatile` and other passing slots before it goes (see `slotfs help
    /// remove` for what that is worth)
    #[arg(long)]
    pub secure: bool,
}

impl WritingArguments {
    /// Adds what was said to `overrides`.
    pub fn apply(&self, overrides: &mut Overrides) {
        overrides.max_upper = self.max_upper;
        overrides.secure = self.secure.then_some(true);
    }
}

/// What slotfs can do. Each command's help is the documentation of its `Arguments`.
///
/// Of a command that was not typed only the name is made: the whole tree takes a good part of a start.
#[derive(Debug, clap::Subcommand)]
#[command(defer = true)]
#[expect(missing_docs, reason = "documentation here would replace the help of the commands")]
pub enum Command {
    #[command(flatten)]
    Mounts(MountCommand),
    Extract(extract::Arguments),
    Verify(verify::Arguments),
    Inspect(inspect::Arguments),
    List(list::Arguments),
    Pack(pack::Arguments),
    Relaunch(relaunch::Arguments),
    Keygen(keygen::Arguments),
    Doctor(doctor::Arguments),
    Completions(complete::Arguments),
    Man(man::Arguments),
    /// Prints the reference of all commands as Markdown
    #[command(name = "__reference", hide = true)]
    Reference,
}

impl Command {
    /// Returns what the command's own flags say about settings.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        let mut overrides = Overrides::default();
        match self {
            Self::Mounts(command) => command.apply(&mut overrides),
            Self::Extract(arguments) => arguments.package.apply(&mut overrides),
            Self::Verify(arguments) => arguments.package.apply(&mut overrides),
            Self::Doctor(_)
            | Self::Inspect(_)
            | Self::List(_)
            | Self::Pack(_)
            | Self::Relaunch(_)
            | Self::Keygen(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Reference => {}
        }
        overrides
    }
}

//! The command tree: what can be typed. Each command's own arguments are in its own file.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};

use super::output::ColorWish;
use super::{complete, man};

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
    #[command(flatten)]
    pub global: GlobalArguments,
    #[command(subcommand)]
    pub command: Command,
}

/// What goes with every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub struct GlobalArguments {
    /// Where work environments are [default: $FLAVOR_CACHE, else where package launchers put them]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
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

/// What slotfs can do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Completions(complete::Arguments),
    Man(man::Arguments),
    /// Prints the reference of all commands as Markdown
    #[command(name = "__reference", hide = true)]
    Reference,
}

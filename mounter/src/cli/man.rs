//! `slotfs man`: manual pages, made from the same tree that parses the command line.

use std::path::PathBuf;

use clap_mangen::Man;
use slotfs_fs::disk::{Context as _, atomic};

use super::context::Context;
use super::failure::Failure;
use super::output::ColorWish;

/// Write manual pages into a directory
///
/// One page for slotfs and one for each command: `slotfs man ~/.local/share/man/man1`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to write them; made when missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory).context("create the directory", directory)?;
    let mut root = super::command(ColorWish::Never);
    root.build();
    let commands =
        root.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    let pages: Vec<clap::Command> = std::iter::once(root.clone()).chain(commands.cloned()).collect();
    for command in &pages {
        let name = match command.get_name() {
            "slotfs" => "slotfs".to_owned(),
            command => format!("slotfs-{command}"),
        };
        let path = directory.join(format!("{name}.1"));
        let mut page = Vec::new();
        Man::new(command.clone().display_name(name)).render(&mut page).context("render", &path)?;
        atomic::write(&path, &page)?;
    }
    context.output.note(&format!("wrote {} pages into `{}`", pages.len(), directory.display()));
    Ok(0)
}

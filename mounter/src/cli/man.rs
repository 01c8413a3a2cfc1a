//! `slotfs man`: manual pages, made from the same tree that parses the command line.

use std::io;
use std::path::PathBuf;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use slotfs_fs::disk::{Context as _, atomic};

use super::context::Context;
use super::failure::{Failure, FailureKind};
use super::output::ColorWish;
use crate::settings::variables;

/// Write manual pages into a directory
///
/// One page for slotfs and one for each command: `slotfs man ~/.local/share/man/man1`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to write them; made when missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Carries the command out.
///
/// # Errors
/// What could not be written.
pub fn run(arguments: &Arguments, context: &Context) -> Result<u8, Failure> {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory).context("create the directory", directory)?;
    let mut root = super::command(ColorWish::Never).disable_help_subcommand(true);
    root.build();
    let commands = root.get_subcommands().filter(|command| !command.is_hide_set());
    let pages: Vec<clap::Command> = std::iter::once(root.clone()).chain(commands.cloned()).collect();
    for command in &pages {
        let name = match command.get_name() {
            "slotfs" => "slotfs".to_owned(),
            command => format!("slotfs-{command}"),
        };
        let path = directory.join(format!("{name}.1"));
        let page = render(command.clone().display_name(name)).context("render", &path)?;
        atomic::write(&path, &page)?;
    }
    context.output.note(&format!("wrote {} pages into `{}`", pages.len(), directory.display()));
    Ok(0)
}

fn render(command: clap::Command) -> io::Result<Vec<u8>> {
    let is_root = command.get_name() == "slotfs";
    let page = Man::new(command).manual("slotfs").date("");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if is_root {
        page.render_subcommands_section(&mut text)?;
        environment().to_writer(&mut text)?;
    }
    exit_status().to_writer(&mut text)?;
    if !is_root {
        let mut see_also = Roff::new();
        see_also.control("SH", ["SEE ALSO"]).text([bold("slotfs"), roman("(1)")]);
        see_also.to_writer(&mut text)?;
    }
    Ok(text)
}

fn environment() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["ENVIRONMENT"]);
    for variable in variables::ALL {
        section.control("TP", []).text([bold(variable.name)]).text([roman(variable.meaning)]);
    }
    section
}

fn exit_status() -> Roff {
    let mut section = Roff::new();
    section.control("SH", ["EXIT STATUS"]);
    section.control("TP", []).text([bold("0")]).text([roman("success")]);
    for kind in FailureKind::ALL {
        section.control("TP", []).text([bold(kind.exit_code().to_string())]).text([roman(kind.meaning())]);
    }
    section.control("PP", []).text([
        bold("slotfs run"),
        roman(" passes the exit code of the program through, and 128+n when signal n ended it."),
    ]);
    section
}

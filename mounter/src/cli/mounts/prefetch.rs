//! The hidden command with which a server asks for what earlier launches touched.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::session::profile::replay::replay;

/// Ask for what a profile names in a mount
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The profile's file
    #[arg(value_name = "FILE")]
    profile: PathBuf,
    /// Which build of the package it has to be of
    #[arg(value_name = "ID")]
    content: String,
    /// Where the mount is
    #[arg(value_name = "DIR")]
    mountpoint: PathBuf,
}

/// Asks, and ends. Nobody listens.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    match replay(&arguments.profile, &arguments.content, &arguments.mountpoint) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

//! slotfs as a mount helper: `mount -t fuse.slotfs SRC TARGET -o …`, and lines of `/etc/fstab`.
//!
//! mount(8) runs `mount.fuse.slotfs SRC TARGET [-sfnv] [-o OPTIONS] [-t TYPE]`, if there is a program of that name, which
//! is a link to slotfs. Else it runs mount.fuse3, and that runs `slotfs SRC TARGET -o OPTIONS`, also for `SRC` = `slotfs#…`.
//! With `lowerdir` the source is but a name; without, it is the package or directory to mount.
//!
//! **Invariant:** the exit code is one of those that mount(8) documents, and 0 means that the mount is up.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::options::Parsed;
use super::overlay::{self, Wish};
use crate::cli::arguments::GlobalArguments;
use crate::cli::context::{self, Context};
use crate::cli::failure::{Failure, FailureKind};
use crate::cli::output::{ColorWish, Output};
use crate::host::privilege;
use crate::settings::{Environment, Overrides, variables};

/// What such a program is called, with anything between.
const NAME: (&str, &str) = ("mount.", "slotfs");

/// "incorrect invocation or permissions", mount(8).
const WRONG_CALL: u8 = 1;

/// "system error (out of memory, cannot fork, no more loop devices)", mount(8).
const SYSTEM: u8 = 2;

/// "mount failure", mount(8).
const MOUNT_FAILURE: u8 = 32;

/// What mount(8) asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Call {
    source: OsString,
    target: PathBuf,
    options: Vec<OsString>,
    /// `-s`: options that are not known are left out.
    sloppy: bool,
    /// `-f`: everything but the mount itself.
    fake: bool,
}

/// Mounts, if this process was started as a mount helper; `None` if it was not. `is_command` tells what slotfs takes for
/// one of its commands.
#[must_use]
pub fn main(arguments: &[OsString], is_command: impl FnOnce(&OsStr) -> bool) -> Option<ExitCode> {
    let (name, rest) = arguments.split_first()?;
    if !is_helper(name) && !is_call(rest, is_command) {
        return None;
    }
    let call = Call::parse(rest);
    let plain = Output::new(ColorWish::Auto, true, false);
    Some(match call.and_then(|call| mount(&call)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            plain.failure(&failure);
            exit_code(failure.kind).into()
        }
    })
}

fn is_helper(name: &OsStr) -> bool {
    let file = Path::new(name).file_name().unwrap_or_default().as_encoded_bytes();
    file.starts_with(NAME.0.as_bytes()) && file.ends_with(NAME.1.as_bytes())
}

/// Tells whether this is what mount.fuse3 says: two words that are no options, the first one no command, then `-o`.
fn is_call(arguments: &[OsString], is_command: impl FnOnce(&OsStr) -> bool) -> bool {
    let [source, target, option, _, ..] = arguments else { return false };
    let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
    option == "-o" && !is_option(source) && !is_option(target) && !is_command(source)
}

/// Returns the exit code that mount(8) documents for a failure of this kind.
fn exit_code(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::Usage | FailureKind::Configuration => WRONG_CALL,
        FailureKind::Unavailable => SYSTEM,
        FailureKind::Negative
        | FailureKind::Format
        | FailureKind::Mount
        | FailureKind::Execution
        | FailureKind::Disk
        | FailureKind::Verification
        | FailureKind::Busy
        | FailureKind::NotFound => MOUNT_FAILURE,
    }
}

impl Call {
    fn parse(arguments: &[OsString]) -> Result<Self, Failure> {
        let wrong = |message: String| {
            Failure::new(FailureKind::Usage, message)
                .hint("mount(8) calls this program: `SRC TARGET [-sfnv] [-o OPTIONS] [-t TYPE]`")
        };
        let mut call = Self::default();
        let mut words = Vec::new();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(letters) = argument.to_str().and_then(|text| text.strip_prefix('-')) else {
                words.push(argument);
                continue;
            };
            for (at, letter) in letters.char_indices() {
                match letter {
                    's' => call.sloppy = true,
                    'f' => call.fake = true,
                    'n' | 'v' | 'w' => {}
                    'r' => call.options.push("ro".into()),
                    'o' | 't' => {
                        let joined = &letters[at + 1..];
                        let value =
                            if joined.is_empty() { arguments.next().cloned() } else { Some(joined.into()) };
                        let value = value.ok_or_else(|| wrong(format!("nothing follows `-{letter}`")))?;
                        if letter == 'o' {
                            call.options.push(value);
                        }
                        break;
                    }
                    _ => return Err(wrong(format!("unknown argument `-{letter}`"))),
                }
            }
        }
        let [source, target] = words[..] else {
            return Err(wrong(format!(
                "a source and a target are wanted, and {} words were given",
                words.len()
            )));
        };
        (call.source, call.target) = (source.clone(), target.into());
        Ok(call)
    }
}

fn mount(call: &Call) -> Result<(), Failure> {
    let mut parsed = Parsed::new(&call.options, call.sloppy)?;
    if parsed.lowers.is_empty() {
        parsed.lowers.push(call.source.clone().into());
    }
    if call.fake {
        return Ok(());
    }
    let mut environment = Environment::of_process();
    // Services, mount units among them, have none.
    if environment.home().is_none()
        && let Some(home) = privilege::home_directory()
    {
        environment.set(variables::HOME, home);
    }
    let context = Context::new(environment, &GlobalArguments::default(), Overrides::default())?;
    context::start_log(&context.settings.log, context.output)?;
    let wish = Wish { source: &call.source, options: &parsed, target: &call.target, foreground: false };
    overlay::carry_out(&wish, &context).map(drop)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail")]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn both_ways_of_calling_are_told_from_commands() {
        let is_command = |word: &OsStr| word == "mount";
        for line in ["app.psp /mnt -o rw,dev,suid", "name /mnt -o lowerdir=/a -v"] {
            assert!(is_call(&words(line), is_command), "{line}");
        }
        for line in ["mount app.psp -o x", "--color never -o x", "app.psp /mnt", "app.psp -v -o x"] {
            assert!(!is_call(&words(line), is_command), "{line}");
        }
        for name in ["/sbin/mount.fuse.slotfs", "mount.slotfs", "mount.fuse3.slotfs"] {
            assert!(is_helper(OsStr::new(name)), "{name}");
        }
        assert!(!is_helper(OsStr::new("/usr/bin/slotfs")));
    }

    #[test]
    fn a_call_is_read_wherever_its_flags_stand() {
        let table = [
            "-sv -o ro,nosuid -t fuse.slotfs src dir",
            "src dir -sn -oro,nosuid",
            "src -s dir -o ro -o nosuid",
        ];
        for line in table {
            let call = Call::parse(&words(line)).unwrap();
            assert_eq!(
                (call.source.as_os_str(), call.target.as_path()),
                (OsStr::new("src"), Path::new("dir"))
            );
            assert!(call.sloppy && !call.fake, "{line}");
            let parsed = Parsed::new(&call.options, call.sloppy).unwrap();
            assert!(parsed.mount.read_only, "{line}");
        }
        for line in ["src", "a b c", "src dir -o", "src dir -N /proc/1/ns/mnt"] {
            assert_eq!(Call::parse(&words(line)).unwrap_err().kind, FailureKind::Usage, "{line}");
        }
    }
}
